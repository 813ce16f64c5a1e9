//! From a description to a machine that runs.

use std::io;

use devices::legacy::boot_timer::{BootTimer, Moment};
use devices::mmds::Mmds;

use super::{Draft, Host, Live, ThreadNames};
use crate::arch::x86_64::{BadVcpuCount, VcpuCount};
use crate::boot::{BootError, CommandLine, CommandLineError, ImageFile, Source};
use crate::end;
use crate::kvm::{Kvm, KvmError};
use crate::machine::{
    BuildError, Chassis, ChassisPlan, DeviceError, Devices, Fixtures, VcpuThreadError,
};
use crate::memory::{self, MemoryError};
use crate::open::{OpenError, Parcels};
use crate::sandbox::{Confinement, Role, SandboxError};
use crate::spec::{self, Spec};

/// Why a VM did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The description, or something that it names.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The memory size.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The number of vCPUs.
    #[error(transparent)]
    Vcpus(#[from] BadVcpuCount),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] BuildError),
    /// A device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A vCPU thread.
    #[error(transparent)]
    Vcpu(#[from] VcpuThreadError),
    /// The process around the VM does not let it run.
    #[error("{0}")]
    MayNotRun(String),
    /// A thread could not be confined.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel grants no eventfd.
    #[error("cannot make an eventfd: {0}")]
    EventFd(io::Error),
}

impl StartError {
    /// Whether the description itself is wrong, and not what it was found to name.
    pub fn is_of_the_description(&self) -> bool {
        match self {
            Self::Open(error) => error.is_of_the_description(),
            Self::Machine(BuildError::Boot(BootError::CommandLine(_)))
            | Self::Memory(MemoryError::TooSmall(_) | MemoryError::TooLarge { .. })
            | Self::Vcpus(_) => true,
            _ => false,
        }
    }

    /// Whether KVM was the reason, and the host's examination may know more.
    pub fn is_of_kvm(&self) -> bool {
        matches!(
            self,
            Self::Kvm(_)
                | Self::Machine(BuildError::Kvm(_) | BuildError::Vm(_) | BuildError::Vcpu(_))
                | Self::Device(DeviceError::Vm(_))
        )
    }
}

impl Draft {
    /// Opens what is not open yet, builds the machine, and lets it run.
    ///
    /// Files are opened before KVM is: a mistake in a path costs no VM.
    ///
    /// # Errors
    /// [`StartError`], with everything undone: the draft may be mended and started again, unless this thread is confined
    /// by then.
    pub(super) fn start(
        &mut self,
        mmds: &Mmds,
        parcels: &mut Parcels,
        host: &mut dyn Host,
    ) -> Result<Live, StartError> {
        self.spec.validate().map_err(OpenError::from)?;
        let fixtures = self.fixtures();
        let source = self.source(parcels)?;
        log_source(&source);
        let plan = plan(&self.spec, &source, self.threads)?;
        let backends = Devices::backends(&self.spec, &mut self.opened, parcels, mmds)?;
        let needs = Devices::needs(&backends);
        let confinement = Confinement::new(self.sandbox, &needs)?;
        log::debug!("opened what the guest needs");
        let (reporter, ends) = end::ends().map_err(StartError::EventFd)?;
        let kvm = Kvm::open_with(plan.features.kvm_capabilities())?;
        host.builds();
        let chassis = Chassis::build(&kvm, &plan)?;
        log::info!(
            "machine: {} MiB of memory, vCPUs: {}",
            plan.memory.mib(),
            plan.vcpus.get()
        );
        let (memory_mib, vcpus) = (plan.memory.mib(), plan.vcpus.get().into());
        let devices = Devices::build(&chassis, backends, fixtures, &reporter)?;
        let guest = chassis.assemble(
            &devices.buses(),
            &reporter,
            source,
            &devices.slots(),
            &confinement,
            || host.is_complete(memory_mib, vcpus),
        )?;
        log::debug!("loaded what the guest boots from");
        devices.confine(&confinement)?;
        host.bound(memory_mib, vcpus)
            .map_err(StartError::MayNotRun)?;
        confinement.enter(Role::Vmm)?;
        self.is_spent = confinement.is_on();
        host.may_run(memory_mib, vcpus)
            .map_err(StartError::MayNotRun)?;
        guest.resume()?;
        log::debug!("the guest runs");
        Ok(Live::new(self, guest, devices, ends))
    }

    /// The devices that are no virtio devices. A boot that is timed begins here.
    fn fixtures(&self) -> Fixtures {
        let timer = || BootTimer::new(Moment::now(), |time| log::info!("{time}"));
        let serial = self.spec.serial.as_ref();
        Fixtures {
            console_limit: serial.and_then(|serial| serial.rate_limiter),
            boot_timer: self.times_boot.then(timer),
        }
    }

    /// What the guest boots from, with its command line.
    fn source(&mut self, parcels: &mut Parcels) -> Result<Source, OpenError> {
        let boot = self.spec.boot()?;
        let (kernel, initrd) = self.opened.images(boot, parcels)?;
        Ok(Source {
            kernel,
            initrd,
            command_line: command_line(&self.spec)?,
            protocol: self.protocol,
        })
    }
}

fn log_source(source: &Source) {
    let file = |what: &str, image: &ImageFile| {
        log::info!("{what} {}: {} bytes", image.path().display(), image.size());
    };
    file("kernel", &source.kernel);
    if let Some(initrd) = &source.initrd {
        file("initrd", initrd);
    }
    log::info!("kernel parameters: {}", source.command_line.text());
}

pub(super) fn command_line(spec: &Spec) -> Result<CommandLine, CommandLineError> {
    let boot = spec.boot_source.as_ref();
    let mut line = match boot.and_then(|boot| boot.boot_args.as_ref()) {
        Some(args) => CommandLine::bare(args)?,
        None => CommandLine::default(),
    };
    if let Some(root) = spec.drives.iter().find(|drive| drive.is_root_device) {
        line.add(&root_parameter(root))?;
    }
    Ok(line)
}

/// How the kernel finds its root filesystem.
fn root_parameter(root: &spec::Drive) -> String {
    let mode = if root.is_read_only { "ro" } else { "rw" };
    match &root.partuuid {
        Some(id) => format!("root=PARTUUID={id} {mode}"),
        None => format!("root=/dev/vda {mode}"),
    }
}

fn plan(spec: &Spec, source: &Source, threads: ThreadNames) -> Result<ChassisPlan, StartError> {
    let config = &spec.machine_config;
    let size = config.memory()?;
    if config.huge_pages == spec::HugePages::TwoMiB {
        memory::check_huge_pages(size)?;
    }
    Ok(ChassisPlan {
        memory: size,
        huge_pages: match config.huge_pages {
            spec::HugePages::None => memory::HugePages::HostDefault,
            spec::HugePages::Transparent => memory::HugePages::Advised,
            spec::HugePages::TwoMiB => memory::HugePages::TwoMiB,
        },
        vcpus: VcpuCount::new(config.vcpu_count.into())?,
        vcpu_name: threads.vcpu,
        smt: config.smt,
        features: spec.cpu_features(),
        track_dirty_pages: config.track_dirty_pages,
        interval_timer: source.command_line.turns_acpi_off(),
    })
}
