//! What boots a container: a kernel, and an initial RAM disk with the agent.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The configuration, unless the environment names another one, and where things are if it does not say.
const FILE: &str = "/etc/ravelin/config.toml";
const VARIABLE: &str = "RAVELIN_CONFIG";
const KERNEL: &str = "/usr/local/share/ravelin/vmlinux";
const AGENT: &str = "/usr/local/share/ravelin/agent.cpio";
/// A file of the guest kit's (`tools/guest all --json`), for tests and first tries.
const KIT: &str = "RAVELIN_KIT";

/// A kernel and an agent, if they are anywhere.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Kit {
    pub(super) kernel: Option<PathBuf>,
    pub(super) agent: Option<PathBuf>,
}

impl Kit {
    /// Those of the guest kit that the environment names; or of the configuration; or where they usually are.
    pub(super) fn find() -> Self {
        let file = env::var_os(VARIABLE).map_or_else(|| FILE.into(), PathBuf::from);
        let configured = fs::read_to_string(file)
            .ok()
            .and_then(|text| toml::from_str(&text).ok());
        let configured: Self = configured.unwrap_or_default();
        let kit = env::var_os(KIT)
            .and_then(|path| fs::read(path).ok())
            .map(|text| Self::of_guest_kit(&text));
        let kit = kit.unwrap_or_default();
        let usual = |path: &str| Some(PathBuf::from(path)).filter(|path| path.is_file());
        Self {
            kernel: kit.kernel.or(configured.kernel).or_else(|| usual(KERNEL)),
            agent: kit.agent.or(configured.agent).or_else(|| usual(AGENT)),
        }
    }

    fn of_guest_kit(text: &[u8]) -> Self {
        let all: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
        let path = |name: &str| all[name].as_str().map(|path| Path::new(path).to_owned());
        Self {
            kernel: path("vmlinux-trimmed"),
            agent: path("agent.cpio"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_kit_has_a_kernel_and_an_agent() {
        let kit = Kit::of_guest_kit(
            br#"{"vmlinux-trimmed": "/k", "agent.cpio": "/a", "root.ext4": "/r"}"#,
        );
        let (kernel, agent) = (Some("/k".into()), Some("/a".into()));
        assert_eq!(kit, Kit { kernel, agent });
    }

    #[test]
    fn a_configuration_may_say_more() {
        let kit: Kit = toml::from_str("kernel = \"/k\"\nvcpus = 2\n").unwrap();
        assert_eq!(kit.kernel, Some("/k".into()));
    }
}
