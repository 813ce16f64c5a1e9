//! The walls of a cell: the one table of their names, for the command line, the help and messages.

use std::fmt;

/// A wall around a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wall {
    /// A mount namespace, and in it an empty read-only root.
    Root,
    /// A PID namespace, whose first process the monitor is.
    Pid,
    /// A network namespace with nothing in it.
    Net,
    /// A user namespace with one user and one group.
    User,
    /// An IPC namespace.
    Ipc,
    /// A UTS namespace.
    Uts,
    /// A cgroup namespace.
    CgroupNamespace,
    /// Control groups with limits.
    Cgroup,
    /// Resource limits of the process.
    Rlimits,
    /// No capability in any set, and none to be had.
    Capabilities,
    /// No new privileges.
    NoNewPrivileges,
    /// Memory that is writable never becomes code, and none of it is merged.
    Memory,
    /// A label of the security module.
    Label,
    /// Landlock: no file, no port, no signal.
    Landlock,
    /// A filter of system calls for each thread, by its role.
    Seccomp,
    /// The self-check before the guest's first instruction.
    Audit,
}

/// Every wall, its name on the command line, and what is missing without it.
const TABLE: [(Wall, &str, &str); 16] = [
    (Wall::Root, "root", "it sees the host's files"),
    (Wall::Pid, "ns-pid", "it sees the host's processes"),
    (Wall::Net, "ns-net", "it reaches the host's network"),
    (Wall::User, "ns-user", "its user is one of the host's"),
    (Wall::Ipc, "ns-ipc", "it sees the host's shared memory"),
    (Wall::Uts, "ns-uts", "it sees the host's name"),
    (
        Wall::CgroupNamespace,
        "ns-cgroup",
        "it sees the host's cgroups",
    ),
    (
        Wall::Cgroup,
        "cgroup",
        "it may use the host's memory and processors without a limit",
    ),
    (
        Wall::Rlimits,
        "rlimits",
        "it may use as many files and processes as any other",
    ),
    (
        Wall::Capabilities,
        "capabilities",
        "it has its user's capabilities",
    ),
    (
        Wall::NoNewPrivileges,
        "no-new-privs",
        "a program that it starts may get more rights",
    ),
    (
        Wall::Memory,
        "memory",
        "what it writes may be run as its code",
    ),
    (
        Wall::Label,
        "label",
        "the security module knows it as its caller",
    ),
    (
        Wall::Landlock,
        "landlock",
        "one wall less between it and files",
    ),
    (
        Wall::Seccomp,
        "seccomp",
        "it may ask the kernel for anything",
    ),
    (Wall::Audit, "audit", "nobody looks whether its walls stand"),
];

impl Wall {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// What is missing without it, as half a sentence about the monitor.
    pub(crate) fn loss(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        &TABLE[self as usize]
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of walls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WallSet(u16);

impl fmt::Debug for WallSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl WallSet {
    /// All of them.
    pub(crate) const ALL: Self = Self(u16::MAX);

    /// Whether a wall is among them.
    pub(crate) fn has(self, wall: Wall) -> bool {
        self.0 & (1 << wall as u8) != 0
    }

    /// The same without a wall.
    pub(crate) fn without(self, wall: Wall) -> Self {
        Self(self.0 & !(1 << wall as u8))
    }

    /// The walls that are in both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The walls, in the table's order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Wall> {
        TABLE
            .iter()
            .map(|row| row.0)
            .filter(move |wall| self.has(*wall))
    }

    /// All walls but those of a list: names with commas between them.
    ///
    /// # Errors
    /// A sentence: a name that is no wall's.
    pub(crate) fn all_but(list: &str) -> Result<Self, String> {
        list.split(',').try_fold(Self::ALL, |walls, name| {
            let wall = TABLE.iter().find(|row| row.1 == name);
            wall.map(|row| walls.without(row.0)).ok_or_else(|| {
                let names: Vec<_> = TABLE.iter().map(|row| row.1).collect();
                format!("`{name}` is no wall: {} were expected", names.join(", "))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wall_has_its_row() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert!(TABLE[..index].iter().all(|other| other.1 != row.1));
        }
    }

    #[test]
    fn a_list_takes_walls_out() {
        let walls = WallSet::all_but("landlock,ns-pid").unwrap();
        assert!(!walls.has(Wall::Landlock) && !walls.has(Wall::Pid) && walls.has(Wall::Net));
        assert_eq!(WallSet::ALL.iter().count(), walls.iter().count() + 2);
    }

    #[test]
    fn a_name_that_is_no_walls_is_refused_with_those_that_are() {
        let error = WallSet::all_but("landlock,moat").unwrap_err();
        assert!(
            error.starts_with("`moat` is no wall: root, ns-pid,"),
            "{error}"
        );
        assert!(WallSet::all_but("").is_err());
    }
}
