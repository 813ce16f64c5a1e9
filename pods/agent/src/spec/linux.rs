//! `linux` of the specification: namespaces, devices, filters.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::or_nothing;
use super::resources::Resources;

/// What is Linux's own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Linux {
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) gid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) devices: Vec<Device>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) resources: Resources,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) sysctl: BTreeMap<String, String>,
    pub(crate) rootfs_propagation: Option<String>,
    pub(crate) seccomp: Option<Seccomp>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) masked_paths: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) readonly_paths: Vec<String>,
    pub(super) mount_label: Option<String>,
    #[serde(skip_serializing)]
    cgroups_path: IgnoredAny,
}

/// A namespace that it has for itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    /// Of the host, which is not looked at: but a network of somebody's is the guest's.
    #[serde(default)]
    pub(crate) path: Option<String>,
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

/// Users or groups of the container that are others outside.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(crate) container: u32,
    #[serde(rename = "hostID")]
    pub(crate) host: u32,
    pub(crate) size: u32,
}

/// A file of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) path: String,
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) major: u32,
    #[serde(default)]
    pub(crate) minor: u32,
    pub(crate) file_mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Which system calls it may make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Seccomp {
    pub(crate) default_action: SeccompAction,
    pub(crate) default_errno_ret: Option<u16>,
    /// Filters are made for this guest's own architecture; calls of others end the process.
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "taken, and not looked at")]
    architectures: IgnoredAny,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) flags: Vec<String>,
    pub(super) listener_path: Option<String>,
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "taken, and not looked at")]
    listener_metadata: IgnoredAny,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) syscalls: Vec<SyscallRule>,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(clippy::enum_variant_names, reason = "the specification's words")]
pub(crate) enum SeccompAction {
    ScmpActKill,
    ScmpActKillThread,
    ScmpActKillProcess,
    ScmpActTrap,
    ScmpActErrno,
    ScmpActTrace,
    ScmpActLog,
    ScmpActAllow,
    ScmpActNotify,
}

/// A rule for some calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SyscallRule {
    pub(crate) names: Vec<String>,
    pub(crate) action: SeccompAction,
    pub(crate) errno_ret: Option<u16>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) args: Vec<ArgumentRule>,
}

/// What an argument must be for the rule to hold.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ArgumentRule {
    pub(crate) index: u8,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: Operator,
}

/// How it is compared.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(clippy::enum_variant_names, reason = "the specification's words")]
pub(crate) enum Operator {
    ScmpCmpNe,
    ScmpCmpLt,
    ScmpCmpLe,
    ScmpCmpEq,
    ScmpCmpGe,
    ScmpCmpGt,
    /// `argument & value == value_two`
    ScmpCmpMaskedEq,
}
