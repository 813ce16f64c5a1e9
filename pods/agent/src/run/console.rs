//! A process's terminal: of the container's own devpts, so that its name is true there.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fstat, major, minor};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::place::Root;
use super::{During, RunError};
use crate::spec::ConsoleSize;

/// Both ends of it.
pub(crate) struct Terminal {
    /// The agent's.
    pub(crate) outer: OwnedFd,
    /// The process's.
    pub(crate) inner: OwnedFd,
    /// `pts/0`
    name: String,
}

impl Terminal {
    /// A new one.
    pub(super) fn open(root: &Root, size: Option<ConsoleSize>) -> Result<Self, RunError> {
        let what = "open a terminal in the container";
        let multiplexer = root
            .get(Path::new("/dev/pts/ptmx"), OFlags::PATH)
            .during(what)?;
        let device = fstat(&multiplexer).during(what)?.st_rdev;
        if (major(device), minor(device)) != (5, 2) {
            return Err(Errno::NODEV).during(what);
        }
        let outer = root
            .get(Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY)
            .during(what)?;
        unlockpt(&outer).during(what)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inner = ioctl_tiocgptpeer(&outer, flags).during(what)?;
        let name = ptsname(&outer, Vec::new()).during(what)?;
        let number = name.to_string_lossy();
        let number = number.rsplit('/').next().unwrap_or_default();
        let name = format!("pts/{number}");
        if let Some(size) = size {
            let size = Winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&outer, size).during(what)?;
        }
        Ok(Self { outer, inner, name })
    }

    /// Puts it at /dev/console.
    pub(super) fn be_console(&self, root: &Root) -> Result<(), RunError> {
        let what = "give the container its console";
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let mine = root
            .get(&Path::new("/dev").join(&self.name), OFlags::PATH)
            .during(what)?;
        let tree = open_tree(mine, "", flags).during(what)?;
        let place = root.make_file(Path::new("/dev/console"))?;
        root.attach(tree, place).during(what)
    }

    /// Makes its end this process's standard streams and, for a new session, its terminal.
    pub(super) fn take(self) -> Result<(), RunError> {
        let what = "take the terminal";
        let inner = File::from(self.inner);
        rustix::process::ioctl_tiocsctty(inner.as_fd()).during(what)?;
        rustix::stdio::dup2_stdin(&inner).during(what)?;
        rustix::stdio::dup2_stdout(&inner).during(what)?;
        rustix::stdio::dup2_stderr(&inner).during(what)
    }
}
