//! A VM's socket, from the moment it accepts to the end of its last answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};
use vmm::metrics::Process;
use vmm::sandbox::Sandbox;

use super::entrance::Entrance;
use super::launch::{Face, Socket};
use crate::api::Api;
use crate::api::http::{EventSink, Limits, Server, events};
use crate::failure::Failure;
use crate::registry::Registration;
use crate::session::{Caller, Mailbox, Watch, mailbox};
use crate::warden::warden;

/// A socket that accepts and is not served yet: who connects waits.
pub(crate) struct Door {
    server: Server,
    caller: Caller,
    events: EventSink,
    face: Face,
    registration: Option<Registration>,
}

/// A socket that is served, on a thread of its own. **It is closed before the process ends**: what was
/// answered is written, the socket's file is gone, and then the VM's name is free.
#[derive(Debug)]
pub(crate) struct OpenDoor {
    stop: Arc<OwnedFd>,
    thread: JoinHandle<Option<Server>>,
    registration: Option<Registration>,
}

impl Door {
    /// Opens the socket of the VM `id`, or takes the one that was opened for this process, and gives where its requests
    /// arrive.
    ///
    /// # Errors
    /// When a VM of that name runs, or there can be no such socket.
    pub(crate) fn open(id: &str, face: Face, socket: Socket) -> Result<(Self, Mailbox), Failure> {
        let (events, source) = events().map_err(Failure::run)?;
        let limits = Limits {
            payload: socket.payload_limit,
            allowed_uids: (!socket.allowed_uids.is_empty()).then_some(socket.allowed_uids),
            ..Limits::default()
        };
        let entrance = match warden() {
            Some(warden) => Entrance::given(warden.socket().map_err(Failure::run)?)?,
            None => Entrance::open(id, std::process::id(), face, socket.listen, socket.mode)?,
        };
        let Entrance {
            listener,
            registration,
        } = entrance;
        let (caller, mailbox) = mailbox().map_err(Failure::run)?;
        let door = Self {
            server: Server::new(listener, limits, Some(source)).map_err(Failure::run)?,
            caller,
            events,
            face,
            registration,
        };
        Ok((door, mailbox))
    }

    /// Sends what happens to those who listen on the socket (HTML standard §9.2).
    pub(crate) fn watch(&self) -> Watch {
        let sink = self.events.clone();
        Box::new(move |event| {
            let data = serde_json::to_string(event).unwrap_or_default();
            sink.send(format!("event: {}\ndata: {data}", event.name()));
        })
    }

    /// Serves the socket from now on; what is asked is counted in `process`.
    ///
    /// # Errors
    /// When the kernel grants no eventfd or thread.
    pub(crate) fn serve(self, process: &Process, sandbox: Sandbox) -> Result<OpenDoor, Failure> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = Arc::new(stop.map_err(io::Error::from).map_err(Failure::run)?);
        let stopped = Arc::clone(&stop);
        let mut server = self.server;
        let mut api = Api::new(self.caller, process.clone());
        let name = match self.face {
            Face::Ravelin => "api",
            Face::Firecracker => "fc_api",
        };
        let (say, said) = sync_channel(1);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(vmm::THREAD_STACK)
            .spawn(move || {
                let confined = sandbox.enter_api();
                let goes_on = confined.is_ok();
                // Whoever asked waits for it.
                let _ = say.send(confined);
                if !goes_on {
                    return None;
                }
                log::info!("API server started.");
                if let Err(error) = server.serve(&mut api, stopped.as_fd()) {
                    log::error!("the socket is not served any more: {error}");
                }
                Some(server)
            })
            .map_err(Failure::run)?;
        let confined = said.recv().map_err(Failure::run)?;
        confined.map_err(Failure::run)?;
        Ok(OpenDoor {
            stop,
            thread,
            registration: self.registration,
        })
    }
}

impl OpenDoor {
    /// Writes what was answered, for a bounded time, and ends the thread.
    pub(crate) fn close(self) {
        // A full counter stops it as well.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        match self.thread.join() {
            // The socket's file goes with it: that thread may not remove any.
            Ok(server) => drop(server),
            Err(_) => log::error!("the socket's thread panicked"),
        }
        drop(self.registration);
    }
}
