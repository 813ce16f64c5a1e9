//! `linux.resources` of the specification: what a container may use.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::or_nothing;

/// Limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Resources {
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) devices: Vec<DeviceRule>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) memory: Memory,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) cpu: Cpu,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) pids: Pids,
    #[serde(rename = "blockIO", deserialize_with = "or_nothing")]
    pub(crate) block_io: BlockIo,
    #[serde(deserialize_with = "or_nothing")]
    pub(super) hugepage_limits: Vec<HugepageLimit>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) unified: BTreeMap<String, String>,
    /// Classes of packets, which no network of a guest looks at.
    #[serde(skip_serializing)]
    network: IgnoredAny,
    #[serde(deserialize_with = "or_nothing")]
    pub(super) rdma: BTreeMap<String, serde_json::Value>,
}

/// Whether some devices may be used; the last rule that fits decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeviceRule {
    pub(crate) allow: bool,
    /// `a`, `c` or `b`; none is all.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// None and -1 are all.
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    /// Of `rwm`.
    pub(crate) access: Option<String>,
}

/// Memory, bytes; -1 is no limit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Memory {
    pub(crate) limit: Option<i64>,
    pub(crate) reservation: Option<i64>,
    /// Memory and swap together.
    pub(crate) swap: Option<i64>,
    #[serde(rename = "disableOOMKiller")]
    pub(super) disable_oom_killer: Option<bool>,
    /// What cgroups of version 2 do not have: hints, which runtimes leave out there.
    #[serde(skip_serializing)]
    swappiness: IgnoredAny,
    #[serde(skip_serializing)]
    kernel: IgnoredAny,
    #[serde(rename = "kernelTCP", skip_serializing)]
    kernel_tcp: IgnoredAny,
    #[serde(skip_serializing)]
    use_hierarchy: IgnoredAny,
    #[serde(skip_serializing)]
    check_before_update: IgnoredAny,
}

/// Time of processors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Cpu {
    /// Of version 1: 2 to 262144.
    pub(crate) shares: Option<u64>,
    /// Microseconds a period; 0 and -1 are no limit.
    pub(crate) quota: Option<i64>,
    pub(crate) period: Option<u64>,
    pub(crate) burst: Option<u64>,
    pub(crate) idle: Option<i64>,
    pub(crate) cpus: Option<String>,
    pub(crate) mems: Option<String>,
    pub(super) realtime_runtime: Option<i64>,
    pub(super) realtime_period: Option<u64>,
}

/// Processes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pids {
    /// 0 and less is no limit.
    pub(crate) limit: Option<i64>,
}

/// Reading and writing of disks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct BlockIo {
    /// Of version 1: 10 to 1000.
    pub(crate) weight: Option<u16>,
    pub(super) leaf_weight: Option<u16>,
    #[serde(deserialize_with = "or_nothing")]
    pub(super) weight_device: Vec<serde_json::Value>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) throttle_read_bps_device: Vec<Throttle>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) throttle_write_bps_device: Vec<Throttle>,
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "or_nothing")]
    pub(crate) throttle_read_iops_device: Vec<Throttle>,
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "or_nothing")]
    pub(crate) throttle_write_iops_device: Vec<Throttle>,
}

/// A rate of a disk, by its number in the guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Throttle {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) rate: u64,
}

/// Large pages, which guests do not have: a limit of 0 is what there is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HugepageLimit {
    page_size: String,
    pub(super) limit: u64,
}
