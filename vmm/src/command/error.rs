//! Why a request is not met, in the words that clients of Firecracker's API look for, followed by ours.

use devices::mmds;

use crate::controller::StartError;
use crate::machine::VcpuThreadError;
use crate::memory::MemoryError;
use crate::open::OpenError;
use crate::spec::SpecError;

/// Why a request is not met; the VM is as before.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Only a running VM can do that.
    #[error("The requested operation is not supported before starting the microVM.")]
    NotBeforeStart,
    /// Only a VM that has not started can do that.
    #[error("The requested operation is not supported after starting the microVM.")]
    NotAfterStart,
    /// The kernel, the initrd or the command line.
    #[error("Boot source error: {0}")]
    BootSource(#[source] OpenError),
    /// Processors and memory.
    #[error("Machine config error: {0}")]
    Machine(#[source] SpecError),
    /// The memory's size.
    #[error("Machine config error: {0}")]
    Memory(#[source] MemoryError),
    /// A disk's description or its file.
    #[error("Drive config error: {0}")]
    Drive(#[source] OpenError),
    /// A disk that is not there, or does not take a change.
    #[error("Drive config error: {0}")]
    DriveUpdate(#[source] UpdateError),
    /// A network card's description or its tap.
    #[error("Network config error: {0}")]
    Network(#[source] OpenError),
    /// A network card that is not there, or does not take a change.
    #[error("Network config error: {0}")]
    NetworkUpdate(#[source] UpdateError),
    /// Persistent memory's description.
    #[error("Pmem config error: {0}")]
    Pmem(#[source] SpecError),
    /// Persistent memory that is not there.
    #[error("Pmem config error: {0}")]
    PmemUpdate(#[source] UpdateError),
    /// The vsock device's description or its socket.
    #[error("Vsock config error: {0}")]
    Vsock(#[source] OpenError),
    /// The balloon's description.
    #[error("Balloon config error: {0}")]
    Balloon(#[source] SpecError),
    /// None is described.
    #[error("Balloon config error: No balloon device found.")]
    NoBalloon,
    /// The machine has none to show.
    #[error(
        "Internal VMM error: Failed perform action on device: Device not found: no balloon was described before the \
         start"
    )]
    NoBalloonToShow,
    /// The machine has none to change.
    #[error(
        "Balloon update error: Failed perform action on device: Device not found: no balloon was described before \
         the start"
    )]
    NoBalloonToUpdate,
    /// Memory to plug.
    #[error("Memory hotplug config error: {0}")]
    MemoryHotplug(#[source] SpecError),
    /// The machine has none to show.
    #[error(
        "Internal VMM error: Failed perform action on device: Device not found: no memory to plug was described \
         before the start"
    )]
    NoMemoryToShow,
    /// The machine has none to change.
    #[error(
        "Memory hotplug update error: Failed perform action on device: Device not found: no memory to plug was \
         described before the start"
    )]
    NoMemoryToUpdate,
    /// The entropy source.
    #[error("Entropy device error: {0}")]
    Entropy(#[source] SpecError),
    /// The serial port.
    #[error("Serial error: {0}")]
    Serial(String),
    /// The log.
    #[error("Logger error: {0}")]
    Logger(String),
    /// The figures.
    #[error("Metrics error: {0}")]
    Metrics(String),
    /// A line of figures was lost.
    #[error("Internal VMM error: {0}")]
    Flush(String),
    /// The metadata service's description. The prefix is Firecracker's.
    #[error("MMMDS config error: {0}")]
    MmdsConfig(#[source] SpecError),
    /// The metadata.
    #[error("MMDS error: {0}")]
    Mmds(#[source] mmds::StoreError),
    /// The metadata would be larger than allowed.
    #[error("MMDS limit exceeded error: {0}")]
    MmdsTooLarge(#[source] mmds::StoreError),
    /// New devices need a bus that can be plugged into.
    #[error("PCI is not enabled")]
    NoPci,
    /// The machine does not start.
    #[error("Start microvm error: {0}")]
    Start(#[source] Box<StartError>),
    /// A snapshot cannot be loaded into a VM that is described already.
    #[error(
        "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources."
    )]
    LoadNotAllowed,
    /// It could not be loaded. The VM is of no use any more.
    #[error("Load snapshot error: {0}")]
    Load(String),
    /// It could not be written.
    #[error("Create snapshot error: {0}")]
    Create(String),
    /// A descriptor that cannot be kept.
    #[error("{0}")]
    Deposit(String),
    /// The machine does not do as told.
    #[error("Internal VMM error: {0}")]
    Vcpu(#[from] VcpuThreadError),
}

impl CommandError {
    /// Whether the VM is of no use any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Load(_))
    }
}

/// Why a device is not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// No such device.
    #[error("Device not found: there is none with the id `{0}`")]
    NoDevice(String),
    /// The device refused the setting.
    #[error(transparent)]
    Device(#[from] devices::catalog::UpdateError),
    /// What it should be changed to cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}
