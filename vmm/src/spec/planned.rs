//! Devices that this version describes and checks but cannot build yet. A VM that has one of them does not
//! start, and says so.

use serde::{Deserialize, Serialize};

use super::{RateLimiter, SpecError};

/// A memory balloon (virtio 1.2 §5.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    /// How much memory the guest should give back, in MiB.
    pub amount_mib: u32,
    /// Whether the guest may take memory back before it would kill a process for want of it.
    pub deflate_on_oom: bool,
    /// How often the guest reports on its memory, in seconds; 0 is never.
    #[serde(default)]
    pub stats_polling_interval_s: u16,
    /// Whether the guest hints at free pages when it is asked.
    #[serde(default)]
    pub free_page_hinting: bool,
    /// Whether the guest reports free pages by itself.
    #[serde(default)]
    pub free_page_reporting: bool,
}

/// Persistent memory over a file (virtio 1.2 §5.19).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pmem {
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    pub id: String,
    /// The file.
    pub path_on_host: String,
    /// Whether the guest's root filesystem is on it.
    #[serde(default)]
    pub root_device: bool,
    /// Whether the guest may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// How much the guest may flush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limiter: Option<RateLimiter>,
}

/// Memory that may be plugged while the guest runs (virtio 1.2 §5.15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemoryHotplug {
    /// The most that can be plugged, in MiB.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub total_size_mib: u64,
    /// What the host gives and takes at once, in MiB.
    #[serde(default = "slot_size")]
    #[cfg_attr(feature = "schema", schemars(range(min = 128)))]
    pub slot_size_mib: u64,
    /// What the guest plugs and unplugs at once, in MiB.
    #[serde(default = "block_size")]
    #[cfg_attr(feature = "schema", schemars(range(min = 2)))]
    pub block_size_mib: u64,
}

fn slot_size() -> u64 {
    128
}

fn block_size() -> u64 {
    2
}

impl Balloon {
    /// Checks it against a guest of `mem_size_mib`.
    pub(super) fn validate(&self, mem_size_mib: u64) -> Result<(), SpecError> {
        if u64::from(self.amount_mib) > mem_size_mib {
            return Err(SpecError::BalloonTooLarge {
                amount: self.amount_mib,
                memory: mem_size_mib,
            });
        }
        Ok(())
    }
}

impl Pmem {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if self.path_on_host.is_empty() {
            return Err(SpecError::NoPath(self.id.clone()));
        }
        Ok(())
    }
}

impl MemoryHotplug {
    /// Blocks are powers of two of at least 2 MiB, slots hold whole blocks, the total whole slots.
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let fits = self.block_size_mib >= block_size()
            && self.block_size_mib.is_power_of_two()
            && self.slot_size_mib >= slot_size()
            && self.slot_size_mib.is_multiple_of(self.block_size_mib)
            && self.total_size_mib > 0
            && self.total_size_mib.is_multiple_of(self.slot_size_mib);
        if fits {
            Ok(())
        } else {
            Err(SpecError::Hotplug {
                total: self.total_size_mib,
                slot: self.slot_size_mib,
                block: self.block_size_mib,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hotplug(total: u64, slot: u64, block: u64) -> MemoryHotplug {
        MemoryHotplug {
            total_size_mib: total,
            slot_size_mib: slot,
            block_size_mib: block,
        }
    }

    #[test]
    fn hotplugged_memory_is_whole_slots_of_whole_blocks() {
        for (total, slot, block, ok) in [
            (1024, 128, 2, true),
            (1024, 256, 4, true),
            (0, 128, 2, false),
            (1000, 128, 2, false),
            (1024, 64, 2, false),
            (1024, 128, 3, false),
            (1024, 128, 1, false),
            (1024, 128, 0, false),
        ] {
            let checked = hotplug(total, slot, block).validate();
            assert_eq!(checked.is_ok(), ok, "{total} {slot} {block}");
        }
    }

    #[test]
    fn a_balloon_is_no_larger_than_its_guest() {
        for (amount_mib, ok) in [(0, true), (128, true), (129, false)] {
            let balloon = Balloon {
                amount_mib,
                deflate_on_oom: false,
                stats_polling_interval_s: 0,
                free_page_hinting: false,
                free_page_reporting: false,
            };
            assert_eq!(balloon.validate(128).is_ok(), ok, "{amount_mib}");
        }
    }
}
