//! What a caller may ask of a VM, before its start and after it, and what is answered.
//!
//! The names, the rules of when and the fixed sentences are those of Firecracker's API, so that the REST
//! socket only translates.

mod error;

use std::os::fd::OwnedFd;

use devices::limiter::RateLimiter;
use devices::virtio::net;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::{
    Balloon, BootSource, CpuConfig, Drive, Entropy, LoggerConfig, MachineConfig, MachinePatch,
    MemoryHotplug, MetricsConfig, MmdsConfig, NetworkInterface, Pmem, Serial, Spec, Vsock,
};

pub use error::{CommandError, UpdateError};

/// A request.
#[derive(Debug)]
pub enum Command {
    /// Say something about the VM.
    Show(Show),
    /// Keep a descriptor under a name, to be used as `fd:NAME` where a path or a tap is asked for.
    Deposit {
        /// Letters, digits, `-` and `_`.
        name: String,
        /// An open file, block device or configured tap.
        fd: OwnedFd,
    },
    /// Describe a part of the VM.
    Set(Setting),
    /// Change some of processors and memory.
    PatchMachine(MachinePatch),
    /// Build the machine and let it run.
    Start,
    /// Build the machine from a snapshot.
    LoadSnapshot(Box<LoadSnapshot>),
    /// Replace the metadata.
    PutMmds(Value),
    /// Merge into the metadata (RFC 7396).
    PatchMmds(Value),
    /// Park every vCPU and take the queues back from the workers.
    Pause,
    /// Run on after [`Command::Pause`].
    Resume,
    /// Ask the guest to switch itself off.
    PressPowerButton,
    /// Press Ctrl-Alt-Del on the guest's keyboard or, where it listens to none, its power button.
    SendCtrlAltDel,
    /// Write the figures now.
    FlushMetrics,
    /// Change a disk.
    UpdateDrive(DriveUpdate),
    /// Change a network card's limits.
    UpdateNetwork(NetworkUpdate),
    /// Change persistent memory's limits.
    UpdatePmem(PmemUpdate),
    /// Change a balloon.
    UpdateBalloon(BalloonUpdate),
    /// Plug or unplug memory.
    UpdateMemoryHotplug(MemoryHotplugUpdate),
    /// Take a device away from the running guest.
    Unplug(String),
    /// Save the paused VM.
    CreateSnapshot(CreateSnapshot),
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Which VM, and how it is.
    Instance,
    /// The whole description.
    Config,
    /// Processors and memory.
    Machine,
    /// The metadata.
    Mmds,
    /// The figures, as text for Prometheus.
    Metrics,
    /// The balloon.
    Balloon,
    /// What the guest says of its memory.
    BalloonStatistics,
    /// How far hinting at free pages is.
    BalloonHinting,
    /// Memory that can be plugged.
    MemoryHotplug,
}

/// A part of the VM's description.
#[derive(Debug)]
pub enum Setting {
    /// What to boot.
    BootSource(BootSource),
    /// Processors and memory.
    Machine(MachineConfig),
    /// What is changed about the processors.
    Cpu(CpuConfig),
    /// A disk, new or another of its id.
    Drive(Drive),
    /// A network card, new or another of its id.
    Network(NetworkInterface),
    /// Persistent memory, new or another of its id.
    Pmem(Pmem),
    /// The socket between guest and host.
    Vsock(Vsock),
    /// The balloon.
    Balloon(Balloon),
    /// The entropy source.
    Entropy(Entropy),
    /// The serial port.
    Serial(Serial),
    /// Memory to plug.
    MemoryHotplug(MemoryHotplug),
    /// ravelin's own log.
    Logger(LoggerConfig),
    /// The figures.
    Metrics(MetricsConfig),
    /// The metadata service.
    Mmds(MmdsConfig),
}

/// A change to a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DriveUpdate {
    /// Which.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    pub drive_id: String,
    /// Another file; without one, the size of the present one is read again.
    #[serde(default)]
    pub path_on_host: Option<String>,
    /// Other limits; a bucket left out stays.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}

/// A change to a network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkUpdate {
    /// Which.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    pub iface_id: String,
    /// How much the guest may receive; a bucket left out stays.
    #[serde(default)]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// How much the guest may send; a bucket left out stays.
    #[serde(default)]
    pub tx_rate_limiter: Option<RateLimiter>,
}

/// A change to persistent memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PmemUpdate {
    /// Which.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    pub id: String,
    /// Other limits; a bucket left out stays.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}

/// A change to a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonUpdate {
    /// How much memory the guest should give back, in MiB.
    Amount(u32),
    /// How often the guest reports, in seconds.
    StatisticsInterval(u16),
    /// Begin to hint at free pages; whether the end is acknowledged by itself.
    StartHinting(bool),
    /// No more hints.
    StopHinting,
}

/// A change to the memory that is plugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemoryHotplugUpdate {
    /// How much of it the guest should have, in MiB.
    pub requested_size_mib: u64,
}

/// Where to save a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// All of it, or what has changed.
    #[serde(default)]
    pub snapshot_type: SnapshotType,
    /// The state.
    pub snapshot_path: String,
    /// The memory.
    pub mem_file_path: String,
}

