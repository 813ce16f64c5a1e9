//! Before the boot and after it: a draft is a checked description, a live VM is a machine that runs.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::arch::x86_64::{BadVcpuCount, VcpuCount, reset_by_panic};
use crate::boot::{BootError, BootProtocol, CommandLine, CommandLineError, ImageFile, Source};
use crate::command::{Command, CommandError};
use crate::end::{self, Ends, Finish, GuestEnd};
use crate::event::borrow;
use crate::kvm::{Kvm, KvmError};
use crate::machine::{
    BuildError, Chassis, ChassisPlan, Console, DeviceError, Devices, Guest, VcpuThreadError,
};
use crate::memory::{self, MemoryError, MemorySize};
use crate::spec::{self, CpuFeatures, Spec, SpecError};

/// Why a VM did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel or initrd.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The kernel's command line.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
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
    /// The kernel grants no eventfd.
    #[error("cannot make an eventfd: {0}")]
    EventFd(io::Error),
}

impl StartError {
    /// Whether the description itself is wrong, and not what it was found to name.
    pub fn is_of_the_description(&self) -> bool {
        matches!(
            self,
            Self::CommandLine(_)
                | Self::Boot(BootError::CommandLine(_))
                | Self::Machine(BuildError::Boot(BootError::CommandLine(_)))
                | Self::Memory(MemoryError::TooSmall(_) | MemoryError::TooLarge { .. })
                | Self::Vcpus(_)
        )
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

/// A VM that is described and not yet built.
#[derive(Debug)]
pub struct Draft {
    spec: Spec,
    protocol: BootProtocol,
}

/// A VM whose vCPUs have started.
#[derive(Debug)]
pub struct Live {
    // Dropped first: no vCPU runs when the devices go.
    guest: Guest,
    devices: Devices,
    ends: Ends,
}

impl Draft {
    /// Takes a description that makes sense.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn new(spec: Spec, protocol: BootProtocol) -> Result<Self, SpecError> {
        spec.validate()?;
        Ok(Self { spec, protocol })
    }

    /// Opens what the description names, builds the machine, and lets it run.
    ///
    /// Files are opened before KVM is: a mistake in a path costs no VM.
    ///
    /// # Errors
    /// [`StartError`], with everything undone.
    pub fn boot(self) -> Result<Live, StartError> {
        let spec = &self.spec;
        let source = source(spec, self.protocol)?;
        log_source(&source);
        let plan = plan(spec, &source)?;
        let backends = Devices::open(spec)?;
        log::debug!("opened what the guest needs");
        let (reporter, ends) = end::ends().map_err(StartError::EventFd)?;
        let chassis = Chassis::build(&Kvm::open()?, &plan)?;
        log::info!(
            "machine: {} MiB of memory, vCPUs: {}",
            plan.memory.mib(),
            plan.vcpus.get()
        );
        let devices = Devices::build(&chassis, backends, &reporter)?;
        let guest = chassis.assemble(&devices.buses(), &reporter, source, &devices.slots())?;
        log::debug!("loaded what the guest boots from");
        guest.resume()?;
        log::debug!("the guest runs");
        Ok(Live {
            guest,
            devices,
            ends,
        })
    }
}

impl Live {
    /// Does what is asked.
    ///
    /// # Errors
    /// [`CommandError`]; the machine is as before.
    pub fn handle(&mut self, command: Command) -> Result<(), CommandError> {
        match command {
            Command::Pause => {
                self.guest.pause()?;
                self.devices.pause();
            }
            Command::Resume => {
                self.devices.resume();
                self.guest.resume()?;
            }
            Command::PressPowerButton => self.devices.press_power_button(),
            Command::Update { id, update } => self.devices.update(&id, update)?,
        }
        Ok(())
    }

    /// The guest's serial port, from the user's side.
    pub fn console(&self) -> &Console {
        self.devices.console()
    }

    /// Readable once the guest has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        borrow(self.ends.event())
    }

    /// How the guest has ended, once.
    pub fn end(&self) -> Option<GuestEnd> {
        self.ends.take()
    }

    /// Stops the vCPUs for good and says what the guest has left. The console's last output can still be
    /// taken.
    pub fn finish(&mut self) -> Finish {
        self.devices.console().output().seal();
        if let Err(error) = self.guest.pause() {
            log::warn!("while ending the guest: {error}");
        }
        Finish {
            exit_status: self.devices.exit_status(),
            panicked: reset_by_panic(self.guest.memory()),
        }
    }
}

/// Opens what the guest boots from and puts its command line together.
fn source(spec: &Spec, protocol: BootProtocol) -> Result<Source, StartError> {
    let boot = &spec.boot_source;
    let path = Path::new(&boot.kernel_image_path);
    let kernel = ImageFile::open(path).map_err(|fault| BootError::Kernel {
        path: path.to_owned(),
        fault: fault.into(),
    })?;
    let initrd = match &boot.initrd_path {
        None => None,
        Some(path) => {
            let path = Path::new(path);
            let file = ImageFile::open(path).map_err(|fault| BootError::Initrd {
                path: path.to_owned(),
                fault: fault.into(),
            })?;
            Some(file)
        }
    };
    Ok(Source {
        kernel,
        initrd,
        command_line: command_line(spec)?,
        protocol,
    })
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

fn command_line(spec: &Spec) -> Result<CommandLine, CommandLineError> {
    let mut line = match &spec.boot_source.boot_args {
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

fn plan(spec: &Spec, source: &Source) -> Result<ChassisPlan, StartError> {
    let config = &spec.machine_config;
    Ok(ChassisPlan {
        memory: MemorySize::on_this_host(config.mem_size_mib)?,
        huge_pages: match config.huge_pages {
            spec::HugePages::None => memory::HugePages::HostDefault,
            spec::HugePages::Transparent => memory::HugePages::Advised,
        },
        vcpus: VcpuCount::new(config.vcpu_count.into())?,
        smt: config.smt,
        features: CpuFeatures::Host,
        interval_timer: source.command_line.turns_acpi_off(),
    })
}
