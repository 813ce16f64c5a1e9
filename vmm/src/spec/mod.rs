//! The whole VM as plain data, with the names of Firecracker's configuration file, and its validation.
//!
//! A [`Spec`] opens nothing: it can be printed, compared, and checked anywhere. What it says about files and
//! taps is found true or not when the machine is built.

mod cpu;
mod drive;
mod error;
mod logger;
mod machine;
mod metrics;
mod planned;
mod serial;
#[cfg(test)]
mod tests;
mod vsock;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Deserializer, Serialize};

pub use cpu::{
    Bitmap, CpuConfig, CpuFeatures, CpuTemplate, CpuidModifier, CpuidRegister, KvmCapability,
    MsrModifier, NotationError, RegisterModifier,
};
pub use devices::limiter::{RateLimiter, TokenBucket};
pub use devices::mmds::{Config as MmdsConfig, Version as MmdsVersion};
pub use devices::virtio::block::{Cache, Engine};
pub use devices::virtio::net::{
    Config as NetworkInterface, MacAddr, MacAddrError, Mtu, MtuError, TapName, TapNameError,
};
pub use drive::Drive;
pub use error::SpecError;
pub use logger::{BadLogLevel, LogLevel, LoggerConfig};
pub use machine::{HugePages, MachineConfig, MachinePatch};
pub use metrics::MetricsConfig;
pub use planned::{Balloon, MemoryHotplug, Pmem};
pub use serial::Serial;
pub use vsock::Vsock;

/// The most vCPUs a machine has.
pub const MAX_VCPUS: u8 = 32;
/// What a path begins with that names a descriptor.
pub(crate) const PASSED: &str = "fd:";
/// The longest id, in characters.
const MAX_ID: usize = 64;

/// A virtual machine: Firecracker's configuration file, and what its `GET /vm/config` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Spec {
    /// The memory balloon.
    pub balloon: Option<Balloon>,
    /// The disks, in the order in which the guest finds them; the root device comes first whatever its
    /// place.
    #[serde(deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<Drive>>"))]
    pub drives: Vec<Drive>,
    /// What to boot.
    pub boot_source: Option<BootSource>,
    /// What is changed about the processors.
    pub cpu_config: Option<CpuConfig>,
    /// Where ravelin's own log goes.
    pub logger: Option<LoggerConfig>,
    /// Processors and memory.
    #[serde(deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<MachineConfig>"))]
    pub machine_config: MachineConfig,
    /// Where the figures go.
    pub metrics: Option<MetricsConfig>,
    /// The metadata service.
    pub mmds_config: Option<MmdsConfig>,
    /// The network cards, in the order in which the guest finds them.
    #[serde(deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<NetworkInterface>>"))]
    pub network_interfaces: Vec<NetworkInterface>,
    /// The socket between guest and host.
    pub vsock: Option<Vsock>,
    /// The entropy source, if the guest has one.
    pub entropy: Option<Entropy>,
    /// Persistent memory.
    #[serde(deserialize_with = "null_is_default")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<Pmem>>"))]
    pub pmem: Vec<Pmem>,
    /// Memory to plug.
    pub memory_hotplug: Option<MemoryHotplug>,
    /// The serial port. Firecracker's file has it and its `GET /vm/config` has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
}

/// What to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootSource {
    /// The kernel: an ELF vmlinux or a bzImage.
    pub kernel_image_path: String,
    /// The initial RAM disk.
    #[serde(default)]
    pub initrd_path: Option<String>,
    /// The kernel's command line; without one, ravelin's default.
    #[serde(default)]
    pub boot_args: Option<String>,
}

/// The entropy source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Entropy {
    /// How much the guest may read.
    #[serde(default)]
    pub rate_limiter: Option<RateLimiter>,
}

/// Whether a path names a descriptor that was passed in, and is free for another one once it is used.
pub(crate) fn is_passed(path: &str) -> bool {
    path.starts_with(PASSED)
}

