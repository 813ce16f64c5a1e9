//! A cell: the jail of one monitor, built around a child process that then becomes the monitor.
//!
//! The parent ([`spawn`]) makes the child in a user namespace, writes what it is mapped to, and makes its cgroups. The
//! child turns away from the host meanwhile ([`turn_away`]), waits until it is let go with the ways into its cgroups, gives
//! up everything else, step by step, and ends with exec. It opens nothing for the monitor: that one asks for its files
//! through the socket that it is given, whose other end stays outside.

mod go;
mod spawn;
mod wall;

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Resource, Signal, set_parent_process_death_signal, setsid};
use rustix::thread::UnshareFlags;

use self::spawn::SpawnError;
pub(crate) use self::spawn::{Child, spawn};
pub(crate) use self::wall::{Wall, WallSet};
use super::error::JailError;
use super::plan::Ids;
use super::{limits, process, root, walls};

/// The walls that the monitor itself raises, wholly or in part.
pub(crate) const ITS_OWN: [Wall; 2] = [Wall::Rlimits, Wall::Landlock];
/// The number of the socket to the outside, in the monitor.
pub(crate) const OUTSIDE: i32 = 3;
/// What the host is called in there.
const HOST_NAME: &[u8] = b"ravelin";
/// One more than the largest number of a descriptor: 32 vCPUs and twice as many devices need fewer.
const OPEN_FILES: u64 = 512;
/// The most memory that may be locked, in bytes: the rings of io_uring count as such.
const LOCKED: u64 = 8 << 20;
/// The most threads: a vCPU's, a device's, and a few more.
const THREADS: u64 = 128;

/// What a cell is to be.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The walls around it.
    pub(crate) walls: WallSet,
    /// Who the monitor is outside.
    pub(crate) ids: Ids,
    /// Whether that is another one than its parent: the child's numbers for itself are others.
    pub(crate) changes_ids: bool,
    /// Who it is inside its user namespace.
    pub(crate) inner: Ids,
    /// The cgroup that it is born in, of version 2.
    pub(crate) birthplace: Option<OwnedFd>,
    /// The monitor's program.
    pub(crate) program: OwnedFd,
    /// Its command line.
    pub(crate) args: Vec<CString>,
    /// Its socket to the outside.
    pub(crate) outside: OwnedFd,
    /// What it reads, in place of this process's stdin.
    pub(crate) stdin: Option<OwnedFd>,
}

impl Cell {
    /// The namespaces that the child is made in: it can have them in no other way, or the others only in them.
    fn of_birth(&self) -> UnshareFlags {
        self.wanted(&[
            (Wall::User, UnshareFlags::NEWUSER),
            (Wall::Pid, UnshareFlags::NEWPID),
        ])
    }

    /// Those that it makes itself, while its parent has other things to do. That of cgroups comes when it is in its cgroup.
    fn of_its_own(&self) -> UnshareFlags {
        self.wanted(&[
            (Wall::Root, UnshareFlags::NEWNS),
            (Wall::Net, UnshareFlags::NEWNET),
            (Wall::Ipc, UnshareFlags::NEWIPC),
            (Wall::Uts, UnshareFlags::NEWUTS),
        ])
    }

    fn wanted(&self, all: &[(Wall, UnshareFlags)]) -> UnshareFlags {
        let wanted = all.iter().filter(|(wall, _)| self.walls.has(*wall));
        wanted.map(|(_, flag)| *flag).collect()
    }
}

