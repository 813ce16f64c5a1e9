//! What a VM has left behind whose processes were all killed, or whose host went down under it.

use std::path::PathBuf;

use serde::Serialize;

/// Something that was left behind, or lies where such things lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Remnant {
    /// What it is.
    pub(crate) kind: Kind,
    /// The VM that it is of, if it is one's.
    pub(crate) vm: Option<String>,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What has become of it.
    #[serde(flatten)]
    pub(crate) fate: Fate,
}

/// What was left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A monitor's cgroup, or the one above several.
    Cgroup,
    /// An entry among the running VMs, written or half written.
    Entry,
    /// A socket that nobody serves.
    Socket,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", content = "why", rename_all = "kebab-case")]
pub(crate) enum Fate {
    /// It is gone.
    Removed,
    /// It would have been removed.
    Found,
    /// It is not ravelin's, and stays.
    Foreign(String),
    /// It cannot be removed.
    Stays(String),
}

impl Kind {
    /// What it is, in a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Entry => "entry",
            Self::Socket => "socket",
        }
    }
}

impl Fate {
    /// Of something that is to be removed, unless it is only looked at.
    pub(crate) fn by<E: ToString>(dry_run: bool, remove: impl FnOnce() -> Result<(), E>) -> Self {
        match dry_run {
            true => Self::Found,
            false => match remove() {
                Ok(()) => Self::Removed,
                Err(error) => Self::Stays(error.to_string()),
            },
        }
    }
}
