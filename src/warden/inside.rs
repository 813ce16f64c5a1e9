//! The monitor's side: in its cell it asks the warden.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use vmm::kvm::CpuidRow;
use vmm::outside::{self, Way};

use super::words::{Answer, Ask, Needs, receive, send};
use super::{bound, landlock};
use crate::failure::Failure;
use crate::jail::cell::{Wall, WallSet};
use crate::logger;

/// The warden of this process, if it is in a cell.
static WARDEN: OnceLock<Warden> = OnceLock::new();

/// What KVM tells every machine alike, and its device.
type Told = (OwnedFd, Vec<CpuidRow>);

/// The warden of a monitor.
pub(crate) struct Warden {
    /// One question at a time.
    line: Mutex<Line>,
    /// The walls around it.
    walls: WallSet,
}

/// The way to the warden. Its first word comes unasked, since every start needs it: what KVM tells.
struct Line {
    socket: OwnedFd,
    kvm: Kvm,
}

/// What has become of the first word.
enum Kvm {
    Awaited,
    Heard(Option<Told>),
}

impl Line {
    fn ask(&mut self, ask: &Ask) -> io::Result<(Answer, Option<OwnedFd>)> {
        self.hear_of_kvm()?;
        send(self.socket.as_fd(), ask, None)?;
        self.hear()
    }

    fn hear(&self) -> io::Result<(Answer, Option<OwnedFd>)> {
        receive(&self.socket)?
            .ok_or_else(|| io::Error::other("the process outside of the jail is gone"))
    }

    fn hear_of_kvm(&mut self) -> io::Result<()> {
        if let Kvm::Awaited = self.kvm {
            self.kvm = Kvm::Heard(match self.hear()? {
                (Answer::Kvm(rows), Some(device)) => Some((device, rows)),
                _ => None,
            });
        }
        Ok(())
    }

    /// What KVM told, for whoever asks first. Nothing, where it has to be asked for by its path, and heard why not.
    fn kvm(&mut self) -> Option<Told> {
        self.hear_of_kvm().ok()?;
        match &mut self.kvm {
            Kvm::Heard(told) => told.take(),
            Kvm::Awaited => None,
        }
    }
}

impl fmt::Debug for Warden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warden")
    }
}

/// Settles this process in its cell, before it has done anything: from now on everything outside is the warden's to
/// give. A kernel without Landlock is named, unless nothing is to be said.
///
/// # Errors
/// When a wall that this process itself must raise cannot be.
pub(crate) fn settle(socket: OwnedFd, walls: WallSet, quiet: bool) -> Result<(), Failure> {
    // Exec has made it dumpable again.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::run(format!("this process stays dumpable: {error}")))?;
    go_with(&socket).map_err(|error| {
        Failure::run(format!("the process outside of the jail is gone: {error}"))
    })?;
    if walls.has(Wall::Landlock) {
        let stands = landlock::restrict().map_err(|error| {
            Failure::run(format!(
                "Landlock cannot be had ({error}): --jail-without landlock does without"
            ))
        })?;
        if !stands && !quiet {
            logger::tell(
                "this kernel has no Landlock: one wall less between the monitor and files",
            );
        }
    }
    let warden = Warden {
        line: Mutex::new(Line {
            socket,
            kvm: Kvm::Awaited,
        }),
        walls,
    };
    // There is one cell around a process.
    let _ = WARDEN.set(warden);
    outside::go_by(Box::new(Outside));
    Ok(())
}

/// This process goes when its warden goes. Its exec has undone that where it gave a label (Linux `selinux/hooks.c`,
/// `apparmor/domain.c`: `pdeath_signal`), and the warden may have gone before.
fn go_with(socket: &OwnedFd) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default()))?;
    match fds[0].revents().contains(PollFlags::HUP) {
        true => Err(Errno::SRCH),
        false => Ok(()),
    }
}

/// This process's warden, if it is in a cell.
pub(crate) fn warden() -> Option<&'static Warden> {
    WARDEN.get()
}

