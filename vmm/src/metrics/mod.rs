//! What a VM counts, for its operator: a line of JSON as Firecracker writes it, and text for Prometheus.
//!
//! Who counts owns its counters and never waits ([`devices::metrics`]). [`Metrics`] knows everybody who counts,
//! reads them, and writes the lines. It lives on the thread that builds the VM; other threads get a clone of
//! [`Process`] and count into that.
//!
//! A line tells what was counted since the line before, so a reader adds them up. **A line that could not be
//! written takes nothing with it**: the next one has its counts.

mod exposition;
mod lacking;
mod line;
pub mod process;
mod registry;
mod sum;
#[cfg(test)]
mod tests;
pub mod vcpu;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use devices::metrics::Group;
pub use devices::metrics::{Counter, Level};
use devices::virtio::{Core, DeviceType};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

pub use exposition::MEDIA_TYPE;
pub use process::Process;
pub use registry::Kind;

use crate::line_file::{LineFile, LineFileError};
use crate::spec::MetricsConfig;
use line::Head;
use registry::Registry;

/// Seconds between two lines that nobody asked for.
const PERIOD_S: i64 = 60;

/// Why the figures cannot go where they were to go.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// They go somewhere already.
    #[error("Reinitialization of metrics not allowed.")]
    Twice,
    /// The file or pipe.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// The kernel grants no timer.
    #[error("cannot make a timer for the metrics: {0}")]
    Timer(io::Error),
}

/// A line could not be written. It is counted, and the next line tells what it would have told.
#[derive(Debug, thiserror::Error)]
#[error("Failed to write metrics: {0}")]
pub struct FlushError(io::Error);

/// Everything a VM counts, and where it goes.
#[derive(Debug)]
pub struct Metrics {
    id: String,
    process: Process,
    registry: Registry,
    output: Option<Output>,
}

/// Where lines go.
#[derive(Debug)]
struct Output {
    file: LineFile,
    head: Head,
    timer: OwnedFd,
}

impl Metrics {
    /// The figures of the VM `id`, with nobody counting but `process`.
    pub fn new(id: &str, process: Process) -> Self {
        Self {
            id: id.to_owned(),
            registry: Registry::new(&process),
            process,
            output: None,
        }
    }

    /// The process's counters.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Has lines written where `config` says: every minute, and whenever [`Self::flush`] is called.
    ///
    /// # Errors
    /// [`MetricsError`]; nothing has changed then.
    pub fn write_to(&mut self, config: &MetricsConfig) -> Result<(), MetricsError> {
        if self.output.is_some() {
            return Err(MetricsError::Twice);
        }
        self.output = Some(Output {
            file: LineFile::open(Path::new(&config.metrics_path))?,
            head: Head {
                id: config.emit_id.then(|| self.id.clone()),
                properties: config.properties.clone(),
            },
            timer: timer().map_err(MetricsError::Timer)?,
        });
        Ok(())
    }

    /// Readable when a line is due; `None` as long as lines go nowhere. Call [`Self::tick`] then.
    pub fn timer(&self) -> Option<BorrowedFd<'_>> {
        Some(self.output.as_ref()?.timer.as_fd())
    }

    /// The timer has fired: takes the event and writes the line.
    pub fn tick(&mut self) {
        if let Some(output) = &self.output {
            // It may be quiet already: then the line comes early.
            let _ = rustix::io::read(&output.timer, &mut [0_u8; 8]);
        }
        if let Err(error) = self.flush() {
            log::warn!("{error}");
        }
    }

    /// Writes a line. False: lines go nowhere.
    ///
    /// # Errors
    /// When the line was lost.
    pub fn flush(&mut self) -> Result<bool, FlushError> {
        let Some(output) = &mut self.output else {
            return Ok(false);
        };
        let reading = self.registry.read();
        let news = self.registry.news(&reading);
        let line = line::line(&output.head, SystemTime::now(), &news);
        if let Err(error) = output.file.write(&line) {
            self.process.logger.missed_metrics_count.increment();
            return Err(FlushError(error));
        }
        self.registry.told(reading);
        Ok(true)
    }

    /// Every figure since the start, as Prometheus reads it; its type is [`MEDIA_TYPE`].
    pub fn exposition(&self) -> String {
        exposition::exposition(&self.registry, &self.registry.read(), &self.id)
    }

    /// From now on `group` counts as `id`, which is empty where there is only one of the kind.
    pub fn add(&mut self, kind: Kind, id: &str, group: Arc<dyn Group>) {
        self.registry.add(kind, id, group);
    }

    /// A virtio device was built: its figures and its interrupt's.
    pub fn add_device(&mut self, id: &str, core: &Core) {
        self.add(kind(core.device_type()), id, core.figures());
        self.add(Kind::Interrupt, id, Arc::new(core.interrupt().clone()));
    }

    /// `id` counts no longer. The next line tells of it for the last time.
    pub fn remove(&mut self, kind: Kind, id: &str) {
        self.registry.remove(kind, id, self.output.is_none());
    }

    /// A virtio device was taken away.
    pub fn remove_device(&mut self, id: &str, device: DeviceType) {
        self.remove(kind(device), id);
        self.remove(Kind::Interrupt, id);
    }
}

fn kind(device: DeviceType) -> Kind {
    match device {
        DeviceType::Block => Kind::Block,
        DeviceType::Net => Kind::Net,
        DeviceType::Rng => Kind::Entropy,
        DeviceType::Vsock => Kind::Vsock,
    }
}

fn timer() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let minute = Timespec {
        tv_sec: PERIOD_S,
        tv_nsec: 0,
    };
    let setting = Itimerspec {
        it_interval: minute,
        it_value: minute,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
    Ok(timer)
}