/// How much is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SnapshotType {
    /// All memory.
    #[default]
    Full,
    /// The memory written since the last snapshot.
    Diff,
}

/// Where a VM comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoadSnapshot {
    /// The state.
    pub snapshot_path: String,
    /// The memory.
    #[serde(default)]
    pub mem_backend: Option<MemoryBackend>,
    /// Deprecated: the memory, as a file.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("deprecated" = true)))]
    pub mem_file_path: Option<String>,
    /// Whether written pages are recorded from now on.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// Deprecated name of `track_dirty_pages`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("deprecated" = true)))]
    pub enable_diff_snapshots: Option<bool>,
    /// Whether the guest runs at once.
    #[serde(default)]
    pub resume_vm: bool,
    /// Other taps for the saved network cards.
    #[serde(default)]
    pub network_overrides: Vec<NetworkOverride>,
    /// Another socket for the saved vsock device.
    #[serde(default)]
    pub vsock_override: Option<VsockOverride>,
    /// Whether the guest's clock is set to the host's.
    #[serde(default)]
    pub clock_realtime: bool,
    /// What kind of pages hold guest memory.
    #[serde(default)]
    pub huge_pages: SnapshotPages,
}

/// Where a snapshot's memory comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemoryBackend {
    /// What `backend_path` is.
    pub backend_type: BackendType,
    /// A file, or the socket of a page fault handler.
    pub backend_path: String,
}

/// What a memory backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BackendType {
    /// A file.
    File,
    /// A process that serves page faults.
    Uffd,
}

/// A saved network card on another tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkOverride {
    /// The card.
    pub iface_id: String,
    /// The tap.
    pub host_dev_name: String,
}

/// A saved vsock device on another socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VsockOverride {
    /// The socket.
    pub uds_path: String,
}

/// What kind of pages hold the memory of a loaded VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SnapshotPages {
    /// As when it was saved.
    #[default]
    Snapshot,
    /// Pages of 4 KiB.
    None,
    /// Transparent huge pages.
    Transparent,
    /// Huge pages of 2 MiB.
    #[serde(rename = "2M")]
    TwoMiB,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// For [`Show::Instance`].
    Instance(Instance),
    /// For [`Show::Config`].
    Config(Box<Spec>),
    /// For [`Show::Machine`].
    Machine(MachineConfig),
    /// For [`Show::Mmds`].
    Mmds(Value),
    /// For [`Show::Metrics`].
    Metrics(String),
    /// For [`Show::Balloon`].
    Balloon(Balloon),
}

/// Which VM, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What [`Phase`] it is in.
    pub state: Phase,
    /// Its name.
    pub id: String,
}

/// What a VM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Phase {
    /// It is described.
    #[serde(rename = "Not started")]
    NotStarted,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs are parked.
    Paused,
}

/// When a request can be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the start.
    Before,
    /// After it.
    After,
    /// Always.
    Always,
}

impl Command {
    /// When the request can be met.
    pub fn when(&self) -> When {
        match self {
            Self::Show(Show::BalloonStatistics | Show::BalloonHinting | Show::MemoryHotplug) => {
                When::After
            }
            // A running machine of this kind has a bus for new disks, cards and memory, or says that it has
            // none.
            Self::Set(Setting::Drive(_) | Setting::Network(_) | Setting::Pmem(_))
            | Self::Show(_)
            | Self::Deposit { .. }
            | Self::PutMmds(_)
            | Self::PatchMmds(_) => When::Always,
            Self::Set(_) | Self::PatchMachine(_) | Self::Start | Self::LoadSnapshot(_) => {
                When::Before
            }
            _ => When::After,
        }
    }
}

impl Setting {
    /// The parts of a whole description, in an order in which each finds what it needs.
    pub(crate) fn all_of(spec: Spec) -> Vec<Self> {
        let firsts = [
            spec.logger.map(Self::Logger),
            spec.metrics.map(Self::Metrics),
            spec.serial.map(Self::Serial),
            Some(Self::Machine(spec.machine_config)),
            spec.cpu_config.map(Self::Cpu),
            spec.boot_source.map(Self::BootSource),
        ];
        let devices = spec.drives.into_iter().map(Self::Drive);
        let devices = devices.chain(spec.network_interfaces.into_iter().map(Self::Network));
        let devices = devices.chain(spec.pmem.into_iter().map(Self::Pmem));
        let lasts = [
            spec.vsock.map(Self::Vsock),
            spec.balloon.map(Self::Balloon),
            spec.mmds_config.map(Self::Mmds),
            spec.entropy.map(Self::Entropy),
            spec.memory_hotplug.map(Self::MemoryHotplug),
        ];
        let firsts = firsts.into_iter().flatten();
        firsts
            .chain(devices)
            .chain(lasts.into_iter().flatten())
            .collect()
    }
}

impl From<NetworkUpdate> for net::Update {
    fn from(update: NetworkUpdate) -> Self {
        Self {
            rx_rate_limiter: update.rx_rate_limiter,
            tx_rate_limiter: update.tx_rate_limiter,
        }
    }
}
