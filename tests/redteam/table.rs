//! What each wall alone stops: measured, explained, and asserted.

use Wall::{
    Capabilities, Cgroup, CgroupNamespace, Files, Ids, Ipc, Memory, Net, NoNewPrivileges, Pid,
    Ports, Rlimits, Root, Scope, User, Uts,
};

/// A wall that is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wall {
    /// Another user than root: no wall by name, it comes with any jail.
    Ids,
    Root,
    Pid,
    Net,
    User,
    Ipc,
    Uts,
    CgroupNamespace,
    Cgroup,
    Rlimits,
    Capabilities,
    NoNewPrivileges,
    Memory,
    /// Landlock's rules for files.
    Files,
    /// Landlock's rules for TCP, since its version 4.
    Ports,
    /// Landlock's rules for signals and abstract sockets, since its version 6.
    Scope,
}

impl Wall {
    /// The columns of the matrix: a wall, and what it is called on the command line.
    pub(crate) const COLUMNS: [(Self, &'static str); 14] = [
        (Ids, "uid"),
        (Root, "root"),
        (Pid, "ns-pid"),
        (Net, "ns-net"),
        (User, "ns-user"),
        (Ipc, "ns-ipc"),
        (Uts, "ns-uts"),
        (CgroupNamespace, "ns-cgroup"),
        (Cgroup, "cgroup"),
        (Rlimits, "rlimits"),
        (Capabilities, "capabilities"),
        (NoNewPrivileges, "no-new-privs"),
        (Memory, "memory"),
        (Files, "landlock"),
    ];

    /// The column that it is a part of.
    pub(crate) fn column(self) -> Self {
        match self {
            Ports | Scope => Files,
            wall => wall,
        }
    }

    /// Landlock's version that it needs.
    pub(crate) fn landlock(self) -> u32 {
        match self {
            Files => 1,
            Ports => 4,
            Scope => 6,
            _ => 0,
        }
    }

    /// Whether an ordinary user's jail has it: one that was delegated no cgroup, and whose ids stay as they are.
    pub(crate) fn is_everybodys(self) -> bool {
        !matches!(self, Ids | Cgroup)
    }
}

/// Who is stopped without any wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    Nobody,
    /// An ordinary user.
    Ordinary,
    /// Everybody: the monitor itself sees to it.
    Everybody,
}

/// An attack, and what stops it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) attack: &'static str,
    pub(crate) says: &'static str,
    /// Each of these alone stops a monitor of root's.
    pub(crate) walls: &'static [Wall],
    pub(crate) without: Without,
}

impl Row {
    pub(crate) fn has(&self, wall: Wall) -> bool {
        self.walls.iter().any(|one| one.column() == wall)
    }
}

/// One that every user may do.
const fn row(attack: &'static str, says: &'static str, walls: &'static [Wall]) -> Row {
    Row {
        attack,
        says,
        walls,
        without: Without::Nobody,
    }
}

/// One that only root may do.
const fn roots(attack: &'static str, says: &'static str, walls: &'static [Wall]) -> Row {
    Row {
        attack,
        says,
        walls,
        without: Without::Ordinary,
    }
}

/// One that the monitor itself leaves no way to.
const fn closed(attack: &'static str, says: &'static str) -> Row {
    Row {
        attack,
        says,
        walls: &[],
        without: Without::Everybody,
    }
}

/// What stops whatever needs a capability.
const RIGHTS: &[Wall] = &[Ids, User, Capabilities];
/// What stops whatever needs a file of the host's by its path.
const PATHS: &[Wall] = &[Root, Files];

