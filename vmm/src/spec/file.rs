//! Firecracker's configuration file, with its keys for things that this version lacks.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{BootSource, Drive, Entropy, MachineConfig, NetworkInterface, Spec};

/// What a file may hold. [`Spec`] is what is left when nothing stands under the keys that are not
/// supported; its fields say what the others mean.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    boot_source: BootSource,
    #[serde(default)]
    drives: Vec<Drive>,
    #[serde(default)]
    machine_config: MachineConfig,
    #[serde(default)]
    network_interfaces: Vec<NetworkInterface>,
    #[serde(default)]
    entropy: Option<Entropy>,
    #[serde(default)]
    balloon: Absent,
    #[serde(default)]
    cpu_config: Absent,
    #[serde(default)]
    logger: Absent,
    #[serde(default)]
    memory_hotplug: Absent,
    #[serde(default)]
    metrics: Absent,
    #[serde(default)]
    mmds_config: Absent,
    #[serde(default)]
    pmem: Absent,
    #[serde(default)]
    serial: Absent,
    #[serde(default)]
    vsock: Absent,
}

/// A key of Firecracker's file was used for something that this version lacks.
#[derive(Debug, thiserror::Error)]
#[error("the key `{0}` is not supported by this version: leave it out, or let it be null")]
pub(super) struct NotSupported(&'static str);

/// Whether anything stands where nothing may.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Absent {
    #[default]
    Nothing,
    Something,
}

impl<'de> Deserialize<'de> for Absent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let empty = match Value::deserialize(from)? {
            Value::Null => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        };
        Ok(if empty {
            Self::Nothing
        } else {
            Self::Something
        })
    }
}

impl TryFrom<File> for Spec {
    type Error = NotSupported;

    fn try_from(file: File) -> Result<Self, NotSupported> {
        let lacking = [
            ("balloon", file.balloon),
            ("cpu-config", file.cpu_config),
            ("logger", file.logger),
            ("memory-hotplug", file.memory_hotplug),
            ("metrics", file.metrics),
            ("mmds-config", file.mmds_config),
            ("pmem", file.pmem),
            ("serial", file.serial),
            ("vsock", file.vsock),
        ];
        match lacking.iter().find(|(_, held)| *held == Absent::Something) {
            Some((key, _)) => Err(NotSupported(key)),
            None => Ok(Self {
                boot_source: file.boot_source,
                drives: file.drives,
                machine_config: file.machine_config,
                network_interfaces: file.network_interfaces,
                entropy: file.entropy,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LACKING: [&str; 9] = [
        "balloon",
        "cpu-config",
        "logger",
        "memory-hotplug",
        "metrics",
        "mmds-config",
        "pmem",
        "serial",
        "vsock",
    ];

    fn parse(key: &str, value: &str) -> Result<Spec, String> {
        serde_json::from_str(&format!("{{\"{key}\": {value}}}")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_for_what_is_lacking_may_be_empty() {
        for key in LACKING {
            for empty in ["null", "{}", "[]"] {
                assert_eq!(parse(key, empty), Ok(Spec::default()), "{key} {empty}");
            }
        }
    }

    #[test]
    fn a_key_for_what_is_lacking_is_refused_by_name_when_it_holds_something() {
        for key in LACKING {
            for value in [r#"{"guest_cid": 3}"#, r#"[{"id": "a"}]"#, "\"x\"", "true"] {
                let error = parse(key, value).unwrap_err();
                assert!(
                    error.contains(&format!("`{key}` is not supported")),
                    "{error}"
                );
            }
        }
    }
}
