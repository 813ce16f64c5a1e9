//! A ravelin on a terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::guest::{Guest, Kernel};
use crate::support::RAVELIN;

/// Beyond this, what a test waits for does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A ravelin whose stdin, stdout and stderr are a terminal. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct OnTerminal {
    child: Child,
    /// The user's side: keyboard and screen.
    user: File,
    /// The other side, kept open so that its settings can be looked at.
    terminal: File,
    /// The settings from before.
    before: Termios,
    /// What the screen has shown.
    seen: String,
    _kernel: Kernel,
}

impl OnTerminal {
    /// Boots `guest` with more `arguments` on a terminal of 40 rows and 100 columns.
    pub(crate) fn boot(guest: &Guest, arguments: &[&str]) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let size = Winsize {
            ws_row: 40,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&user, size).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        assert!(
            before
                .local_modes
                .contains(LocalModes::ICANON | LocalModes::ECHO)
        );
        let end = || OwnedFd::from(terminal.try_clone().unwrap());
        let kernel = guest.kernel();
        let child = Command::new(RAVELIN)
            .arg("run")
            .arg("--kernel")
            .arg(kernel.path())
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            child,
            user: File::from(user),
            terminal,
            before,
            seen: String::new(),
            _kernel: kernel,
        }
    }

    /// Whether every key goes through as it is.
    pub(crate) fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.terminal).unwrap();
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        !now.local_modes.intersects(cooked)
    }

    /// Whether the terminal is as it was before.
    pub(crate) fn is_as_before(&self) -> bool {
        let now = tcgetattr(&self.terminal).unwrap();
        now.input_modes == self.before.input_modes
            && now.output_modes == self.before.output_modes
            && now.control_modes == self.before.control_modes
            && now.local_modes == self.before.local_modes
    }

    /// The user closes the window.
    pub(crate) fn hangs_up(&mut self) {
        let mut nobody = OpenOptions::new();
        self.user = nobody.read(true).write(true).open("/dev/null").unwrap();
    }

    /// Types.
    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the screen has shown `text`; gives all that it has shown so far.
    pub(crate) fn sees(&mut self, text: &str) -> &str {
        while !self.seen.contains(text) {
            assert!(self.read(), "no {text:?} in {:?}", self.seen);
        }
        &self.seen
    }

    /// Waits for the end: the exit status and all that the screen has shown.
    pub(crate) fn end(&mut self) -> (Option<i32>, &str) {
        let status: ExitStatus = self.child.wait().unwrap();
        while self.waits(Duration::ZERO) && self.read() {}
        (status.code(), &self.seen)
    }

    fn waits(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.user, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).unwrap();
        poll(&mut fds, Some(&timeout)).unwrap() > 0
    }

    /// Reads what the screen shows; false when nothing comes.
    fn read(&mut self) -> bool {
        if !self.waits(PATIENCE) {
            return false;
        }
        let mut bytes = [0; 4096];
        let count = self.user.read(&mut bytes).unwrap_or(0);
        self.seen
            .push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
