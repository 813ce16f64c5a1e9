//! A VM that is described and not yet built.

use crate::boot::BootProtocol;
use crate::command::{CommandError, Setting};
use crate::open::{OpenError, Opened, Parcels};
use crate::sandbox::Sandbox;
use crate::spec::{
    BootSource, CpuTemplate, Drive, MachineConfig, MachinePatch, NetworkInterface, Pmem, Spec,
    SpecError, Vsock,
};

use super::start::command_line;

/// What a VM's threads are called; the kernel shows 15 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadNames {
    /// What stands before a vCPU's number.
    pub vcpu: &'static str,
}

impl Default for ThreadNames {
    fn default() -> Self {
        Self { vcpu: "vcpu" }
    }
}

/// A description, and what was opened of what it names. **Every change is whole: refused, it leaves no
/// trace.**
#[derive(Debug, Default)]
pub struct Draft {
    pub(super) spec: Spec,
    pub(super) opened: Opened,
    pub(super) protocol: BootProtocol,
    pub(super) threads: ThreadNames,
    /// Whether the guest's init finds a timer to stop.
    pub(super) times_boot: bool,
    /// How the process is confined before the guest runs.
    pub(super) sandbox: Sandbox,
    /// Whether the calling thread was confined for a start, which then failed.
    pub(super) is_spent: bool,
    /// Whether something was set that a snapshot brings itself.
    has_boot_resources: bool,
}

