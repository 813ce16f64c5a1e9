//! A container as the OCI runtime specification describes it (config.json, version 1), as far as the agent does what it
//! says.
//!
//! **A field that is not in here is refused by its name**, and so is one that is known and could not be obeyed
//! (`refuse`): a caller never believes in a wall that is not there. What belongs to the host is taken and not looked at:
//! annotations, the root's path, paths of namespaces, the cgroup's path.

pub(crate) mod capability;
mod linux;
mod refuse;
mod resources;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use capability::Capabilities;
pub(crate) use linux::{
    ArgumentRule, Device, IdMapping, Linux, NamespaceKind, Operator, Seccomp, SeccompAction,
    SyscallRule,
};
pub(crate) use refuse::Refusal;
pub(crate) use resources::{DeviceRule, Resources};

/// A container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Spec {
    pub(crate) oci_version: String,
    pub(crate) root: Option<Root>,
    pub(crate) process: Option<Process>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) mounts: Vec<Mount>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) linux: Linux,
    hooks: Option<BTreeMap<String, Option<Vec<serde_json::Value>>>>,
    #[serde(skip_serializing)]
    annotations: IgnoredAny,
}

/// Its root file system, of which only this is looked at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Root {
    path: String,
    pub(crate) readonly: bool,
}

/// A process of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<ConsoleSize>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) user: User,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) args: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) capabilities: Option<Capabilities>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    apparmor_profile: Option<String>,
    selinux_label: Option<String>,
}

/// The size of its terminal in characters.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConsoleSize {
    pub(crate) height: u16,
    pub(crate) width: u16,
}

/// Who it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: Option<u32>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) additional_gids: Vec<u32>,
    /// Of other systems.
    #[serde(skip_serializing)]
    username: IgnoredAny,
}

/// One of its limits, by the name of setrlimit(2).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

/// Something that is mounted into it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Mount {
    pub(crate) destination: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) source: Option<String>,
    #[serde(deserialize_with = "or_nothing")]
    pub(crate) options: Vec<String>,
    #[serde(deserialize_with = "or_nothing")]
    uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "or_nothing")]
    gid_mappings: Vec<IdMapping>,
}

impl Spec {
    /// From config.json.
    ///
    /// # Errors
    ///
    /// It is no such document, or asks for something that the agent does not do.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let spec: Self = serde_json::from_slice(text).map_err(Refusal::Container)?;
        refuse::spec(&spec)?;
        Ok(spec)
    }

    /// The first process, which a parsed document has.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it was looked for")
    }
}

impl Process {
    /// From `process` of a config.json.
    ///
    /// # Errors
    ///
    /// As [`Spec::parse`].
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let process: Self = serde_json::from_slice(text).map_err(Refusal::Process)?;
        refuse::process(&process)?;
        Ok(process)
    }
}

impl Resources {
    /// From `linux.resources` of a config.json.
    ///
    /// # Errors
    ///
    /// As [`Spec::parse`].
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let resources: Self = serde_json::from_slice(text).map_err(Refusal::Resources)?;
        refuse::resources(&resources)?;
        Ok(resources)
    }
}

/// A value that some writers leave out by `null`.
fn or_nothing<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
