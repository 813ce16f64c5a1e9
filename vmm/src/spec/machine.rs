//! Processors and memory, as a user describes them.

use serde::{Deserialize, Serialize};

use super::{CpuTemplate, MAX_VCPUS, SpecError};
use crate::memory::{MemoryError, MemorySize};

/// Processors and memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// How many vCPUs, 1 to 32.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_VCPUS)))]
    pub vcpu_count: u8,
    /// Guest memory in MiB.
    #[cfg_attr(feature = "schema", schemars(range(min = MemorySize::MIN_MIB)))]
    pub mem_size_mib: u64,
    /// Whether two vCPUs share a core, as the guest sees it.
    #[serde(default)]
    pub smt: bool,
    /// Firecracker's name of a processor template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("deprecated" = true)))]
    pub cpu_template: Option<CpuTemplate>,
    /// Whether written pages are recorded, for differential snapshots.
    #[serde(default)]
    pub track_dirty_pages: bool,
    /// What kind of pages hold guest memory.
    #[serde(default)]
    pub huge_pages: HugePages,
}

/// New values for some of [`MachineConfig`]'s fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MachinePatch {
    /// How many vCPUs, 1 to 32.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_VCPUS)))]
    pub vcpu_count: Option<u8>,
    /// Guest memory in MiB.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(min = MemorySize::MIN_MIB)))]
    pub mem_size_mib: Option<u64>,
    /// Whether two vCPUs share a core, as the guest sees it.
    #[serde(default)]
    pub smt: Option<bool>,
    /// Firecracker's name of a processor template.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("deprecated" = true)))]
    pub cpu_template: Option<CpuTemplate>,
    /// Whether written pages are recorded, for differential snapshots.
    #[serde(default)]
    pub track_dirty_pages: Option<bool>,
    /// What kind of pages hold guest memory.
    #[serde(default)]
    pub huge_pages: Option<HugePages>,
}

/// What kind of pages hold guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HugePages {
    /// Pages of 4 KiB.
    #[default]
    None,
    /// Transparent huge pages where the host has them: a faster first touch for more resident memory.
    Transparent,
    /// Pages of 2 MiB that the host has set aside (hugetlbfs).
    #[serde(rename = "2M")]
    TwoMiB,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            vcpu_count: 1,
            mem_size_mib: 128,
            smt: false,
            cpu_template: None,
            track_dirty_pages: false,
            huge_pages: HugePages::None,
        }
    }
}

impl MachineConfig {
    /// Checks what can be checked without building anything.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if !(1..=MAX_VCPUS).contains(&self.vcpu_count) {
            return Err(SpecError::Vcpus(self.vcpu_count.into()));
        }
        if self.smt && self.vcpu_count > 1 && !self.vcpu_count.is_multiple_of(2) {
            return Err(SpecError::OddSmt(self.vcpu_count));
        }
        if self.huge_pages == HugePages::TwoMiB && !self.mem_size_mib.is_multiple_of(2) {
            return Err(SpecError::OddHugePages(self.mem_size_mib));
        }
        Ok(())
    }

    /// Guest memory, if this host has as much.
    ///
    /// # Errors
    /// When it is too little for any guest, or too much for this host.
    pub fn memory(&self) -> Result<MemorySize, MemoryError> {
        MemorySize::on_this_host(self.mem_size_mib)
    }
}

impl MachinePatch {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `config` with the new values.
    pub fn applied(&self, config: &MachineConfig) -> MachineConfig {
        MachineConfig {
            vcpu_count: self.vcpu_count.unwrap_or(config.vcpu_count),
            mem_size_mib: self.mem_size_mib.unwrap_or(config.mem_size_mib),
            smt: self.smt.unwrap_or(config.smt),
            cpu_template: self.cpu_template.or(config.cpu_template),
            track_dirty_pages: self.track_dirty_pages.unwrap_or(config.track_dirty_pages),
            huge_pages: self.huge_pages.unwrap_or(config.huge_pages),
        }
    }
}
