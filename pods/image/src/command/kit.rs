//! What boots a container: a kernel, and an initial RAM disk with the agent.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use image::config::Config;

/// A file of the guest kit's (`tools/guest all --json`), for tests and first tries.
const KIT: &str = "RAVELIN_KIT";

/// A kernel and an agent, if they are anywhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kit {
    pub(super) kernel: Option<PathBuf>,
    pub(super) agent: Option<PathBuf>,
}

impl Kit {
    /// Those of the guest kit that the environment names, or of the configuration.
    pub(super) fn find(config: &Config) -> Self {
        let kit = env::var_os(KIT)
            .and_then(|path| fs::read(path).ok())
            .map(|text| Self::of_guest_kit(&text));
        kit.unwrap_or_default().or(config)
    }

    /// Those of the configuration for what is missing. Where nobody has named one, the usual place may be empty.
    fn or(self, config: &Config) -> Self {
        let usual = Config::default();
        let there = |path: &Path, usual: &Path| {
            Some(path.to_owned()).filter(|path| path != usual || path.is_file())
        };
        let Self { kernel, agent } = self;
        Self {
            kernel: kernel.or_else(|| there(&config.kernel, &usual.kernel)),
            agent: agent.or_else(|| there(&config.agent, &usual.agent)),
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
    fn what_is_configured_is_named_also_where_it_is_missing() {
        let config = Config {
            kernel: "/nonexistent/k".into(),
            ..Config::default()
        };
        let kit = Kit::default().or(&config);
        assert_eq!(kit.kernel, Some("/nonexistent/k".into()));
    }
}
