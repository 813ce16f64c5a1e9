//! The whole VM as plain data, with the names of Firecracker's configuration file, and its validation.
//!
//! A [`Spec`] opens nothing: it can be printed, compared, and checked anywhere. What it says about files and
//! taps is found true or not when the machine is built.

mod cpu;
mod drive;
mod file;
mod logger;
mod metrics;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

pub use cpu::{
    Bitmap, CpuConfig, CpuFeatures, CpuTemplate, CpuidModifier, CpuidRegister, KvmCapability,
    MsrModifier, NotationError, RegisterModifier,
};
pub use devices::limiter::{RateLimiter, TokenBucket};
pub use devices::virtio::block::{Cache, Engine};
pub use devices::virtio::net::{
    Config as NetworkInterface, MacAddr, MacAddrError, Mtu, MtuError, TapName, TapNameError,
};
pub use drive::Drive;
pub use logger::{BadLogLevel, LogLevel, LoggerConfig};
pub use metrics::MetricsConfig;

/// The most vCPUs a machine has.
pub const MAX_VCPUS: u8 = 32;
/// The longest id, in characters.
const MAX_ID: usize = 64;

/// A virtual machine.
///
/// Reading one accepts Firecracker's keys for what this version lacks, as long as nothing stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "file::File")]
pub struct Spec {
    /// What to boot.
    pub boot_source: BootSource,
    /// The disks, in the order in which the guest finds them; the root device comes first whatever its
    /// place.
    pub drives: Vec<Drive>,
    /// Processors and memory.
    pub machine_config: MachineConfig,
    /// The network cards, in the order in which the guest finds them.
    pub network_interfaces: Vec<NetworkInterface>,
    /// The entropy source, if the guest has one.
    pub entropy: Option<Entropy>,
}

/// What to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSource {
    /// The kernel: an ELF vmlinux or a bzImage.
    #[serde(default)]
    pub kernel_image_path: String,
    /// The initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<String>,
    /// The kernel's command line; without one, ravelin's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_args: Option<String>,
}

/// Processors and memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// How many vCPUs, 1 to 32.
    #[serde(default = "one")]
    pub vcpu_count: u8,
    /// Guest memory in MiB.
    #[serde(default = "default_memory")]
    pub mem_size_mib: u64,
    /// Whether two vCPUs share a core, as the guest sees it.
    #[serde(default)]
    pub smt: bool,
    /// Whether written pages are recorded, for differential snapshots.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// What kind of pages hold guest memory.
    #[serde(default)]
    pub huge_pages: HugePages,
    /// Firecracker's processor template: `None` at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_template: Option<String>,
}

/// What kind of pages hold guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HugePages {
    /// Pages of 4 KiB.
    #[default]
    None,
    /// Transparent huge pages where the host has them: a faster first touch for more resident memory.
    Transparent,
}

/// The entropy source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entropy {
    /// Firecracker's limits: none can be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiter>,
}

fn one() -> u8 {
    1
}

fn default_memory() -> u64 {
    128
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            vcpu_count: one(),
            mem_size_mib: default_memory(),
            smt: false,
            track_dirty_pages: false,
            huge_pages: HugePages::None,
            cpu_template: None,
        }
    }
}

/// What is wrong with a [`Spec`]: one sentence each, with what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No kernel.
    #[error(
        "no kernel was given: name an ELF vmlinux or a bzImage with --kernel FILE, or as kernel_image_path \
         in a configuration file"
    )]
    NoKernel,
    /// Not between 1 and 32.
    #[error(
        "{0} vCPUs were asked for and a machine has 1 to {MAX_VCPUS}: ask for a number in that range"
    )]
    Vcpus(u32),
    /// An odd number of threads on two-threaded cores.
    #[error(
        "{0} vCPUs were asked for with smt, which has two on each core: ask for 1 or an even number, or \
         leave smt out"
    )]
    OddSmt(u8),
    /// A processor template.
    #[error("the cpu_template `{0}` was given and this version has none: leave it out")]
    NoCpuTemplate(String),
    /// Limits for the entropy source.
    #[error("entropy has a rate_limiter and this version has none for it: leave it out")]
    NoEntropyLimits,
    /// Dirty pages cannot be tracked yet.
    #[error("track_dirty_pages was set and this version has no snapshots: leave it out")]
    NoDirtyTracking,
    /// An id that cannot be a name.
    #[error(
        "the {kind} id `{id}` was given and 1 to {MAX_ID} letters, digits and underscores were expected"
    )]
    Id {
        /// drive or network interface.
        kind: &'static str,
        /// What was given.
        id: String,
    },
    /// An id twice.
    #[error("two {kind}s are called `{id}`: give each an id of its own")]
    DuplicateId {
        /// drive or network interface.
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// Two root devices.
    #[error("the drives `{0}` and `{1}` are both the root device: keep one")]
    TwoRoots(String, String),
    /// A drive without a file.
    #[error("the drive `{0}` has no path_on_host: name a file or block device")]
    NoPath(String),
    /// One file behind two disks, one of which may be written.
    #[error(
        "the drives `{0}` and `{1}` are both {2}, which at least one of them may write: give each a file of \
         its own, or make both read-only"
    )]
    SharedPath(String, String, String),
    /// A serial number that does not fit.
    #[error(
        "the drive `{id}` has the serial number `{serial}` and up to 20 printable ASCII characters were \
         expected: shorten it"
    )]
    Serial {
        /// The drive.
        id: String,
        /// What was given.
        serial: String,
    },
    /// A vhost-user socket.
    #[error("the drive `{0}` has a socket and this version has no vhost-user: name a path_on_host")]
    NoVhostUser(String),
    /// The same host device twice.
    #[error("the tap `{0}` is used by two network interfaces: give each a tap of its own")]
    DuplicateTap(TapName),
    /// The same MAC address twice.
    #[error("the MAC address {0} is used by two network interfaces: give each its own")]
    DuplicateMac(MacAddr),
    /// The devices do not fit.
    #[error("{count} devices were asked for and the machine has {max} interrupt lines for them")]
    TooManyDevices {
        /// Drives, network interfaces and the entropy source together.
        count: usize,
        /// The most.
        max: usize,
    },
}

