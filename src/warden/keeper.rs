//! The keeper: a process that does nothing until the warden is gone, and then clears up after it.
//!
//! A warden that ends as it should dismisses it. One that was killed takes its monitor with it and leaves cgroups, a
//! socket and a name behind; the keeper, which holds nothing but the end of a pipe, removes them.

use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use crate::jail::cgroup::Site;
use crate::jail::{Side, close_all_but, fork, leave};
use crate::registry::Registry;

/// The warden's side of the keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    pipe: PipeWriter,
    pid: Option<rustix::process::Pid>,
}

impl Keeper {
    /// Starts the keeper of what will be made.
    ///
    /// # Errors
    /// When the kernel makes no process.
    pub(super) fn start(site: Option<&Site>, socket: Option<&Path>) -> io::Result<Self> {
        let (mut reader, pipe) = io::pipe()?;
        if site.is_none() && socket.is_none() {
            return Ok(Self { pipe, pid: None });
        }
        match fork()? {
            Side::Parent(pid) => Ok(Self {
                pipe,
                pid: Some(pid),
            }),
            Side::Child => {
                // Also its own copy of the pipe's other end, and whatever others wait to see closed.
                close_all_but(reader.as_fd());
                // Away from the terminal and the caller's group; signals are blocked already.
                let _ = rustix::process::setsid();
                let mut word = [0];
                let dismissed = matches!(reader.read(&mut word), Ok(1));
                if !dismissed {
                    clear(site, socket);
                }
                leave()
            }
        }
    }

    /// Lets the keeper go: everything is cleared up.
    pub(super) fn dismiss(mut self) {
        let Some(pid) = self.pid else { return };
        // One that was killed is only to be reaped.
        let _ = self.pipe.write_all(b"d");
        let options = rustix::process::WaitOptions::empty();
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(pid), options) {}
    }
}

fn clear(site: Option<&Site>, socket: Option<&Path>) {
    if let Some(site) = site {
        // This waits until the monitor is gone, who goes with the warden.
        site.remove();
    }
    if socket.is_some() {
        // Looking at the list removes what is there without its VM, and the socket that its entry names. Nothing else
        // is believed: at the same path there may be the socket of the next one by now.
        let _ = Registry::of_this_user().list();
    }
}
