//! Which walls there are, and which of them must stand: the one table.

use serde::Serialize;

/// Where a row stands in the text form, and a word for all of its walls on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Section {
    /// Who the process is and what it may.
    Identity,
    /// What of the system it sees.
    Namespaces,
    /// What it may ask of the kernel.
    Syscalls,
    /// What it holds.
    Holdings,
    /// How much it may use.
    Limits,
    /// What stands around all VMs.
    Host,
}

impl Section {
    /// Its word on the command line and in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Namespaces => "namespaces",
            Self::Syscalls => "syscalls",
            Self::Holdings => "holdings",
            Self::Limits => "limits",
            Self::Host => "host",
        }
    }
}

/// A wall.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wall {
    /// A name that stays the same from release to release.
    pub(crate) id: &'static str,
    /// A name for people.
    pub(crate) title: &'static str,
    /// Where its row stands.
    pub(crate) section: Section,
    /// Whether it must stand, unless the user says otherwise.
    required: bool,
}

const fn required(section: Section, id: &'static str, title: &'static str) -> Wall {
    Wall {
        id,
        title,
        section,
        required: true,
    }
}

const fn wanted(section: Section, id: &'static str, title: &'static str) -> Wall {
    Wall {
        required: false,
        ..required(section, id, title)
    }
}

use Section::{Holdings, Host, Identity, Limits, Namespaces, Syscalls};

/// Every wall, in the order of the report.
///
/// Not required is what not every host or user can have (a label, control groups without delegation, an id
/// change without root), what nobody can see from outside, and the host, which is its owner's.
pub(crate) const WALLS: [Wall; 50] = [
    wanted(Identity, "user", "not root, one user"),
    wanted(Identity, "groups", "no further groups"),
    required(Identity, "capabilities", "no capabilities"),
    required(Identity, "no-new-privs", "no new privileges"),
    required(Identity, "dumpable", "not dumpable"),
    required(Identity, "untraced", "not traced"),
    required(Identity, "environment", "empty environment"),
    wanted(Identity, "label", "security label"),
    wanted(Identity, "securebits", "locked securebits"),
    required(Namespaces, "ns-mount", "mount namespace"),
    required(Namespaces, "ns-pid", "process namespace"),
    required(Namespaces, "ns-net", "network namespace"),
    required(Namespaces, "ns-user", "user namespace"),
    required(Namespaces, "ns-ipc", "IPC namespace"),
    required(Namespaces, "ns-uts", "host name namespace"),
    required(Namespaces, "ns-cgroup", "cgroup namespace"),
    required(Namespaces, "user-map", "one user in its namespace"),
    required(Namespaces, "group-map", "one group in its namespace"),
    required(Namespaces, "root", "empty read-only root"),
    required(Syscalls, "seccomp", "seccomp filter"),
    required(Syscalls, "syscall-list", "all other calls refused"),
    required(Syscalls, "syscall-ban", "no dangerous call"),
    required(Syscalls, "syscall-abi", "no foreign call"),
    wanted(Syscalls, "landlock", "Landlock"),
    required(Holdings, "descriptors", "only a VM's descriptors"),
    required(Holdings, "memory", "no writable code"),
    wanted(Holdings, "merging", "memory not merged"),
    wanted(Limits, "cgroup", "control group of its own"),
    wanted(Limits, "cgroup-memory", "memory limit"),
    wanted(Limits, "cgroup-pids", "limit of processes"),
    wanted(Limits, "cgroup-cpu", "processor limit"),
    wanted(Limits, "cgroup-devices", "list of devices"),
    required(Limits, "rlimit-core", "no core dumps"),
    required(Limits, "rlimit-nofile", "few open files"),
    wanted(Limits, "rlimit-nproc", "few processes"),
    wanted(Limits, "rlimit-memlock", "bounded locked memory"),
    wanted(Limits, "rlimit-as", "bounded address space"),
    wanted(Limits, "rlimit-fsize", "bounded file size"),
    wanted(Host, "lsm", "security module"),
    wanted(Host, "cpu-vulnerabilities", "CPU without known holes"),
    wanted(Host, "smt", "no shared cores (SMT off)"),
    wanted(Host, "ksm", "no merged memory (KSM off)"),
    wanted(Host, "swap", "no swap"),
    wanted(Host, "disk-encryption", "encrypted disks"),
    wanted(Host, "clock", "clock in step"),
    wanted(Host, "fips", "FIPS mode"),
    wanted(Host, "read-only-root", "read-only root"),
    wanted(Host, "lockdown", "kernel lockdown"),
    wanted(Host, "unprivileged-bpf", "BPF for root only"),
    wanted(Host, "unprivileged-userns", "user namespaces for root only"),
];

