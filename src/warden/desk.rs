//! Where the monitor asks, and the rules by which it is answered.
//!
//! Until the guest runs the monitor does what the user's command line and the API's clients say, and anything that the
//! warden may open is opened. **From the moment on that the guest may run the monitor may be its guest's.** Then nothing
//! is opened but disk images in the directories that the user has named for that: plain files and block devices, for
//! reading and writing only, never made, never through a symbolic link, and straight in the directory, which was opened
//! at the start. That is no way out: what can be had so was given to the VM by its user's own word.
//!
//! A guest's vsock device calls sockets of the host by their ports while it runs. For that there is a line of its own,
//! laid before the guest runs, whose path cannot be changed after: all that is asked on it is a number.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf, absolute};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use vmm::kvm::CpuidRow;
use vmm::open::open_tap;
use vmm::vsock::{Bound, Operator, bind_at};

use super::check::{Expected, Look};
use super::keeper::Keeper;
use super::words::{Answer, Ask, Needs, receive, send};
use crate::jail::cell::Child;
use crate::jail::cgroup::Home;
use crate::resident;
use crate::serve::Entrance;
use crate::serve::ready::Ready;

/// Why a monitor that may be its guest's gets no file.
const NOT_NAMED: &str = "a VM that runs gets images only from directories that were named at its start (--image-dir), \
                         or as descriptors (PUT /ravelin/fds)";

/// How often the host is examined for a monitor: at a start that fails, at a guest's silence, at its end.
const EXPLANATIONS: u32 = 3;

/// A directory that images may come from while the guest runs.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    open: OwnedFd,
}

/// Where the monitor asks.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    /// Closed when the monitor has ended or speaks nonsense.
    socket: Option<OwnedFd>,
    expected: Expected,
    directories: Vec<Directory>,
    home: Option<&'a Home>,
    keeper: &'a Keeper,
    entrance: Option<Entrance>,
    ready: Ready,
    /// The file of the socket that was made for the VM's vsock device.
    bound: Option<Bound>,
    /// Where it calls.
    operator: Option<Operator>,
    /// Whether calls wait, because there were too many.
    is_resting: bool,
    /// The limits that were set, of which needs, and whether they could be.
    limits: Option<(Needs, Result<(), String>)>,
    /// How often the host was examined: outside of the VM's limits, so not as often as a guest likes.
    explanations: u32,
    /// What was looked at, and what for.
    look: Look,
    /// Whether the guest may run.
    is_sealed: bool,
}