impl Spec {
    /// Checks everything that can be checked without opening anything.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.boot_source.kernel_image_path.is_empty() {
            return Err(SpecError::NoKernel);
        }
        self.machine_config.validate()?;
        if matches!(&self.entropy, Some(entropy) if entropy.rate_limiter.is_some()) {
            return Err(SpecError::NoEntropyLimits);
        }
        self.validate_drives()?;
        self.validate_network()?;
        let max = crate::arch::x86_64::layout::MMIO_GSIS.len();
        let count =
            self.drives.len() + self.network_interfaces.len() + usize::from(self.entropy.is_some());
        if count > max {
            return Err(SpecError::TooManyDevices { count, max });
        }
        Ok(())
    }

    /// The drives with the root device first: the order of the guest's `vda`, `vdb`, ...
    pub fn drives_in_order(&self) -> impl Iterator<Item = &Drive> {
        let roots = self.drives.iter().filter(|drive| drive.is_root_device);
        let others = self.drives.iter().filter(|drive| !drive.is_root_device);
        roots.chain(others)
    }

    fn validate_drives(&self) -> Result<(), SpecError> {
        unique_ids(
            "drive",
            self.drives.iter().map(|drive| drive.drive_id.as_str()),
        )?;
        let mut roots = self.drives.iter().filter(|drive| drive.is_root_device);
        if let (Some(first), Some(second)) = (roots.next(), roots.next()) {
            return Err(SpecError::TwoRoots(
                first.drive_id.clone(),
                second.drive_id.clone(),
            ));
        }
        self.drives.iter().try_for_each(Drive::validate)?;
        self.shared_path().map_or(Ok(()), Err)
    }

    /// Two disks over one file are two writers, or a writer behind a reader's back. That two paths lead to
    /// one file, only the lock on it finds out.
    fn shared_path(&self) -> Option<SpecError> {
        let mut seen: HashMap<&str, &Drive> = HashMap::new();
        self.drives.iter().find_map(|drive| {
            let first = *seen.entry(&drive.path_on_host).or_insert(drive);
            let both_read = first.is_read_only && drive.is_read_only;
            (first.drive_id != drive.drive_id && !both_read).then(|| {
                SpecError::SharedPath(
                    first.drive_id.clone(),
                    drive.drive_id.clone(),
                    drive.path_on_host.clone(),
                )
            })
        })
    }

    fn validate_network(&self) -> Result<(), SpecError> {
        let interfaces = &self.network_interfaces;
        unique_ids(
            "network interface",
            interfaces.iter().map(|net| net.iface_id.as_str()),
        )?;
        let mut taps = HashSet::new();
        if let Some(twice) = interfaces
            .iter()
            .find(|net| !taps.insert(&net.host_dev_name))
        {
            return Err(SpecError::DuplicateTap(twice.host_dev_name.clone()));
        }
        let mut macs = HashSet::new();
        let mut given = interfaces.iter().filter_map(|net| net.guest_mac);
        match given.find(|mac| !macs.insert(*mac)) {
            Some(twice) => Err(SpecError::DuplicateMac(twice)),
            None => Ok(()),
        }
    }
}

impl MachineConfig {
    fn validate(&self) -> Result<(), SpecError> {
        if !(1..=MAX_VCPUS).contains(&self.vcpu_count) {
            return Err(SpecError::Vcpus(self.vcpu_count.into()));
        }
        if self.smt && self.vcpu_count > 1 && !self.vcpu_count.is_multiple_of(2) {
            return Err(SpecError::OddSmt(self.vcpu_count));
        }
        if self.track_dirty_pages {
            return Err(SpecError::NoDirtyTracking);
        }
        match &self.cpu_template {
            Some(name) if name != "None" => Err(SpecError::NoCpuTemplate(name.clone())),
            _ => Ok(()),
        }
    }
}

fn unique_ids<'a>(kind: &'static str, ids: impl Iterator<Item = &'a str>) -> Result<(), SpecError> {
    let mut seen = HashSet::new();
    for id in ids {
        let named = !id.is_empty() && id.chars().count() <= MAX_ID;
        if !named || !id.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(SpecError::Id {
                kind,
                id: id.to_owned(),
            });
        }
        if !seen.insert(id) {
            return Err(SpecError::DuplicateId {
                kind,
                id: id.to_owned(),
            });
        }
    }
    Ok(())
}
