//! What a jail is to be: plain data, read from a command line.

use std::path::PathBuf;

use rustix::fs::{Gid, Uid};

/// A jail and what is to run in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The instance's id: letters, digits and hyphens, so that it is a safe name for a directory.
    pub(crate) id: String,
    /// The program to run in the jail.
    pub(crate) exec_file: PathBuf,
    /// Below it lies the jail's root, `<exec file's name>/<id>/root`.
    pub(crate) chroot_base: PathBuf,
    /// Who the program runs as.
    pub(crate) ids: Ids,
    /// A network namespace to join.
    pub(crate) netns: Option<PathBuf>,
    /// Whether to leave the terminal and the caller.
    pub(crate) daemonize: bool,
    /// Whether the program is the first process of a PID namespace of its own.
    pub(crate) new_pid_ns: bool,
    /// The cgroups to make.
    pub(crate) cgroups: Cgroups,
    /// Resource limits.
    pub(crate) limits: Limits,
    /// What is done beyond Firecracker's jailer.
    pub(crate) walls: Walls,
    /// Arguments that follow those which every exec file gets.
    pub(crate) extra_args: Vec<String>,
}

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// The user.
    pub(crate) uid: Uid,
    /// The group.
    pub(crate) gid: Gid,
}

/// Where the process is put, and which limits it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroups {
    /// Which kind of hierarchy.
    pub(crate) version: CgroupVersion,
    /// A relative path without `.` and `..`; the exec file's name where nothing was said.
    pub(crate) parent: Option<PathBuf>,
    /// The settings, in the order of the command line.
    pub(crate) settings: Vec<Setting>,
}

/// A kind of cgroup hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupVersion {
    /// A hierarchy per controller.
    V1,
    /// One hierarchy.
    V2,
}

/// A line for a cgroup's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The file: `<controller>.<property>`, no path.
    pub(crate) file: String,
    /// What is written to it.
    pub(crate) value: String,
}

/// Limits of the process and what it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The largest file it may make, in bytes.
    pub(crate) file_size: Option<u64>,
    /// One more than the largest number of a descriptor.
    pub(crate) open_files: u64,
}

/// What is done beyond Firecracker's jailer, each unless the user has said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walls {
    /// Own IPC, UTS and cgroup namespaces.
    pub(crate) namespaces: bool,
    /// No capability in any set, and none to be had again.
    pub(crate) capabilities: bool,
    /// No program that it starts gets rights which it has not.
    pub(crate) no_new_privileges: bool,
    /// No core dump: one would hold the guest's memory.
    pub(crate) no_core_dump: bool,
}

impl Walls {
    /// All of them.
    pub(crate) const ALL: Self = Self {
        namespaces: true,
        capabilities: true,
        no_new_privileges: true,
        no_core_dump: true,
    };

    /// The wall of a name: a switch to set.
    pub(crate) fn named(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "namespaces" => Some(&mut self.namespaces),
            "capabilities" => Some(&mut self.capabilities),
            "no-new-privs" => Some(&mut self.no_new_privileges),
            "core-limit" => Some(&mut self.no_core_dump),
            _ => None,
        }
    }
}