impl<'a> Desk<'a> {
    /// A desk for a monitor that is believed.
    pub(super) fn new(
        socket: OwnedFd,
        expected: Expected,
        directories: Vec<PathBuf>,
        (home, keeper): (Option<&'a Home>, &'a Keeper),
        entrance: Option<Entrance>,
        ready: Ready,
    ) -> Self {
        let directories = directories.into_iter().filter_map(|path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let path = absolute(path).ok()?;
            let open = openat(CWD, &path, flags, Mode::empty()).ok()?;
            Some(Directory { path, open })
        });
        Self {
            socket: Some(socket),
            expected,
            directories: directories.collect(),
            home,
            keeper,
            entrance,
            ready,
            bound: None,
            operator: None,
            is_resting: false,
            limits: None,
            explanations: 0,
            look: Look::default(),
            is_sealed: false,
        }
    }

    /// Tells the monitor what it will need first, before it has asked: KVM's device, with what that tells every machine.
    pub(super) fn greet(&self, kvm: Option<(OwnedFd, Vec<CpuidRow>)>) {
        let Some(socket) = &self.socket else { return };
        let (word, device) = match kvm {
            Some((device, rows)) => (Answer::Kvm(rows), Some(device)),
            None => (refused("KVM could not be asked"), None),
        };
        // Who does not hear it is gone.
        let _ = send(socket.as_fd(), &word, device.as_ref().map(AsFd::as_fd));
    }

    /// Readable when something is asked.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Readable when the guest calls a socket of the host; not while it has called too often.
    pub(super) fn line(&self) -> Option<BorrowedFd<'_>> {
        let operator = self.operator.as_ref().filter(|_| !self.is_resting);
        operator.map(Operator::line)
    }

    /// Whether the guest has called too often just now, so that the line is to be looked at again a moment later.
    pub(super) fn rests(&mut self) -> bool {
        let rest = self.operator.as_mut().and_then(Operator::rest);
        self.is_resting = rest.is_some();
        self.is_resting
    }

    /// Answers one call, without waiting for anybody.
    pub(super) fn connect(&mut self) {
        let answered = self.operator.as_mut().map(Operator::answer);
        if let Some(Err(_)) = answered {
            // The device is gone, or the monitor speaks nonsense.
            self.operator = None;
        }
    }

    /// Answers one question.
    pub(super) fn answer(&mut self, child: &Child) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        // Nonsense, or nobody there any more: there is nothing to answer.
        let Ok(Some((ask, _))) = receive::<Ask>(&socket) else {
            return;
        };
        if self.is_no_question(&ask, child) {
            self.socket = Some(socket);
            return;
        }
        let was_sealed = self.is_sealed;
        let (answer, fd) = self.decide(ask, child);
        if send(socket.as_fd(), &answer, fd.as_ref().map(AsFd::as_fd)).is_ok() {
            self.socket = Some(socket);
        }
        if self.is_sealed && !was_sealed {
            // While the guest begins: what building the cell needed is not needed again.
            resident::let_go_of_flags();
        }
    }

    fn decide(&mut self, ask: Ask, child: &Child) -> (Answer, Option<OwnedFd>) {
        match ask {
            Ask::Open { path, .. }
                if self.is_sealed && self.directory(Path::new(&path)).is_none() =>
            {
                (refused(NOT_NAMED), None)
            }
            Ask::Open { path, flags, mode } => opened(self.open(&path, flags, mode)),
            Ask::Tap { name, mtu } if !self.is_sealed => match open_tap(&name, mtu) {
                Ok(tap) => (Answer::Done, Some(tap)),
                Err(error) => (Answer::Refused(error), None),
            },
            Ask::Tap { .. } => (refused("a VM that runs gets no tap"), None),
            Ask::Listen { .. } | Ask::Line { .. } if self.is_sealed => {
                (refused("a VM that runs gets no socket"), None)
            }
            Ask::Listen { path } => opened(self.listen(Path::new(&path))),
            Ask::Line { path } => opened(self.lay_line(Path::new(&path))),
            Ask::Socket => opened(self.listener()),
            Ask::Ready => {
                self.ready.announce();
                (Answer::Done, None)
            }
            Ask::Stopping => {
                self.ready.stopping();
                (Answer::Done, None)
            }
            Ask::Explain if self.explanations < EXPLANATIONS => {
                self.explanations += 1;
                (Answer::Sentence(vmm::host::explain()), None)
            }
            Ask::Explain => (Answer::Sentence(None), None),
            Ask::Endings if !self.is_sealed && vmm::host::await_ending() => (Answer::Done, None),
            Ask::Endings => (refused("no monitor is ending"), None),
            // Not to be answered.
            Ask::Look | Ask::Complete(_) => (refused("there is nothing to be told"), None),
            Ask::Run(_) if self.is_sealed => (refused("the guest runs already"), None),
            Ask::Run(needs) => match self.seal(needs, child) {
                Ok(()) => (Answer::Done, None),
                Err(sentence) => (Answer::Refused(sentence), None),
            },
        }
    }

    /// Makes a socket that listens, in place of the one that was made before.
    fn listen(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = absolute(path).map_err(number)?;
        self.keeper.mind(&path, None);
        let (socket, bound) = bind_at(&path).map_err(number)?;
        self.keeper.mind(&path, Some(bound.file()));
        self.bound = Some(bound);
        Ok(socket)
    }

    /// Lays a line, in place of the one that was laid before.
    fn lay_line(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = absolute(path).map_err(number)?;
        let (operator, line) = Operator::lay(path).map_err(number)?;
        self.operator = Some(operator);
        Ok(line)
    }

    /// Does what has no answer, if it is that. A monitor that is its guest's gets nothing done here.
    fn is_no_question(&mut self, ask: &Ask, child: &Child) -> bool {
        match ask {
            Ask::Look if !self.is_sealed => self.look.at_cell(child.pid, &self.expected),
            Ask::Complete(needs) if !self.is_sealed => {
                self.limit(*needs);
                self.look.at_holdings(child.pid, &self.expected);
            }
            Ask::Look | Ask::Complete(_) => {}
            _ => return false,
        }
        true
    }

    /// Sets the limits, if they are not set yet.
    fn limit(&mut self, needs: Needs) {
        if !matches!(self.limits, Some((of, Ok(()))) if of == needs) {
            let set = self
                .home
                .map(|home| home.limit(needs.memory_mib, needs.vcpus));
            let set = set.transpose().map(drop);
            self.limits = Some((
                needs,
                set.map_err(|error| format!("the VM's limits cannot be set: {error}")),
            ));
        }
    }

    fn listener(&self) -> Result<OwnedFd, Errno> {
        let entrance = self.entrance.as_ref().ok_or(Errno::NOENT)?;
        entrance.copy().map_err(number)
    }

    /// The guest may run, within limits and behind walls that stand.
    fn seal(&mut self, needs: Needs, child: &Child) -> Result<(), String> {
        self.limit(needs);
        self.limits.take().map_or(Ok(()), |(_, set)| set)?;
        self.look.stands(child.pid, &self.expected)?;
        self.is_sealed = true;
        Ok(())
    }

    fn open(&self, path: &OsStr, flags: u32, mode: u32) -> Result<OwnedFd, Errno> {
        let flags = OFlags::from_bits_retain(flags) | OFlags::CLOEXEC | OFlags::NOCTTY;
        match self.is_sealed {
            false => rustix::fs::open(path, flags, Mode::from_bits_retain(mode)),
            true => self.open_image(Path::new(path), flags),
        }
    }

    /// The directory that a path lies straight in, if the user has named it.
    fn directory(&self, path: &Path) -> Option<&Directory> {
        let path = absolute(path).ok()?;
        self.directories
            .iter()
            .find(|one| Some(&*one.path) == path.parent())
    }

    /// A disk image, by the rules for a monitor that may be its guest's.
    fn open_image(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let allowed =
            OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::PATH;
        let name = path.file_name().ok_or(Errno::ACCESS)?;
        let (Some(directory), true) = (self.directory(path), allowed.contains(flags)) else {
            return Err(Errno::ACCESS);
        };
        let straight =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = match flags.contains(OFlags::PATH) {
            // openat2 takes nothing else beside it.
            true => OFlags::PATH | OFlags::CLOEXEC,
            // A pipe would be waited for.
            false => flags | OFlags::NONBLOCK,
        };
        let image = openat2(&directory.open, name, flags, Mode::empty(), straight)?;
        match FileType::from_raw_mode(fstat(&image)?.st_mode) {
            FileType::RegularFile | FileType::BlockDevice => Ok(image),
            _ => Err(Errno::ACCESS),
        }
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused(why.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn number(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn opened(result: Result<OwnedFd, Errno>) -> (Answer, Option<OwnedFd>) {
    match result {
        Ok(fd) => (Answer::Done, Some(fd)),
        Err(error) => (Answer::Errno(error.raw_os_error()), None),
    }
}
