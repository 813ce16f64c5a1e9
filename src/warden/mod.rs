//! The process outside of the jail: it builds the cell, opens for the monitor what the user has named, looks whether the
//! walls stand before the guest runs, and clears up when the monitor has ended.
//!
//! ```text
//! ravelin run ... ── the warden ──┬── the keeper: clears up when the warden is killed
//!                        │ socket └── the monitor, in its cell: the same command line, without rights
//!                        └────────────────┘
//! ```
//!
//! The monitor is believed until its guest runs. From then on it may be the guest's, and the desk's rules hold
//! ([`desk`]).

mod bound;
mod check;
mod desk;
mod ends;
mod estate;
mod inside;
mod keeper;
mod kernel_log;
mod landlock;
mod rights;
mod words;

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{getegid, geteuid, pidfd_send_signal};

use self::desk::Desk;
use self::ends::Ends;
pub(crate) use self::estate::Estate;
pub(crate) use self::inside::{settle, warden};
use self::keeper::Keeper;
use self::rights::is_host_root;
use crate::console::terminal::{self, Settings};
use crate::failure::Failure;
use crate::jail::cell::{self, Cell, Child, Wall, WallSet};
use crate::jail::cgroup::{self, Home, Site};
use crate::jail::label::{self, Label, Taken};
use crate::jail::{Ids, Setting};
use crate::logger;
use crate::serve::Entrance;
use crate::serve::launch::{Face, Listen};
use crate::serve::ready::Ready;
use crate::session::Signals;

/// The user and group that a monitor of root's becomes, less its warden's number: each has its own, far above those of
/// people, services and subordinate ids.
const FIRST_ID: u32 = 0x7800_0000;
/// The monitor's user and group in its user namespace.
const INNER_ID: u32 = 1000;

/// The number that the host's PID namespace is known by (Linux `uapi/linux/nsfs.h`, `PID_NS_INIT_INO`).
const HOST_PIDS: u64 = 0xefff_fffc;

/// A VM whose monitor is to be in a cell.
#[derive(Debug)]
pub(crate) struct Charge {
    /// The VM's name.
    pub(crate) name: String,
    /// What this process's messages begin with, beside ravelin's name.
    pub(crate) speaker: Option<String>,
    /// The walls that are to stand.
    pub(crate) walls: WallSet,
    /// Whether the system calls that its filters do not list are told and done.
    pub(crate) is_watched: bool,
    /// Who the monitor is to be, in place of whom it would be.
    pub(crate) uid: Option<u32>,
    /// Its group.
    pub(crate) gid: Option<u32>,
    /// What lies above the VM's cgroup.
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// Limits in place of the usual ones.
    pub(crate) cgroup_settings: Vec<Setting>,
    /// The security module's label.
    pub(crate) label: label::Wish,
    /// Directories whose disk images a running VM may be given.
    pub(crate) directories: Vec<PathBuf>,
    /// Where the API is, and the permissions of its socket.
    pub(crate) socket: Option<(Listen, Option<u32>)>,
    /// Who is told that the API accepts.
    pub(crate) ready: Ready,
    /// Whether stdin is the guest's.
    pub(crate) has_input: bool,
    /// Whether to say nothing but errors.
    pub(crate) quiet: bool,
}

/// Builds the cell, has the monitor run this process's command line in it, and stays outside until it has ended.
///
/// # Errors
/// What kept the monitor from being there.
pub(crate) fn watch(charge: Charge) -> Result<ExitCode, Failure> {
    // It cannot fail without a file.
    let _ = logger::init(LevelFilter::Warn, None, charge.speaker.as_deref());
    let settings = terminal::settings();
    let signals = Signals::take().map_err(Failure::run)?;
    let socket_path = charge.socket.as_ref().and_then(|(listen, _)| match listen {
        Listen::Path(path) => Some(path.clone()),
        Listen::Fd(_) => None,
    });
    // Before there is anything to clear up, and before the next exec is to have a label.
    let keeper = Keeper::start(
        &charge.name,
        charge.walls.has(Wall::Cgroup),
        socket_path.as_deref(),
        settings.as_ref(),
    )?;
    let ended = with_keeper(charge, &keeper, &signals, settings);
    keeper.dismiss();
    ended
}

/// The monitor, and its cgroups, which go after it. What this needs of the stack stays in memory as long as the guest runs:
/// the steps before that are not inlined.
fn with_keeper(
    mut charge: Charge,
    keeper: &Keeper,
    signals: &Signals,
    settings: Option<Settings>,
) -> Result<ExitCode, Failure> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| Failure::run(format!("there is no socket to the monitor: {error}")))?;
    let label = take_label(&charge)?;
    let cell = cell(&charge, theirs)?;
    // Its namespaces take the kernel as long as its cgroups do: they are made side by side, unless it is to be born in them.
    let begun = (!cgroup::are_born_in()).then(|| cell::spawn(&cell));
    let begun = begun.transpose().map_err(Failure::run)?;
    let site = site(&mut charge);
    keeper.expect(site.as_ref());
    let ended = make_home(site.as_ref(), &mut charge).and_then(|home| {
        let child = let_go(begun, cell, home.as_ref())?;
        with_child(
            charge,
            (ours, label),
            child,
            (home, keeper),
            signals,
            settings,
        )
    });
    if let Some(site) = &site {
        site.remove();
    }
    ended
}

