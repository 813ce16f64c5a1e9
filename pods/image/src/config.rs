//! This host's configuration, of containerd's shim and of `ravelin run --image` alike: `/etc/ravelin/config.toml`, every key of
//! which may be missing, as may the file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The file, if the environment names no other one.
const FILE: &str = "/etc/ravelin/config.toml";
/// What names another one.
const VARIABLE: &str = "RAVELIN_CONFIG";
/// The program that a VM's monitor is, beside this one or in PATH.
const MONITOR: &str = "ravelin";

/// What may be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The monitor's program.
    pub ravelin: Option<PathBuf>,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk that the agent is in.
    pub agent: PathBuf,
    /// Memory of a container that has no limit, MiB.
    pub memory_mib: u64,
    /// Memory of the guest beside its containers': its kernel and its agent, MiB.
    pub overhead_mib: u64,
    /// vCPUs of a container that has no limit.
    pub vcpus: u64,
    /// Where disks that were made of images are kept.
    pub cache: PathBuf,
    /// How large they may be together, MiB.
    pub cache_mib: u64,
    /// Kernel parameters behind the usual ones.
    pub kernel_parameters: String,
    /// How long a guest may take until its agent answers, seconds.
    pub start_seconds: u64,
    /// How long the agent may take for an answer, seconds.
    pub answer_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ravelin: None,
            kernel: "/usr/local/share/ravelin/vmlinux".into(),
            agent: "/usr/local/share/ravelin/agent.cpio".into(),
            memory_mib: 512,
            overhead_mib: 64,
            vcpus: 1,
            cache: "/var/lib/ravelin/images".into(),
            cache_mib: 10 << 10,
            kernel_parameters: String::new(),
            start_seconds: 60,
            answer_seconds: 20,
        }
    }
}

/// A configuration that is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("the configuration {0} cannot be read: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// It says what nobody understands.
    #[error("the configuration {0} is wrong: {1}")]
    Parse(PathBuf, String),
}

impl Config {
    /// What is configured on this host.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong.
    pub fn of_this_host() -> Result<Self, ConfigError> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let is_named = named.is_some();
        let path = named.unwrap_or_else(|| FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::read(&text).map_err(|error| ConfigError::Parse(path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {
                Ok(Self::default())
            }
            Err(error) => Err(ConfigError::Read(path, error)),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim().replace('\n', " "))
    }

    /// The monitor's program.
    pub fn monitor(&self) -> PathBuf {
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.parent()?.join(MONITOR)).filter(|path| path.is_file())
        };
        let named = self.ravelin.clone().or_else(beside);
        named.unwrap_or_else(|| Path::new(MONITOR).to_owned())
    }

    /// How long a guest may take until its agent answers.
    pub fn start_limit(&self) -> Duration {
        Duration::from_secs(self.start_seconds.max(1))
    }

    /// How long the agent may take for an answer.
    pub fn answer_limit(&self) -> Duration {
        Duration::from_secs(self.answer_seconds.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_may_be_missing() {
        assert_eq!(Config::read("").unwrap().memory_mib, 512);
        assert_eq!(Config::read("memory_mib = 256\n").unwrap().memory_mib, 256);
    }

    #[test]
    fn a_mistyped_key_is_named() {
        let error = Config::read("memory = 256\n").unwrap_err();
        assert!(error.contains("memory"), "{error}");
    }
}
