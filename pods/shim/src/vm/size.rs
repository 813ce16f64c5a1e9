//! How large a container's VM is.

use crate::spec::Limits;
use image::config::Config;

/// The most and fewest of each.
const MOST_VCPUS: u64 = 32;
const LEAST_MIB: u64 = 128;
const MIB: u64 = 1 << 20;

/// A VM's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// vCPUs.
    pub(crate) vcpus: u64,
    /// Memory, MiB.
    pub(crate) memory_mib: u64,
}

impl Size {
    /// Of a container with these limits: its memory and what the guest itself needs, and as many vCPUs as its quota
    /// fills.
    pub(crate) fn of(limits: Limits, config: &Config) -> Self {
        let memory = limits
            .memory_bytes
            .map(|bytes| bytes.div_ceil(MIB).saturating_add(config.overhead_mib));
        let vcpus = limits
            .cpu_quota_us
            .map(|quota| quota.div_ceil(limits.cpu_period_us.max(1)));
        Self {
            vcpus: vcpus.unwrap_or(config.vcpus).clamp(1, MOST_VCPUS),
            memory_mib: memory.unwrap_or(config.memory_mib).max(LEAST_MIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_what_the_container_has_for_itself() {
        let limits = Limits {
            memory_bytes: Some((256 << 20) + 1),
            cpu_quota_us: Some(150_000),
            cpu_period_us: 100_000,
        };
        assert_eq!(
            Size::of(limits, &Config::default()),
            Size {
                vcpus: 2,
                memory_mib: 257 + 64
            }
        );
    }

    #[test]
    fn without_limits_the_configuration_says() {
        assert_eq!(
            Size::of(Limits::default(), &Config::default()),
            Size {
                vcpus: 1,
                memory_mib: 512
            }
        );
    }
}