impl Draft {
    /// Takes a whole description that makes sense. What it names is opened at the start.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn new(spec: Spec, protocol: BootProtocol) -> Result<Self, SpecError> {
        spec.validate()?;
        Ok(Self {
            spec,
            protocol,
            has_boot_resources: true,
            ..Self::default()
        })
    }

    /// An empty description of a VM whose threads have these names.
    pub fn with_threads(threads: ThreadNames) -> Self {
        Self {
            threads,
            ..Self::default()
        }
    }

    /// Gives the guest a timer that logs how long its boot took once its init writes to it.
    pub fn time_boot(&mut self) {
        self.times_boot = true;
    }

    /// Has the process confined before the guest runs; the calling thread is confined by a start that succeeds.
    pub fn confine(&mut self, sandbox: Sandbox) {
        self.sandbox = sandbox;
    }

    /// The description.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether a snapshot may still be loaded.
    pub(super) fn takes_snapshot(&self) -> bool {
        !self.has_boot_resources
    }

    /// Describes a part, and opens what it names.
    pub(super) fn set(
        &mut self,
        setting: Setting,
        parcels: &mut Parcels,
    ) -> Result<(), CommandError> {
        let is_of_boot = !matches!(
            setting,
            Setting::Logger(_) | Setting::Metrics(_) | Setting::Serial(_) | Setting::Cpu(_)
        );
        match setting {
            Setting::BootSource(boot) => self.boot_source(boot, parcels)?,
            Setting::Machine(config) => self.machine(config)?,
            Setting::Drive(drive) => self.drive(&drive, parcels).map_err(CommandError::Drive)?,
            Setting::Network(card) => self
                .network(&card, parcels)
                .map_err(CommandError::Network)?,
            Setting::Pmem(pmem) => self.pmem(pmem).map_err(CommandError::Pmem)?,
            Setting::Vsock(vsock) => self.vsock(&vsock, parcels).map_err(CommandError::Vsock)?,
            Setting::Balloon(balloon) => self
                .change(|spec| spec.balloon = Some(balloon), Spec::validate_planned)
                .map_err(CommandError::Balloon)?,
            Setting::MemoryHotplug(memory) => self
                .change(
                    |spec| spec.memory_hotplug = Some(memory),
                    Spec::validate_planned,
                )
                .map_err(CommandError::MemoryHotplug)?,
            Setting::Entropy(entropy) => self
                .change(|spec| spec.entropy = Some(entropy), Spec::validate_count)
                .map_err(CommandError::Entropy)?,
            Setting::Mmds(mmds) => self
                .change(|spec| spec.mmds_config = Some(mmds), Spec::validate_mmds)
                .map_err(CommandError::MmdsConfig)?,
            // These have no rules beyond their grammar; whoever acts on them has checked the rest.
            Setting::Cpu(cpu) => {
                self.spec.cpu_config = Some(cpu);
                self.spec.machine_config.cpu_template = None;
            }
            Setting::Serial(serial) => self.spec.serial = Some(serial),
            Setting::Logger(logger) => {
                let before = self.spec.logger.take().unwrap_or_default();
                self.spec.logger = Some(logger.over(before));
            }
            Setting::Metrics(metrics) => self.spec.metrics = Some(metrics),
        }
        self.has_boot_resources |= is_of_boot;
        Ok(())
    }

    /// Changes some of processors and memory.
    pub(super) fn patch_machine(&mut self, patch: &MachinePatch) -> Result<(), CommandError> {
        self.machine(patch.applied(&self.spec.machine_config))?;
        self.has_boot_resources = true;
        Ok(())
    }

    fn machine(&mut self, mut config: MachineConfig) -> Result<(), CommandError> {
        config.memory().map_err(CommandError::Memory)?;
        let edit = |spec: &mut Spec| {
            // Of a template and a list of changes the later one counts.
            if config.cpu_template.is_some() {
                spec.cpu_config = None;
            }
            // A template stays until another is named; the one called None is none.
            let template = config.cpu_template.or(spec.machine_config.cpu_template);
            config.cpu_template = template.filter(|template| *template != CpuTemplate::None);
            spec.machine_config = config;
        };
        self.change(edit, Spec::validate_machine)
            .map_err(CommandError::Machine)
    }

    fn boot_source(&mut self, boot: BootSource, parcels: &mut Parcels) -> Result<(), CommandError> {
        let mut spec = self.spec.clone();
        spec.boot_source = Some(boot);
        let checked = spec.boot().map_err(OpenError::from).and_then(|boot| {
            command_line(&spec)?;
            self.opened.boot_source(boot, parcels)
        });
        checked.map_err(CommandError::BootSource)?;
        self.spec = spec;
        Ok(())
    }

    fn drive(&mut self, drive: &Drive, parcels: &mut Parcels) -> Result<(), OpenError> {
        let mut spec = self.spec.clone();
        let before = place(&mut spec.drives, drive.clone(), |one| &one.drive_id);
        spec.validate_drives()?;
        spec.validate_count()?;
        self.opened.drive(drive, before.as_ref(), parcels)?;
        self.spec = spec;
        Ok(())
    }

    fn network(&mut self, card: &NetworkInterface, parcels: &mut Parcels) -> Result<(), OpenError> {
        let mut spec = self.spec.clone();
        let before = place(&mut spec.network_interfaces, card.clone(), |one| {
            &one.iface_id
        });
        spec.validate_network()?;
        spec.validate_count()?;
        self.opened.card(card, before.as_ref(), parcels)?;
        self.spec = spec;
        Ok(())
    }

    fn vsock(&mut self, vsock: &Vsock, parcels: &mut Parcels) -> Result<(), OpenError> {
        let mut spec = self.spec.clone();
        let before = spec.vsock.replace(vsock.clone());
        spec.validate_vsock()?;
        spec.validate_count()?;
        self.opened.vsock(vsock, before.as_ref(), parcels)?;
        self.spec = spec;
        Ok(())
    }

    fn pmem(&mut self, pmem: Pmem) -> Result<(), SpecError> {
        self.change(
            |spec| {
                place(&mut spec.pmem, pmem, |one| &one.id);
            },
            Spec::validate_planned,
        )
    }

    /// Changes the description if it passes `check` afterwards.
    fn change(
        &mut self,
        edit: impl FnOnce(&mut Spec),
        check: impl FnOnce(&Spec) -> Result<(), SpecError>,
    ) -> Result<(), SpecError> {
        let mut spec = self.spec.clone();
        edit(&mut spec);
        check(&spec)?;
        self.spec = spec;
        Ok(())
    }
}

/// Puts `new` in the place of the one with its id, which is returned, or at the end.
fn place<T>(list: &mut Vec<T>, new: T, id: impl Fn(&T) -> &str) -> Option<T> {
    match list.iter().position(|one| id(one) == id(&new)) {
        Some(index) => Some(std::mem::replace(&mut list[index], new)),
        None => {
            list.push(new);
            None
        }
    }
}
