//! The socket's thread.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};

use crate::api::Api;
use crate::api::http::Server;
use crate::failure::Failure;
use crate::session::Caller;
use vmm::metrics::Process;

/// A thread that serves the socket. **It ends before the process does**: what was answered is written, the
/// socket's file is gone.
#[derive(Debug)]
pub(super) struct ServerThread {
    stop: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

impl ServerThread {
    /// Serves from now on, for the VM that `caller` reaches, on a thread of this name.
    ///
    /// # Errors
    /// When the kernel grants no eventfd or thread.
    pub(super) fn start(
        mut server: Server,
        caller: Caller,
        process: Process,
        name: &str,
    ) -> Result<Self, Failure> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = Arc::new(stop.map_err(io::Error::from).map_err(Failure::run)?);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                log::info!("API server started.");
                let mut api = Api::new(caller, process);
                if let Err(error) = server.serve(&mut api, stopped.as_fd()) {
                    log::error!("the socket is not served any more: {error}");
                }
            })
            .map_err(Failure::run)?;
        Ok(Self { stop, thread })
    }

    /// Writes what was answered, for a bounded time, and ends the thread.
    pub(super) fn stop(self) {
        // A full counter stops it as well.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if self.thread.join().is_err() {
            log::error!("the socket's thread panicked");
        }
    }
}
