//! The VM before its start and after it: what is asked is done, or refused with everything as before.
//!
//! ```text
//! Draft (a description, what it names opened) --start--> Live (a machine that runs)
//! ```

mod draft;
mod live;
mod start;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use devices::mmds::{Mmds, StoreError};
use devices::outside;
use rustix::fs::OFlags;
use serde_json::Value;

pub use draft::{Draft, ThreadNames};
pub use live::Live;
pub use start::StartError;

use crate::command::{
    Command, CommandError, CreateSnapshot, Instance, LoadSnapshot, Outcome, Phase, Setting, Show,
    UpdateError, When,
};
use crate::events::Event;
use crate::metrics::{Kind, Metrics, Process};
use crate::open::Parcels;
use crate::spec::{LoggerConfig, Serial, Spec, is_passed};

/// The process around a VM, as far as the VM needs it.
pub trait Host: fmt::Debug {
    /// Changes how ravelin logs.
    ///
    /// # Errors
    /// A sentence; the log is as before.
    fn set_log(&mut self, config: &LoggerConfig) -> Result<(), String>;

    /// Changes where the guest's output goes.
    ///
    /// # Errors
    /// A sentence; the output goes where it went.
    fn set_serial(&mut self, config: &Serial) -> Result<(), String>;

    /// Hears that a machine is being built, which takes a while and asks for nothing.
    fn builds(&mut self);

    /// Hears that everything that a guest of this memory in MiB and this many vCPUs needs is open, and every thread there.
    fn is_complete(&mut self, memory_mib: u64, vcpus: u64);

    /// Bounds what this process may have from now on, for a guest of this memory in MiB and this many vCPUs: everything
    /// is mapped, and no thread comes after.
    ///
    /// # Errors
    /// A sentence; the guest does not run.
    fn bound(&mut self, memory_mib: u64, vcpus: u64) -> Result<(), String>;

    /// Asked before a guest's first instruction, with its memory in MiB and its vCPUs: the last moment at which this
    /// process is surely nobody else's.
    ///
    /// # Errors
    /// A sentence; the guest does not run.
    fn may_run(&mut self, memory_mib: u64, vcpus: u64) -> Result<(), String>;

    /// Hears what has happened.
    fn hear(&mut self, event: &Event);
}

/// A VM, and who is asked about it.
#[derive(Debug)]
pub struct Controller {
    id: String,
    state: State,
    parcels: Parcels,
    mmds: Mmds,
    metrics: Metrics,
    host: Box<dyn Host>,
}

/// Where a VM is in its life.
#[derive(Debug)]
enum State {
    /// Described.
    Draft(Box<Draft>),
    /// Its machine exists.
    Live(Box<Live>),
}

impl Controller {
    /// The VM `id`, described by `draft` so far.
    pub fn new(id: String, draft: Draft, mmds: Mmds, host: Box<dyn Host>) -> Self {
        let mut metrics = Metrics::new(&id, Process::default());
        metrics.add(Kind::Mmds, "", mmds.metrics());
        Self {
            id,
            metrics,
            state: State::Draft(Box::new(draft)),
            parcels: Parcels::default(),
            mmds,
            host,
        }
    }