/// What stands for nothing in Firecracker's bodies: `null` as well as no key at all.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Spec {
    /// Checks everything that can be checked without opening anything.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.boot()?;
        self.machine_config.validate()?;
        self.validate_drives()?;
        self.validate_network()?;
        self.validate_mmds()?;
        self.validate_vsock()?;
        self.validate_planned()?;
        self.validate_count()?;
        self.planned()
            .map_or(Ok(()), |what| Err(SpecError::Planned(what)))
    }

    /// What to boot.
    ///
    /// # Errors
    /// When no kernel is named.
    pub(crate) fn boot(&self) -> Result<&BootSource, SpecError> {
        let boot = self.boot_source.as_ref();
        boot.filter(|boot| !boot.kernel_image_path.is_empty())
            .ok_or(SpecError::NoKernel)
    }

    /// Checks processors and memory, and what is measured by them.
    pub(crate) fn validate_machine(&self) -> Result<(), SpecError> {
        self.machine_config.validate()?;
        self.validate_planned()
    }

    /// Checks that there is an interrupt line for each device.
    pub(crate) fn validate_count(&self) -> Result<(), SpecError> {
        let max = crate::arch::x86_64::layout::MMIO_GSIS.len();
        let count = self.drives.len()
            + self.network_interfaces.len()
            + usize::from(self.entropy.is_some())
            + usize::from(self.vsock.is_some());
        if count > max {
            return Err(SpecError::TooManyDevices { count, max });
        }
        Ok(())
    }

    /// Checks the socket between guest and host.
    pub(crate) fn validate_vsock(&self) -> Result<(), SpecError> {
        self.vsock.iter().try_for_each(Vsock::validate)
    }

    /// Checks the devices that cannot be built yet.
    pub(crate) fn validate_planned(&self) -> Result<(), SpecError> {
        let memory = self.machine_config.mem_size_mib;
        self.balloon
            .iter()
            .try_for_each(|one| one.validate(memory))?;
        self.memory_hotplug
            .iter()
            .try_for_each(MemoryHotplug::validate)?;
        self.pmem.iter().try_for_each(Pmem::validate)?;
        unique_ids("pmem device", self.pmem.iter().map(|pmem| pmem.id.as_str()))
    }

    /// The first device described that this version cannot build.
    fn planned(&self) -> Option<&'static str> {
        [
            (self.balloon.is_some(), "a balloon"),
            (!self.pmem.is_empty(), "a pmem device"),
            (self.memory_hotplug.is_some(), "memory to plug"),
        ]
        .into_iter()
        .find_map(|(is_there, what)| is_there.then_some(what))
    }

    /// What the processors have: as changed, as in a template, or as the host's. The last one set counts.
    pub(crate) fn cpu_features(&self) -> CpuFeatures {
        match (&self.cpu_config, self.machine_config.cpu_template) {
            (Some(config), _) => CpuFeatures::Custom(config.clone()),
            (None, Some(template)) => CpuFeatures::Template(template),
            (None, None) => CpuFeatures::Host,
        }
    }

    /// The drives with the root device first: the order of the guest's `vda`, `vdb`, ...
    pub fn drives_in_order(&self) -> impl Iterator<Item = &Drive> {
        let roots = self.drives.iter().filter(|drive| drive.is_root_device);
        let others = self.drives.iter().filter(|drive| !drive.is_root_device);
        roots.chain(others)
    }

    /// Checks the drives, and each with the others.
    pub(crate) fn validate_drives(&self) -> Result<(), SpecError> {
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
        let mut by_path = self
            .drives
            .iter()
            .filter(|drive| !is_passed(&drive.path_on_host));
        by_path.find_map(|drive| {
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

    /// Checks the network interfaces, and what the metadata service says of them.
    pub(crate) fn validate_network(&self) -> Result<(), SpecError> {
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
        if let Some(twice) = given.find(|mac| !macs.insert(*mac)) {
            return Err(SpecError::DuplicateMac(twice));
        }
        Ok(())
    }

    /// Checks the metadata service against the network interfaces.
    pub(crate) fn validate_mmds(&self) -> Result<(), SpecError> {
        let known = |id: &str| self.network_interfaces.iter().any(|net| net.iface_id == id);
        let mut mmds = self.mmds_config.iter();
        Ok(mmds.try_for_each(|mmds| mmds.validate(known))?)
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