impl Warden {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, ask: &Ask) -> io::Result<(Answer, Option<OwnedFd>)> {
        self.line().ask(ask)
    }

    /// What was opened, or why not.
    fn ask_for(&self, ask: &Ask) -> io::Result<OwnedFd> {
        match self.ask(ask)? {
            (Answer::Done, Some(fd)) => Ok(fd),
            (Answer::Errno(number), _) => Err(io::Error::from_raw_os_error(number)),
            (Answer::Refused(sentence), _) => Err(io::Error::other(sentence)),
            // The kernel has dropped what lay beside the answer.
            (Answer::Done, None) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the security module does not let the monitor have it: its label is for a VM's files only \
                 (resources/selinux/README.md says how to label them)",
            )),
            _ => Err(Errno::PROTO.into()),
        }
    }

    /// The socket that was made for the API.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.ask_for(&Ask::Socket)
    }

    /// Tells whoever waits that the API accepts.
    pub(crate) fn ready(&self) {
        self.tell(&Ask::Ready);
    }

    /// Tells whoever waits that the VM stops.
    pub(crate) fn stopping(&self) {
        self.tell(&Ask::Stopping);
    }

    /// Lets the warden look at the cell while nothing else is asked of it.
    pub(crate) fn is_busy(&self) {
        self.mention(&Ask::Look);
    }

    /// Lets the warden set the VM's limits and look at what this process holds, while its filters are put on.
    pub(crate) fn is_complete(&self, memory_mib: u64, vcpus: u64) {
        self.mention(&Ask::Complete(Needs { memory_mib, vcpus }));
    }

    /// Says what has no answer. A warden that does not hear it does later what it would do now.
    fn mention(&self, ask: &Ask) {
        let _ = send(self.line().socket.as_fd(), ask, None);
    }

    fn tell(&self, ask: &Ask) {
        if let Err(error) = self.ask(ask) {
            log::warn!("the process outside of the jail was not told: {error}");
        }
    }

    /// Bounds what this process may map, unless that wall is left out. Everything that the VM needs is mapped.
    ///
    /// # Errors
    /// A sentence: the bound cannot be had.
    pub(crate) fn bound(&self, memory_mib: u64, vcpus: u64) -> Result<(), String> {
        match self.walls.has(Wall::Rlimits) {
            true => bound::bound(memory_mib, vcpus).map_err(|error| {
                format!(
                    "the monitor's memory cannot be bounded ({error}): --jail-without rlimits does without its limits"
                )
            }),
            false => Ok(()),
        }
    }

    /// Has the walls looked at, and the limits set, before the guest runs.
    ///
    /// # Errors
    /// A sentence: a wall that must stand does not.
    pub(crate) fn may_run(&self, memory_mib: u64, vcpus: u64) -> Result<(), String> {
        let needs = Needs { memory_mib, vcpus };
        match self.ask(&Ask::Run(needs)) {
            Ok((Answer::Done, _)) => Ok(()),
            Ok((Answer::Refused(sentence), _)) => Err(sentence),
            Ok(_) => Err(Errno::PROTO.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The way outside.
#[derive(Debug)]
struct Outside;

impl Way for Outside {
    fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let warden = warden().ok_or(Errno::ACCESS)?;
        warden.ask_for(&Ask::Open {
            path: path.as_os_str().to_owned(),
            flags: flags.bits(),
            mode: mode.bits(),
        })
    }

    fn tap(&self, name: &str, mtu: u16) -> Result<OwnedFd, String> {
        let ask = Ask::Tap {
            name: name.to_owned(),
            mtu,
        };
        let warden = warden().ok_or("there is no way outside")?;
        warden.ask_for(&ask).map_err(|error| error.to_string())
    }

    fn await_ending(&self) -> bool {
        let asked = warden().and_then(|warden| warden.ask(&Ask::Endings).ok());
        matches!(asked, Some((Answer::Done, _)))
    }

    fn listen(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = path.as_os_str().to_owned();
        warden()
            .ok_or(Errno::ACCESS)?
            .ask_for(&Ask::Listen { path })
    }

    fn lay_line(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = path.as_os_str().to_owned();
        warden().ok_or(Errno::ACCESS)?.ask_for(&Ask::Line { path })
    }

    fn kvm(&self) -> Option<Told> {
        warden()?.line().kvm()
    }

    fn explain(&self) -> Option<String> {
        match warden()?.ask(&Ask::Explain) {
            Ok((Answer::Sentence(sentence), _)) => sentence,
            _ => None,
        }
    }
}