    /// The machine, once there is one.
    pub fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Draft(_) => None,
            State::Live(live) => Some(live),
        }
    }

    /// Whether a start has failed so late that this process is confined already, and can start nothing any more.
    pub fn is_spent(&self) -> bool {
        matches!(&self.state, State::Draft(draft) if draft.is_spent)
    }

    /// The machine, to be ended.
    pub fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Draft(_) => None,
            State::Live(live) => Some(live),
        }
    }

    /// The description.
    pub fn spec(&self) -> &Spec {
        match &self.state {
            State::Draft(draft) => draft.spec(),
            State::Live(live) => live.spec(),
        }
    }

    /// What the VM counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What the VM counts, to be written.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Tells those who watch.
    pub fn tell(&mut self, event: &Event) {
        self.host.hear(event);
    }

    /// Describes the whole VM, part by part, as a caller would.
    ///
    /// # Errors
    /// The first part that is refused; those before it stand.
    pub fn describe(&mut self, spec: Spec) -> Result<(), CommandError> {
        for setting in Setting::all_of(spec) {
            self.handle(Command::Set(setting))?;
        }
        Ok(())
    }

    /// Does what a draft that was made of a whole description says of the process: its log, its figures, the
    /// place for the guest's output.
    ///
    /// # Errors
    /// The first of them that cannot be done.
    pub fn connect(&mut self) -> Result<(), CommandError> {
        for setting in Setting::all_of(self.spec().clone()) {
            connect(&mut *self.host, &mut self.metrics, &setting)?;
        }
        Ok(())
    }

    /// Builds the machine and lets it run. A VM that runs already goes on.
    ///
    /// # Errors
    /// [`StartError`]; the description may be mended and started again, unless the VM [is spent](Self::is_spent).
    pub fn start(&mut self) -> Result<(), Box<StartError>> {
        if let State::Draft(draft) = &mut self.state {
            let live = draft.start(&self.mmds, &mut self.parcels, &mut *self.host)?;
            live.count_in(&mut self.metrics);
            self.state = State::Live(Box::new(live));
            self.tell(&Event::Started);
        }
        Ok(())
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// [`CommandError`]; the VM is as before.
    pub fn handle(&mut self, command: Command) -> Result<Outcome, CommandError> {
        match (command.when(), &self.state) {
            (When::After, State::Draft(_)) => return Err(CommandError::NotBeforeStart),
            (When::Before, State::Live(_)) => return Err(CommandError::NotAfterStart),
            _ => {}
        }
        match command {
            Command::Show(show) => return self.show(show),
            Command::Deposit { name, fd } => self
                .parcels
                .deposit(name, fd)
                .map_err(|error| CommandError::Deposit(error.to_string()))?,
            Command::PutMmds(data) => self.change_mmds(data, Mmds::put)?,
            Command::PatchMmds(patch) => self.change_mmds(patch, Mmds::patch)?,
            command => match &mut self.state {
                State::Draft(_) => self.before(command)?,
                State::Live(_) => self.after(command)?,
            },
        }
        Ok(Outcome::Done)
    }

    /// What is asked of a VM that is described.
    fn before(&mut self, command: Command) -> Result<(), CommandError> {
        let State::Draft(draft) = &mut self.state else {
            return Err(CommandError::NotAfterStart);
        };
        match command {
            Command::Set(setting) => {
                connect(&mut *self.host, &mut self.metrics, &setting)?;
                draft.set(setting, &mut self.parcels)?;
                if let Some(config) = &draft.spec().mmds_config {
                    self.mmds.configure(config);
                }
                Ok(())
            }
            Command::PatchMachine(patch) => draft.patch_machine(&patch),
            Command::Start => self.start().map_err(CommandError::Start),
            Command::LoadSnapshot(load) if draft.takes_snapshot() => Err(load_snapshot(&load)),
            Command::LoadSnapshot(_) => Err(CommandError::LoadNotAllowed),
            _ => Err(CommandError::NotBeforeStart),
        }
    }

    /// What is asked of a machine.
    fn after(&mut self, command: Command) -> Result<(), CommandError> {
        let State::Live(live) = &mut self.state else {
            return Err(CommandError::NotBeforeStart);
        };
        let latencies = &self.metrics.process().latencies_us;
        let event = match command {
            Command::Pause => {
                latencies.vmm_pause_vm.time(|| live.pause())?;
                Event::Paused
            }
            Command::Resume => {
                latencies.vmm_resume_vm.time(|| live.resume())?;
                Event::Resumed
            }
            Command::PressPowerButton => {
                live.devices().press_power_button();
                return Ok(());
            }
            Command::SendCtrlAltDel => {
                live.devices().send_ctrl_alt_del();
                return Ok(());
            }
            Command::FlushMetrics => {
                let flushed = self.metrics.flush();
                return flushed
                    .map(|_| ())
                    .map_err(|error| CommandError::Flush(error.to_string()));
            }
            Command::UpdateDrive(update) => {
                let id = update.drive_id.clone();
                live.update_drive(update, &mut self.parcels)
                    .map_err(CommandError::DriveUpdate)?;
                Event::DeviceUpdated { id }
            }
            Command::UpdateNetwork(update) => {
                let id = update.iface_id.clone();
                live.update_network(&update)
                    .map_err(CommandError::NetworkUpdate)?;
                Event::DeviceUpdated { id }
            }
            other => return Err(lacking(other, live.phase())),
        };
        self.tell(&event);
        Ok(())
    }

    fn show(&self, show: Show) -> Result<Outcome, CommandError> {
        Ok(match show {
            Show::Instance => Outcome::Instance(Instance {
                state: self.live().map_or(Phase::NotStarted, Live::phase),
                id: self.id.clone(),
            }),
            Show::Config => Outcome::Config(Box::new(self.spec().clone())),
            Show::Machine => Outcome::Machine(self.spec().machine_config.clone()),
            Show::Mmds => Outcome::Mmds(self.mmds.get()),
            Show::Metrics => Outcome::Metrics(self.metrics.exposition()),
            Show::Balloon => match &self.spec().balloon {
                Some(balloon) => Outcome::Balloon(balloon.clone()),
                None if self.live().is_some() => return Err(CommandError::NoBalloonToShow),
                None => return Err(CommandError::NoBalloon),
            },
            Show::BalloonStatistics => return Err(CommandError::NoBalloonToShow),
            Show::BalloonHinting => return Err(CommandError::NoBalloonToUpdate),
            Show::MemoryHotplug => return Err(CommandError::NoMemoryToShow),
        })
    }

    fn change_mmds(
        &self,
        data: Value,
        change: impl FnOnce(&Mmds, Value) -> Result<(), StoreError>,
    ) -> Result<(), CommandError> {
        if self.live().is_some() && self.spec().mmds_config.is_none() {
            return Err(CommandError::Mmds(StoreError::NotInitialized));
        }
        change(&self.mmds, data).map_err(|error| match error {
            StoreError::TooLarge => CommandError::MmdsTooLarge(error),
            StoreError::NotInitialized => CommandError::Mmds(error),
        })
    }
}