/// All attacks, in the order in which they are made: first those that look, since some of the others, where nothing
/// stops them, open what a namespace has hidden.
pub(crate) const TABLE: &[Row] = &[
    row("see-host-name", "reads the host's name", &[Uts]),
    row(
        "see-shared-memory",
        "finds the host's shared memory",
        &[Ipc],
    ),
    row(
        "see-interface",
        "finds the host's network interface",
        &[Net],
    ),
    row(
        "cgroup-path",
        "reads where the host has put it",
        &[Root, CgroupNamespace, Files],
    ),
    row("stat", "asks for a file's size and owner", &[Root]),
    row("open-public", "opens a file that everybody may read", PATHS),
    row(
        "open-private",
        "opens a file of root's, or of its own user",
        &[Ids, Root, Files],
    ),
    row("openat2", "the same by another call", PATHS),
    row(
        "open-proc",
        "opens a file of another process in /proc",
        PATHS,
    ),
    roots("open-by-handle", "opens a file past its path", RIGHTS),
    row("create", "makes a file where everybody may", PATHS),
    roots(
        "mknod",
        "makes a device",
        &[Ids, Root, User, Cgroup, Capabilities, Files],
    ),
    row("exec", "runs a file", PATHS),
    row(
        "exec-memory",
        "runs what it has written to a file in memory",
        &[],
    ),
    row(
        "set-uid",
        "runs a program of root's that has its owner's rights",
        &[Root, User, NoNewPrivileges, Files],
    ),
    roots("chroot", "changes its root", RIGHTS),
    roots(
        "pivot-root",
        "exchanges the root",
        &[Ids, User, Capabilities, Files],
    ),
    roots(
        "mount",
        "mounts a file system",
        &[Ids, Root, User, Capabilities, Files],
    ),
    roots(
        "mount-change",
        "changes how a mount spreads",
        &[Ids, User, Capabilities, Files],
    ),
    roots(
        "umount",
        "takes a mount away",
        &[Ids, Root, User, Capabilities, Files],
    ),
    roots(
        "swapon",
        "adds swap space",
        &[Ids, Root, User, Capabilities, Files],
    ),
    roots("acct", "switches the accounting of processes", RIGHTS),
    row("quotactl", "has quotas written out", &[]),
    row("socket-inet", "makes an IPv4 socket", &[]),
    row("socket-inet6", "makes an IPv6 socket", &[]),
    row("socket-unix", "makes a unix socket", &[]),
    row("socket-netlink", "makes a netlink socket", &[]),
    row("socket-vsock", "makes a vsock socket", &[]),
    roots("socket-packet", "makes a packet socket", RIGHTS),
    roots("socket-raw", "makes a raw socket", RIGHTS),
    row(
        "connect-tcp",
        "connects to a port of the host's",
        &[Net, Ports],
    ),
    row("bind-tcp", "listens on a port", &[Ports]),
    row(
        "send-udp",
        "sends a datagram to a port of the host's",
        &[Net],
    ),
    row(
        "connect-abstract",
        "connects to an abstract socket",
        &[Net, Scope],
    ),
    row("connect-path", "connects to a socket by its path", &[Root]),
    roots(
        "set-interface",
        "sets an interface of the host's",
        &[Ids, Net, User, Capabilities],
    ),
    row("kill", "signals another process", &[Ids, Pid, Scope]),
    row("kill-all", "signals every process that it may", &[Pid]),
    row("prlimit", "reads another process's limits", &[Ids, Pid]),
    row("pidfd-open", "takes hold of another process", &[Pid]),
    row(
        "pidfd-getfd",
        "takes a descriptor from another process",
        &[Ids, Pid, User, Capabilities, Files],
    ),
    row(
        "ptrace",
        "traces another process",
        &[Ids, Pid, User, Capabilities, Files],
    ),
    row(
        "read-memory",
        "reads another process's memory",
        &[Ids, Pid, User, Capabilities, Files],
    ),
    roots(
        "setns",
        "joins another process's namespace",
        &[Ids, Pid, User, Capabilities, Files],
    ),
    roots("unshare", "makes a namespace", RIGHTS),
    row(
        "new-user-namespace",
        "makes a user namespace, where it would be root",
        &[User],
    ),
    row("fork", "makes a process", &[]),
    row("fork-bomb", "makes 200 processes", &[Cgroup, Rlimits]),
    roots("bpf", "makes a BPF map", RIGHTS),
    row("perf", "counts its own events", &[]),
    roots("perf-kernel", "counts the kernel's events", RIGHTS),
    row("userfaultfd-user", "handles its own page faults", &[]),
    roots("userfaultfd", "handles the kernel's page faults", RIGHTS),
    row("io-uring", "makes a ring for system calls", &[]),
    row("keyctl", "looks for its session's keys", &[]),
    row("add-key", "adds a key", &[]),
    row("shmget", "makes shared memory", &[]),
    roots("syslog", "sets what the kernel's log shows", RIGHTS),
    roots("kexec-load", "loads another kernel", RIGHTS),
    roots("load-module", "loads a kernel module", RIGHTS),
    roots("reboot", "reboots", RIGHTS),
    roots("set-host-name", "sets the host's name", RIGHTS),
    roots("set-time", "sets the clock", RIGHTS),
    roots("iopl", "takes all I/O ports", RIGHTS),
    roots("ioperm", "takes an I/O port", RIGHTS),
    row("modify-ldt", "reads its descriptor table", &[]),
    row("personality", "has its addresses no longer random", &[]),
    row(
        "write-and-run",
        "maps memory to write and to run",
        &[Memory],
    ),
    row("make-code", "makes what it wrote code", &[Memory]),
    row("code-from-memory", "maps a file in memory as code", &[]),
    row("dumpable", "makes itself dumpable", &[]),
    row("merge-memory", "has its memory merged with others'", &[]),
    roots("set-root", "becomes root", &[Ids, User]),
    roots("set-capability", "takes a capability", RIGHTS),
    roots(
        "realtime",
        "takes a processor for itself",
        &[Ids, User, Cgroup, Capabilities],
    ),
    roots("raise-limit", "raises a limit of its own", RIGHTS),
    row("many-files", "opens 600 files", &[Rlimits]),
    roots("lock-memory", "locks 16 MiB", RIGHTS),
    row("much-memory", "takes 256 MiB", &[Cgroup, Rlimits]),
    row("type-for-user", "types on the user's terminal", &[]),
    closed("another-vm", "makes another VM with /dev/kvm"),
    closed("ask-warden", "asks the process outside to open a file"),
];

/// What two monitors do to meet: they are no attack by themselves.
pub(crate) const MEETING: [&str; 2] = ["meet", "join"];
