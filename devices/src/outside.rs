//! What lies outside of this process and has a name: files by their paths, taps by theirs.
//!
//! A monitor in its jail has no file system and no network of its own. What it still may ask for, it asks of the
//! process that has built the jail: that one's [`Way`] is set once, before anything is opened. A process without a
//! jail goes itself.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat};
use rustix::io::Errno;

/// A way to what lies outside, through somebody else.
pub trait Way: fmt::Debug + Send + Sync {
    /// Opens a file as `open(2)` does; the descriptor is close-on-exec.
    ///
    /// # Errors
    /// As `open(2)`.
    fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd>;

    /// Opens the tap `name`, with `mtu` bytes as its largest packet (0: as it is).
    ///
    /// # Errors
    /// A sentence.
    fn tap(&self, name: &str, mtu: u16) -> Result<OwnedFd, String>;

    /// Makes a Unix socket at `path` that listens, for a VM's vsock device. Its file is the other one's to remove.
    ///
    /// # Errors
    /// As `bind(2)`.
    fn listen(&self, path: &Path) -> io::Result<OwnedFd>;

    /// Lays a line to who connects for this process to the sockets at `path`, `_` and a port
    /// ([`crate::virtio::vsock::Operator`]).
    ///
    /// # Errors
    /// When there is none.
    fn lay_line(&self, path: &Path) -> io::Result<OwnedFd>;

    /// KVM's device, open, and what it answers to `KVM_GET_SUPPORTED_CPUID`: function, index, flags, EAX to EDX each; if
    /// the other one has asked already.
    fn kvm(&self) -> Option<(OwnedFd, Vec<[u32; 7]>)> {
        None
    }

    /// Why this host cannot run guests, as who sees it finds; `None` when nothing stands in the way.
    fn explain(&self) -> Option<String>;

    /// Waits for the end of monitors that are just ending, a bounded time; whether there were any.
    fn await_ending(&self) -> bool;
}

static WAY: OnceLock<Box<dyn Way>> = OnceLock::new();

/// From now on everything outside is reached by `way`. The first one stays.
pub fn go_by(way: Box<dyn Way>) {
    // A second one would be a second jail, which nobody is in.
    let _ = WAY.set(way);
}

/// The way, if this process does not go itself.
pub fn way() -> Option<&'static dyn Way> {
    WAY.get().map(AsRef::as_ref)
}

/// Opens a file as `open(2)` does, close-on-exec; what it makes has the permissions 0666 less the umask.
///
/// # Errors
/// As `open(2)`.
pub fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    if let Some(way) = way() {
        return way.open(path, flags, mode).map(File::from);
    }
    loop {
        // Not `open`: that is another call of the kernel's, and the filters list one.
        match rustix::fs::openat(CWD, path, flags, mode) {
            Ok(file) => return Ok(file.into()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a named pipe has this path.
pub fn is_pipe(path: &Path) -> bool {
    let found = open(path, OFlags::PATH).and_then(|file| Ok(fstat(&file)?));
    found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}