/// Where its cgroups are to be.
#[inline(never)]
fn site(charge: &mut Charge) -> Option<Site> {
    let id = format!("{}.{}", charge.name, own_number());
    let limits = std::mem::take(&mut charge.cgroup_settings);
    match charge.walls.has(Wall::Cgroup) {
        true => Site::find(charge.cgroup_parent.as_deref(), &id, limits),
        false => None,
    }
}

/// What no other warden on this host has: its process id, and the PID namespace of that where it is not the host's. In two
/// containers below one tree of cgroups two wardens may have the same process id.
fn own_number() -> String {
    let pid = std::process::id();
    match fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino()) {
        Ok(namespace) if namespace != HOST_PIDS => format!("{pid}@{namespace}"),
        _ => pid.to_string(),
    }
}

/// Lets the child go into its cgroups; where it has to be born in one, it is made now.
#[inline(never)]
fn let_go(begun: Option<Child>, mut cell: Cell, home: Option<&Home>) -> Result<Child, Failure> {
    cell.birthplace = home
        .map(Home::birthplace)
        .transpose()
        .map_err(Failure::run)?
        .flatten();
    let child = match begun {
        Some(child) if cell.birthplace.is_none() => child,
        _ => cell::spawn(&cell).map_err(Failure::run)?,
    };
    let doors = home.map(Home::doors).transpose().map_err(Failure::run)?;
    child.go(&doors.unwrap_or_default()).map_err(Failure::run)?;
    Ok(child)
}

/// The monitor's life. It is over, whatever fails here, before its socket closes, of which it would have something to say:
/// what comes later in this list is dropped first.
fn with_child(
    charge: Charge,
    (ours, label): (OwnedFd, Option<Label>),
    mut child: Child,
    (home, keeper): (Option<Home>, &Keeper),
    signals: &Signals,
    settings: Option<Settings>,
) -> Result<ExitCode, Failure> {
    child.arrived().map_err(Failure::run)?;
    // What the monitor will ask for, while its program starts. Not before: the child's root lets go of the host's mounts,
    // for which the kernel waits until no processor is in one of its calls, and this one is long.
    let kvm = vmm::kvm::ask_ahead();
    let entrance = enter_name(charge.name.as_str(), charge.socket, &child)?;
    let desk = Desk::new(
        ours,
        check::Expected {
            walls: charge.walls,
            is_watched: charge.is_watched,
            label,
        },
        charge.directories,
        (home.as_ref(), keeper),
        entrance,
        charge.ready,
    );
    desk.greet(kvm);
    let ended = serve(desk, &child, signals).map_err(Failure::run)?;
    if let (Some(settings), true) = (settings, ended.was_killed()) {
        terminal::put_back(&settings);
    }
    Ok(ended.tell())
}

/// The cgroups. A user to whom none were delegated goes without, and hears it.
#[inline(never)]
fn make_home(site: Option<&Site>, charge: &mut Charge) -> Result<Option<Home>, Failure> {
    if !charge.walls.has(Wall::Cgroup) {
        return Ok(None);
    }
    let asked = charge.cgroup_parent.is_some();
    let why = match site.map(Site::make) {
        Some(Ok(home)) => {
            if !home.lacking().is_empty() && !charge.quiet {
                logger::tell(&format!(
                    "the VM's cgroup sets no bound to {}: this host, or this user, cannot have it",
                    home.lacking().join(", ")
                ));
            }
            return Ok(Some(home));
        }
        Some(Err(error)) if asked || is_host_root() => {
            return Err(Failure::run(format!(
                "the VM's cgroup cannot be made ({error}): name one with --cgroup-parent that may be written, or run \
                 without its limits by --jail-without cgroup"
            )));
        }
        Some(Err(_)) => "no cgroup was delegated to this user",
        None => "this host has no cgroups",
    };
    charge.walls = charge.walls.without(Wall::Cgroup);
    if !charge.quiet {
        logger::tell(&format!(
            "{why}: nothing but its own limits bounds what the monitor may use"
        ));
    }
    Ok(None)
}

