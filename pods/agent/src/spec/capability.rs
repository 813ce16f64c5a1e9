//! Capabilities by name (capabilities(7)).

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::or_nothing;

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The five sets of a process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Capabilities {
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) bounding: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) effective: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) inheritable: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) permitted: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) ambient: Vec<String>,
}

impl Capabilities {
    /// Every name in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.bounding
            .iter()
            .chain(&self.effective)
            .chain(&self.inheritable)
            .chain(&self.permitted)
            .chain(&self.ambient)
    }
}

/// Every capability that there is a name for.
pub(crate) fn all() -> impl Iterator<Item = CapabilitySet> {
    (0..NAMES.len()).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// The one with a name such as `CAP_KILL`.
pub(crate) fn named(name: &str) -> Option<CapabilitySet> {
    let name = name.strip_prefix("CAP_")?;
    let number = NAMES.iter().position(|known| *known == name)?;
    Some(CapabilitySet::from_bits_retain(1 << number))
}

/// The set of some names; one that is none is left out, for they were looked at before.
pub(crate) fn set(names: &[String]) -> CapabilitySet {
    names.iter().filter_map(|name| named(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_the_kernels_number() {
        assert_eq!(named("CAP_CHOWN"), Some(CapabilitySet::CHOWN));
        assert_eq!(named("CAP_SYS_ADMIN"), Some(CapabilitySet::SYS_ADMIN));
        assert_eq!(
            named("CAP_CHECKPOINT_RESTORE"),
            Some(CapabilitySet::CHECKPOINT_RESTORE)
        );
        assert_eq!(named("SYS_ADMIN"), None);
        assert_eq!(named("CAP_EVERYTHING"), None);
    }
}