/// Why walls cannot be chosen so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    /// A word that is no wall and no section.
    #[error("`{given}` is no wall: {known} or an id of `ravelin audit --json` was expected")]
    NoSuchWall {
        /// The word.
        given: String,
        /// The sections.
        known: String,
    },
    /// To look away from a wall must not make it stand.
    #[error(
        "`{0}` is required and would not be looked at: name it in --only as well, or do not require it"
    )]
    NotShown(&'static str),
}

/// Which walls are shown, and which of them must stand.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    shown: Vec<&'static Wall>,
    required: Vec<&'static str>,
    /// Whether the user said what is required.
    is_chosen: bool,
    /// Whether all that is asked is if the walls stand.
    is_brief: bool,
}

impl Policy {
    /// The table's.
    pub(crate) fn standard() -> Self {
        let required = WALLS.iter().filter(|wall| wall.required);
        Self {
            required: required.map(|wall| wall.id).collect(),
            shown: WALLS.iter().collect(),
            is_chosen: false,
            is_brief: false,
        }
    }

    /// Requires these walls, or sections of walls, and no others.
    ///
    /// # Errors
    /// When a word is no wall and no section, or a wall is not shown.
    pub(crate) fn require(mut self, words: &[String]) -> Result<Self, PolicyError> {
        self.required = named(words)?.iter().map(|wall| wall.id).collect();
        self.is_chosen = true;
        self.checked()
    }

    /// Shows these walls, or sections of walls, and no others. Of the table's required walls those that are
    /// not shown are not required.
    ///
    /// # Errors
    /// When a word is no wall and no section, or a wall that the user requires is not shown.
    pub(crate) fn only(mut self, words: &[String]) -> Result<Self, PolicyError> {
        self.shown = named(words)?;
        self.checked()
    }

    /// Asks for nothing but whether the walls stand: of who is there no more is told than they need.
    pub(crate) fn briefly(self) -> Self {
        Self {
            is_brief: true,
            ..self
        }
    }

    /// Whether every thread is to be told of.
    pub(crate) fn tells_of_threads(&self) -> bool {
        !self.is_brief
    }

    fn checked(self) -> Result<Self, PolicyError> {
        let is_shown = |id: &&&str| self.shown().any(|wall| wall.id == **id);
        match self.required.iter().find(|id| !is_shown(id)) {
            Some(hidden) if self.is_chosen => Err(PolicyError::NotShown(hidden)),
            _ => Ok(self),
        }
    }

    /// The walls to show, in the table's order.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &'static Wall> {
        self.shown.iter().copied()
    }

    /// Whether anything of a section is shown.
    pub(crate) fn shows(&self, section: Section) -> bool {
        self.shown().any(|wall| wall.section == section)
    }

    /// Whether anything that is shown belongs to a process and not to the host.
    pub(crate) fn needs_a_process(&self) -> bool {
        self.shown().any(|wall| wall.section != Host)
    }

    /// Whether a wall must stand.
    pub(crate) fn requires(&self, id: &str) -> bool {
        self.required.contains(&id) && self.shown().any(|wall| wall.id == id)
    }
}

/// The walls of these words, in the table's order.
fn named(words: &[String]) -> Result<Vec<&'static Wall>, PolicyError> {
    let means = |word: &String, wall: &Wall| *word == wall.id || *word == wall.section.word();
    if let Some(given) = words
        .iter()
        .find(|word| !WALLS.iter().any(|wall| means(word, wall)))
    {
        let sections = [Identity, Namespaces, Syscalls, Holdings, Limits, Host];
        return Err(PolicyError::NoSuchWall {
            given: given.clone(),
            known: sections.map(Section::word).join(", "),
        });
    }
    let meant = |wall: &&Wall| words.iter().any(|word| means(word, wall));
    Ok(WALLS.iter().filter(meant).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn every_wall_has_an_id_of_its_own() {
        for (index, wall) in WALLS.iter().enumerate() {
            assert!(WALLS[..index].iter().all(|other| other.id != wall.id));
        }
    }

    #[test]
    fn a_section_means_all_of_its_walls() {
        let policy = Policy::standard().only(&words(&["host"])).unwrap();
        assert!(policy.shows(Host) && !policy.shows(Identity));
        assert!(!policy.requires("capabilities"));
        let policy = Policy::standard().require(&words(&["namespaces"])).unwrap();
        assert!(policy.requires("ns-net") && !policy.requires("capabilities"));
    }

    #[test]
    fn a_wall_that_is_asked_for_is_not_looked_away_from() {
        let policy = Policy::standard().require(&words(&["root"])).unwrap();
        let error = policy.only(&words(&["host"])).unwrap_err();
        assert_eq!(error, PolicyError::NotShown("root"));
        let policy = Policy::standard().only(&words(&["host"])).unwrap();
        let error = policy.require(&words(&["root"])).unwrap_err();
        assert_eq!(error, PolicyError::NotShown("root"));
    }

    #[test]
    fn a_word_that_is_no_wall_is_named() {
        let error = Policy::standard().only(&words(&["moat"])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`moat` is no wall: identity,")
        );
    }
}