/// The label that the monitor's exec gives it. A policy without it is named.
#[inline(never)]
fn take_label(charge: &Charge) -> Result<Option<Label>, Failure> {
    if !charge.walls.has(Wall::Label) {
        return Ok(None);
    }
    match label::take(&charge.label).map_err(Failure::run)? {
        Taken::Label(label) => Ok(Some(label)),
        Taken::NotLoaded(sentence) => {
            if !charge.quiet {
                logger::tell(sentence);
            }
            Ok(None)
        }
        Taken::None => Ok(None),
    }
}

fn enter_name(
    name: &str,
    socket: Option<(Listen, Option<u32>)>,
    child: &Child,
) -> Result<Option<Entrance>, Failure> {
    let pid = child.pid.as_raw_nonzero().get().unsigned_abs();
    socket
        .map(|(listen, mode)| Entrance::open(name, pid, Face::Ravelin, listen, mode))
        .transpose()
}

#[inline(never)]
fn cell(charge: &Charge, outside: OwnedFd) -> Result<Cell, Failure> {
    let program = program()?;
    let stdin = (charge.has_input && !terminal::may_be_read())
        .then(|| {
            openat(
                CWD,
                "/dev/null",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        })
        .transpose()
        .map_err(|error| Failure::run(format!("/dev/null cannot be opened: {error}")))?;
    let ids = ids(charge);
    let inner = Ids {
        uid: Uid::from_raw(INNER_ID),
        gid: Gid::from_raw(INNER_ID),
    };
    Ok(Cell {
        walls: charge.walls,
        ids,
        changes_ids: (ids.uid, ids.gid) != (geteuid(), getegid()),
        inner,
        birthplace: None,
        program,
        args: arguments(charge),
        outside,
        stdin,
    })
}

/// This program, to be started once more.
fn program() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat(CWD, "/proc/self/exe", flags, Mode::empty()).map_err(|error| {
        Failure::run(format!(
            "the monitor cannot be started anew in its jail ({error}): mount /proc, or run without a jail by --no-jail"
        ))
    })
}

/// Who the monitor is outside.
fn ids(charge: &Charge) -> Ids {
    let own = FIRST_ID + std::process::id();
    let (uid, gid) = match is_host_root() {
        true => (own, own),
        false => (geteuid().as_raw(), getegid().as_raw()),
    };
    Ids {
        uid: Uid::from_raw(charge.uid.unwrap_or(uid)),
        gid: Gid::from_raw(charge.gid.unwrap_or(gid)),
    }
}

/// This process's command line, with what the monitor must know beside it.
fn arguments(charge: &Charge) -> Vec<CString> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let mut place = format!("fd={},name={}", cell::OUTSIDE, charge.name);
    for wall in cell::ITS_OWN {
        if !charge.walls.has(wall) {
            place.push_str(&format!(",no-{wall}"));
        }
    }
    if let Ok(term) = std::env::var("TERM") {
        place.push_str(",term=");
        place.extend(term.chars().filter(|c| *c != ','));
    }
    let at = args.len().min(2);
    args.insert(at, format!("--jailed={place}").into());
    let text = |arg: OsString| CString::new(arg.into_vec()).unwrap_or_default();
    args.into_iter().map(text).collect()
}

/// How long to wait until a monitor has taken a signal of the kind that is to come next, or a guest may call again, in ms.
const TAKING: i64 = 5;

/// Answers the monitor, passes signals on to it, and waits for its end.
fn serve(mut desk: Desk<'_>, child: &Child, signals: &Signals) -> std::io::Result<Ends> {
    let mut waiting = VecDeque::new();
    loop {
        // Two of a kind that wait are one: the second waits here.
        while let Some(signal) = waiting.pop_front() {
            if child.has_pending(signal) {
                waiting.push_front(signal);
                break;
            }
            // One that is gone needs none.
            let _ = pidfd_send_signal(&child.process, signal);
        }
        let is_resting = desk.rests();
        let mut fds = vec![
            PollFd::new(&child.process, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN),
        ];
        let asked = listen_to(&mut fds, desk.socket());
        let called = listen_to(&mut fds, desk.line());
        let soon = Timespec {
            tv_sec: 0,
            tv_nsec: TAKING * 1_000_000,
        };
        match poll(
            &mut fds,
            (is_resting || !waiting.is_empty()).then_some(&soon),
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if asked.is_some_and(|at| ready[at]) {
            desk.answer(child);
        }
        if called.is_some_and(|at| ready[at]) {
            desk.connect();
        }
        if ready.get(1) == Some(&true) {
            waiting.extend(std::iter::from_fn(|| signals.next_raw()));
        }
        if ready.first() == Some(&true) {
            return ends::reap(child);
        }
    }
}

/// Polls `fd` too, if there is one; its place.
fn listen_to<'a>(fds: &mut Vec<PollFd<'a>>, fd: Option<BorrowedFd<'a>>) -> Option<usize> {
    let at = fds.len();
    fds.push(PollFd::from_borrowed_fd(fd?, PollFlags::IN));
    Some(at)
}
