//! An event loop on a named thread: workers are attached to it and detached from it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use event_manager::{EventManager, RemoteEndpoint, SubscriberId};

use crate::virtio::Worker;

/// How many ready events one turn takes up: more than a VM's devices have fds.
const EVENTS_PER_TURN: usize = 32;

/// Why a thread for I/O could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event loop could not be made.
    #[error("cannot make an event loop: {0}")]
    EventLoop(event_manager::Error),
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A thread that runs workers. Dropping it stops the thread; its workers are dropped there.
#[derive(Debug)]
pub struct IoThread {
    handle: IoHandle,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The way for others to reach the workers of an [`IoThread`].
///
/// **Never to be used on the io thread itself**: `attach` and `detach` wait for it.
#[derive(Clone)]
pub struct IoHandle(RemoteEndpoint<Box<dyn Worker>>);

impl fmt::Debug for IoHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoHandle")
    }
}

/// A worker's place on its thread.
#[derive(Debug)]
pub struct Attached(SubscriberId);

impl IoThread {
    /// Starts a thread of the given name (at most 15 bytes are shown by the kernel).
    ///
    /// # Errors
    /// When the kernel grants no epoll instance, eventfd or thread.
    pub fn start(name: &str) -> Result<Self, Error> {
        Self::start_after(name, || true)
    }

    /// As [`Self::start`]; the thread first runs `first`, and ends at once if that says false.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_after(
        name: &str,
        first: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let mut events =
            EventManager::new_with_capacity(EVENTS_PER_TURN).map_err(Error::EventLoop)?;
        let handle = IoHandle(events.remote_endpoint());
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if !first() {
                    return;
                }
                while !stop.load(Ordering::Acquire) {
                    if let Err(error) = events.run() {
                        log::error!("the event loop of an io thread failed: {error}");
                        return;
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            handle,
            stopping,
            thread: Some(thread),
        })
    }

    /// A handle for those who attach workers.
    pub fn handle(&self) -> IoHandle {
        self.handle.clone()
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // An empty call wakes the loop, which then sees the flag.
        let woken = self.handle.0.kick();
        if let (Ok(()), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl IoHandle {
    /// Gives a worker to the thread; its `init` has run when this returns. `None` when the thread has
    /// ended, and the worker with it.
    pub fn attach(&self, worker: Box<dyn Worker>) -> Option<Attached> {
        self.0
            .call_blocking(move |events| {
                Ok::<_, event_manager::Error>(events.add_subscriber(worker))
            })
            .ok()
            .map(Attached)
    }

    /// Takes a worker back: its events are removed, then everything it has in flight is waited for,
    /// both on its own thread. `None` when the thread has ended.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a place that was given up cannot be used again"
    )]
    pub fn detach(&self, attached: Attached) -> Option<Box<dyn Worker>> {
        self.0
            .call_blocking(move |events| {
                let mut worker = events.remove_subscriber(attached.0)?;
                worker.drain();
                Ok::<_, event_manager::Error>(worker)
            })
            .ok()
    }
}