/// The child's first part, which needs nothing of its parent: it turns away from the host.
///
/// # Errors
/// The namespaces by themselves, since their reason is the host's configuration; then any other step.
fn turn_away(cell: &Cell) -> Result<(), SpawnError> {
    let has = |wall| cell.walls.has(wall);
    // 1. A session of its own: no terminal sends it signals.
    setsid().map_err(|e| JailError::SetSid(e.into()))?;
    // 2. What the host has is not to be seen: its mounts, network, memory of others, name.
    let namespaces = cell.of_its_own();
    if !namespaces.is_empty() {
        process::unshare(namespaces).map_err(SpawnError::of_namespaces)?;
    }
    if has(Wall::Uts) {
        rustix::system::sethostname(HOST_NAME).map_err(|e| JailError::Wall("ns-uts", e.into()))?;
    }
    // No namespace of users below its own: there it would have every capability, and with them most of the kernel.
    if has(Wall::User) {
        forbid_user_namespaces();
    }
    // 3. No files: an empty root that nobody can write to.
    if has(Wall::Root) {
        root::become_nothing()?;
    }
    Ok(())
}

/// Gives up, in this order, what the child still has, and becomes the monitor. It returns only when that failed.
///
/// The security module's label is the parent's wish already, for the next exec ([`super::label`]): the child has taken it
/// over with its life.
///
/// `doors` are the ways into its cgroups of version 1; `parent` is the socket whose other end only the parent has: it is
/// closed when that one is gone.
fn enter(cell: &Cell, doors: &[OwnedFd], parent: &OwnedFd) -> JailError {
    match give_up(cell, doors, parent) {
        Err(error) => error,
        Ok(()) => JailError::Exec(process::exec(&cell.program, &cell.args)),
    }
}

fn give_up(cell: &Cell, doors: &[OwnedFd], parent: &OwnedFd) -> Result<(), JailError> {
    let has = |wall| cell.walls.has(wall);
    // 4. Its cgroups, those of version 1: it was born in the one of version 2.
    for tasks in doors {
        rustix::io::write(tasks, b"0").map_err(|e| JailError::Wall("cgroup", e.into()))?;
    }
    // Its cgroup is the root of all that there are.
    if has(Wall::CgroupNamespace) {
        process::unshare(UnshareFlags::NEWCGROUP).map_err(|e| JailError::Wall("ns-cgroup", e))?;
    }
    // 5. What it may use.
    if has(Wall::Rlimits) {
        limits::set_each(&[
            (Resource::Core, 0),
            (Resource::Nofile, OPEN_FILES),
            (Resource::Nproc, THREADS),
            (Resource::Memlock, LOCKED),
        ])?;
    }
    // 6. Nothing is open but its stdin, stdout, stderr and the socket.
    if let Some(stdin) = &cell.stdin {
        rustix::stdio::dup2_stdin(stdin).map_err(|e| JailError::Dup2(e.into()))?;
    }
    process::keep_only(cell.outside.as_fd(), OUTSIDE)?;
    // 7. No rights, and none to be had.
    if cell.changes_ids {
        walls::switch_groups()?;
    }
    let rights = walls::Rights {
        ids: cell.inner_ids(),
        capabilities: has(Wall::Capabilities),
        no_new_privileges: has(Wall::NoNewPrivileges),
    };
    walls::give_up(&rights)?;
    // 8. What it writes is never code, what it holds is nobody else's to read or share.
    if has(Wall::Memory) {
        process::harden_memory()?;
    }
    // 9. It goes when its parent goes; exec undoes this where it gives a label, so the monitor does it again. After the change of ids, which undoes this; and before it is looked whether the
    // parent has gone already.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| JailError::Clone(e.into()))?;
    process::check_alive(parent)
}

/// Lets no user namespace be made in this process's own, for good (namespaces(7), "The /proc/sys/user directory"). Where
/// `/proc/sys` cannot be written, as in a container, that is left to the filters of system calls.
fn forbid_user_namespaces() {
    const FILE: &str = "/proc/sys/user/max_user_namespaces";
    if let Ok(file) = openat(CWD, FILE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(file, b"0");
    }
}

impl Cell {
    /// Who the child becomes, in its own namespace's numbers.
    fn inner_ids(&self) -> Option<Ids> {
        match self.walls.has(Wall::User) {
            true => Some(self.inner),
            false => self.changes_ids.then_some(self.ids),
        }
    }
}
