//! The way in to a VM: its name among those that run, and its socket, before anybody serves it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::launch::{Face, Listen};
use crate::api::http::Listener;
use crate::failure::Failure;
use crate::registry::{self, Registration, Registry};

/// A name that is a VM's alone, and a socket that accepts. Dropping it gives both up.
#[derive(Debug)]
pub(crate) struct Entrance {
    // First: who finds the name free finds no socket either.
    pub(super) listener: Listener,
    pub(super) registration: Option<Registration>,
}

impl Entrance {
    /// Opens the socket of the VM `id`, whose monitor is the process `pid`. ravelin's own VMs are entered among those
    /// that run, before the socket is bound: then the name is this VM's.
    ///
    /// # Errors
    /// When a VM of that name runs, or there can be no such socket.
    pub(crate) fn open(
        id: &str,
        pid: u32,
        face: Face,
        socket: Listen,
        mode: Option<u32>,
    ) -> Result<Self, Failure> {
        let registration = match face {
            Face::Firecracker => None,
            Face::Ravelin => {
                let vm = registry::vm_of(pid, id, socket.path().as_deref(), None);
                let registry = Registry::of_this_user();
                let entered = registry.enter(&vm).map_err(Failure::run)?;
                if let Some(path) = &vm.socket
                    && path.symlink_metadata().is_ok()
                {
                    // A VM of another name may have left it; one that was killed just now serves it a moment longer.
                    vmm::host::await_ending();
                    let _ = registry.list();
                }
                Some(entered)
            }
        };
        Ok(Self {
            listener: listen(socket, mode)?,
            registration,
        })
    }

    /// The same for a process that may open none: somebody else keeps the name and the socket's file.
    ///
    /// # Errors
    /// When it is no socket that accepts.
    pub(crate) fn given(socket: OwnedFd) -> Result<Self, Failure> {
        Ok(Self {
            listener: Listener::adopt(socket).map_err(Failure::run)?,
            registration: None,
        })
    }

    /// The socket once more, for whom it was opened.
    ///
    /// # Errors
    /// When the kernel grants no descriptor.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }
}

fn listen(listen: Listen, mode: Option<u32>) -> Result<Listener, Failure> {
    match listen {
        Listen::Path(path) => {
            let listener = Listener::bind(&path, mode).map_err(Failure::run)?;
            log::info!("Listening on API socket ({path:?}).");
            Ok(listener)
        }
        Listen::Fd(fd) => Listener::adopt(fd).map_err(Failure::run),
    }
}