/// Does what a part of the description says of the process around the VM.
fn connect(
    host: &mut dyn Host,
    metrics: &mut Metrics,
    setting: &Setting,
) -> Result<(), CommandError> {
    refuse_descriptor(setting)?;
    match setting {
        Setting::Logger(config) => host.set_log(config).map_err(CommandError::Logger),
        Setting::Serial(config) => host.set_serial(config).map_err(CommandError::Serial),
        Setting::Metrics(config) => metrics
            .write_to(config)
            .map_err(|error| CommandError::Metrics(error.to_string())),
        _ => Ok(()),
    }
}

/// Refuses a passed descriptor where only a path will do: it would name a file of that name.
fn refuse_descriptor(setting: &Setting) -> Result<(), CommandError> {
    let (path, refuse): (_, fn(String) -> CommandError) = match setting {
        Setting::Logger(config) => (config.log_path.as_deref(), CommandError::Logger),
        Setting::Serial(config) => (config.serial_out_path.as_deref(), CommandError::Serial),
        Setting::Metrics(config) => (Some(config.metrics_path.as_str()), CommandError::Metrics),
        _ => return Ok(()),
    };
    match path.filter(|path| is_passed(path)) {
        None => Ok(()),
        Some(path) => Err(refuse(format!(
            "{path} was given and a path was expected: a passed descriptor serves as kernel, initrd, disk or tap"
        ))),
    }
}

/// Why a snapshot is not loaded. Firecracker's words where the file is the reason.
fn load_snapshot(load: &LoadSnapshot) -> CommandError {
    // Without NONBLOCK the open of a pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let opened = outside::open(Path::new(&load.snapshot_path), flags);
    CommandError::Load(match opened {
        Err(error) => format!(
            "Failed to restore from snapshot: Failed to get snapshot state from file: Failed to open \
             snapshot file: {error}"
        ),
        Ok(_) => "this version cannot restore a VM from a snapshot: start it anew".to_owned(),
    })
}

/// Why a running machine does not do what needs a device, a bus or a file format that this version lacks.
fn lacking(command: Command, phase: Phase) -> CommandError {
    match command {
        Command::Set(_) | Command::Unplug(_) => CommandError::NoPci,
        Command::UpdatePmem(update) => CommandError::PmemUpdate(UpdateError::NoDevice(update.id)),
        Command::UpdateBalloon(_) => CommandError::NoBalloonToUpdate,
        Command::UpdateMemoryHotplug(_) => CommandError::NoMemoryToUpdate,
        Command::CreateSnapshot(CreateSnapshot { .. }) if phase == Phase::Running => {
            CommandError::Create(
                "Cannot save the microVM state: save/restore unavailable while running".to_owned(),
            )
        }
        Command::CreateSnapshot(_) => CommandError::Create(
            "this version cannot save a VM: resume it, or end it and start it anew".to_owned(),
        ),
        _ => CommandError::NotAfterStart,
    }
}
