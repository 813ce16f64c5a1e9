//! The OCI runtime specification's document of a container: what the shim reads of it, and what of it goes into the guest.

use serde_json::{Map, Value};

/// By whom a container is said to belong to a sandbox, and to which: containerd's CRI and CRI-O.
const KINDS: [(&str, &str); 2] = [
    (
        "io.kubernetes.cri.container-type",
        "io.kubernetes.cri.sandbox-id",
    ),
    (
        "io.kubernetes.cri-o.ContainerType",
        "io.kubernetes.cri-o.SandboxID",
    ),
];

/// A document that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// No JSON object.
    #[error("the container's config.json cannot be read: {0}")]
    Json(String),
    /// Something of the host that a guest cannot have.
    #[error("{0}")]
    Refused(String),
}

/// What the host's limits for a container are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Memory, bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// Processor time, microseconds in each period.
    pub(crate) cpu_quota_us: Option<u64>,
    /// The period.
    pub(crate) cpu_period_us: u64,
}

/// A container's document.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    document: Map<String, Value>,
}

/// The sandbox that a container is put into, if it is in another one's than its own.
pub(crate) fn sandbox(text: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(text).ok()?;
    let annotations = document.get("annotations")?;
    let said = |key: &str| annotations.get(key).and_then(Value::as_str);
    KINDS.iter().find_map(|(kind, id)| match said(kind) {
        Some("container") => said(id).map(str::to_owned),
        _ => None,
    })
}

impl Spec {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn read(text: &[u8]) -> Result<Self, SpecError> {
        let document =
            serde_json::from_slice(text).map_err(|error| SpecError::Json(error.to_string()))?;
        Ok(Self { document })
    }

    /// A part of it: `["linux", "resources"]`.
    fn part(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.document.get(*first)?, |value, key| value.get(*key))
    }

    /// Where its cgroup is to be.
    pub(crate) fn cgroups_path(&self) -> Option<&str> {
        self.part(&["linux", "cgroupsPath"])?.as_str()
    }

    /// Its limits. A limit below nothing is none.
    pub(crate) fn limits(&self) -> Limits {
        let number = |path: &[&str]| {
            self.part(path)
                .and_then(Value::as_u64)
                .filter(|number| *number > 0)
        };
        Limits {
            // What is larger than any host is how "no limit" is said.
            memory_bytes: number(&["linux", "resources", "memory", "limit"])
                .filter(|bytes| *bytes < 1 << 50),
            cpu_quota_us: number(&["linux", "resources", "cpu", "quota"]),
            cpu_period_us: number(&["linux", "resources", "cpu", "period"]).unwrap_or(100_000),
        }
    }

    /// Its host name.
    pub(crate) fn hostname(&self) -> &str {
        self.part(&["hostname"])
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether nothing may be written to its root.
    pub(crate) fn is_read_only(&self) -> bool {
        self.part(&["root", "readonly"])
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// The mounts of it, for the files on the host that they name to be replaced.
    pub(crate) fn mounts_mut(&mut self) -> &mut [Value] {
        self.document
            .get_mut("mounts")
            .and_then(Value::as_array_mut)
            .map_or(&mut [], Vec::as_mut_slice)
    }

    /// Takes out of it what is the host's alone, and gives what the guest's agent gets.
    ///
    /// # Errors
    /// When it asks for what a guest cannot have.
    pub(crate) fn into_guest(mut self, id: &str) -> Result<Vec<u8>, SpecError> {
        if self.document.get("hooks").is_some_and(has_some) {
            log::warn!(
                "the hooks of the container are left out: they are programs of the host, and it runs in a guest"
            );
        }
        self.document.remove("hooks");
        self.document.remove("annotations");
        if let Some(process) = self
            .document
            .get_mut("process")
            .and_then(Value::as_object_mut)
        {
            guest_process(process);
        }
        if let Some(linux) = self
            .document
            .get_mut("linux")
            .and_then(Value::as_object_mut)
        {
            for namespace in linux
                .get_mut("namespaces")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                namespace
                    .as_object_mut()
                    .and_then(|namespace| namespace.remove("path"));
            }
            linux.insert("cgroupsPath".to_owned(), format!("/{id}").into());
            linux.remove("mountLabel");
            linux.remove("intelRdt");
        }
        serde_json::to_vec(&self.document).map_err(|error| SpecError::Json(error.to_string()))
    }
}

/// The document of a further process, without what is the host's alone.
///
/// # Errors
/// When it is none.
pub(crate) fn process_into_guest(text: &[u8]) -> Result<Vec<u8>, SpecError> {
    let wrong = |error: serde_json::Error| SpecError::Json(error.to_string());
    let mut process: Map<String, Value> = serde_json::from_slice(text).map_err(wrong)?;
    guest_process(&mut process);
    serde_json::to_vec(&process).map_err(wrong)
}

/// Labels are the host's security module's, and so is what its killer for want of memory thinks.
fn guest_process(process: &mut Map<String, Value>) {
    process.remove("apparmorProfile");
    process.remove("selinuxLabel");
    process.remove("oomScoreAdj");
}

fn has_some(hooks: &Value) -> bool {
    hooks.as_object().is_some_and(|kinds| {
        kinds
            .values()
            .any(|list| list.as_array().is_some_and(|list| !list.is_empty()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: &Value) -> Spec {
        Spec::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn limits_are_those_that_limit() {
        let limits = |resources: Value| spec(&json!({"linux": {"resources": resources}})).limits();
        let some =
            limits(json!({"memory": {"limit": 1000}, "cpu": {"quota": 50_000, "period": 10_000}}));
        assert_eq!(
            some,
            Limits {
                memory_bytes: Some(1000),
                cpu_quota_us: Some(50_000),
                cpu_period_us: 10_000
            }
        );
        let none = limits(json!({"memory": {"limit": -1}, "cpu": {"quota": -1}}));
        assert_eq!((none.memory_bytes, none.cpu_quota_us), (None, None));
        assert_eq!(
            limits(json!({"memory": {"limit": i64::MAX}})).memory_bytes,
            None
        );
    }

    #[test]
    fn what_is_the_hosts_does_not_reach_the_guest() {
        let whole = json!({
            "hooks": {"prestart": [{"path": "/bin/x"}]},
            "annotations": {"a": "b"},
            "process": {"args": ["sh"], "apparmorProfile": "x", "oomScoreAdj": -999},
            "linux": {"namespaces": [{"type": "network", "path": "/proc/7/ns/net"}], "cgroupsPath": "/k8s/pod"},
        });
        let guest: Value =
            serde_json::from_slice(&spec(&whole).into_guest("web").unwrap()).unwrap();
        let expected = json!({
            "process": {"args": ["sh"]},
            "linux": {"namespaces": [{"type": "network"}], "cgroupsPath": "/web"},
        });
        assert_eq!(guest, expected);
    }

    #[test]
    fn a_sandbox_is_found_in_the_words_of_both_engines() {
        for (kind, id) in KINDS {
            let text = |what: &str| json!({"annotations": {kind: what, id: "pod"}}).to_string();
            assert_eq!(
                sandbox(text("container").as_bytes()).as_deref(),
                Some("pod")
            );
            assert_eq!(sandbox(text("sandbox").as_bytes()), None);
        }
        assert_eq!(sandbox(b"{}"), None);
        assert_eq!(sandbox(b"nonsense"), None);
    }
}
