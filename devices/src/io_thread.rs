//! An event loop on a named thread: workers are attached to it and detached from it.

use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use event_manager::{EventManager, RemoteEndpoint, SubscriberId, SubscriberOps};

use crate::virtio::Worker;

/// The stack of every thread of a monitor, bytes. The standard library's 2 MiB are a huge page where they happen to be
/// aligned, and then the kernel may have all of it resident as soon as one byte of it is.
pub const STACK: usize = 1 << 20;
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

/// A thread that runs workers. Dropping it stops the thread; its workers are dropped there, unless it
/// [lasts](Self::settle).
#[derive(Debug)]
pub struct IoThread {
    handle: IoHandle,
    stopping: Arc<AtomicBool>,
    lasts: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

/// The way for others to reach the workers of an [`IoThread`].
///
/// **Never to be used on the io thread itself**: `attach` and `detach` wait for it.
#[derive(Clone)]
pub struct IoHandle {
    events: RemoteEndpoint<Box<dyn Worker>>,
    /// Who is there.
    workers: Arc<Mutex<Vec<SubscriberId>>>,
}

impl fmt::Debug for IoHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoHandle")
    }
}

/// The workers, on their thread.
type Subscribers<'a> = dyn SubscriberOps<Subscriber = Box<dyn Worker>> + 'a;

/// A worker's place on its thread.
#[derive(Debug)]
pub struct Attached(SubscriberId);

impl IoThread {
    /// Starts a thread of the given name (at most 15 bytes are shown by the kernel).
    ///
    /// # Errors
    /// When the kernel grants no epoll instance, eventfd or thread.
    pub fn start(name: &str) -> Result<Self, Error> {
        let mut events =
            EventManager::new_with_capacity(EVENTS_PER_TURN).map_err(Error::EventLoop)?;
        let handle = IoHandle {
            events: events.remote_endpoint(),
            workers: Arc::default(),
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || {
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
            lasts: AtomicBool::new(false),
            thread: Some(thread),
        })
    }

    /// A handle for those who attach workers.
    pub fn handle(&self) -> IoHandle {
        self.handle.clone()
    }
}

impl IoThread {
    /// Runs `last` on the thread; where it says `Ok`, the thread lasts until the process ends. Dropping this then
    /// drains the workers and leaves them where they are: to end a thread, and to take down what its workers have,
    /// asks more of the kernel than to serve queues. `None` when the thread has ended.
    pub fn settle<E: Send + 'static>(
        &self,
        last: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Option<Result<(), E>> {
        let done = self.handle.run(move |_| last())?;
        self.lasts.store(done.is_ok(), Ordering::Release);
        Some(done)
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        if self.lasts.load(Ordering::Acquire) {
            self.handle.leave_all();
            return;
        }
        self.stopping.store(true, Ordering::Release);
        // An empty call wakes the loop, which then sees the flag.
        let woken = self.handle.events.kick();
        if let (Ok(()), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl IoHandle {
    /// Gives a worker to the thread; its `init` has run when this returns. `None` when the thread has
    /// ended, and the worker with it.
    pub fn attach(&self, worker: Box<dyn Worker>) -> Option<Attached> {
        let id = self.run(move |events| events.add_subscriber(worker))?;
        self.workers().push(id);
        Some(Attached(id))
    }

    /// Takes a worker back: its events are removed, then everything it has in flight is waited for,
    /// both on its own thread. `None` when the thread has ended.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a place that was given up cannot be used again"
    )]
    pub fn detach(&self, attached: Attached) -> Option<Box<dyn Worker>> {
        self.workers().retain(|id| *id != attached.0);
        self.run(move |events| drained(events, attached.0))?
    }

    /// Has every worker finish what it has in flight, and do nothing more.
    fn leave_all(&self) {
        let workers = mem::take(&mut *self.workers());
        self.run(move |events| {
            for id in workers {
                mem::forget(drained(events, id));
            }
        });
    }

    /// Runs `what` on the thread and waits for it. `None` when the thread has ended.
    fn run<T: Send + 'static>(
        &self,
        what: impl for<'a> FnOnce(&'a mut Subscribers<'a>) -> T + Send + 'static,
    ) -> Option<T> {
        self.events
            .call_blocking(|events| Ok::<_, event_manager::Error>(what(events)))
            .ok()
    }

    fn workers(&self) -> MutexGuard<'_, Vec<SubscriberId>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drained(events: &mut Subscribers<'_>, id: SubscriberId) -> Option<Box<dyn Worker>> {
    let mut worker = events.remove_subscriber(id).ok()?;
    worker.drain();
    Some(worker)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use event_manager::{EventOps, Events, MutEventSubscriber};

    use super::*;

    /// Counts how often it was drained, and how often dropped.
    struct Tally(Arc<[AtomicUsize; 2]>);

    impl MutEventSubscriber for Tally {
        fn process(&mut self, _: Events, _: &mut EventOps) {}
        fn init(&mut self, _: &mut EventOps) {}
    }

    impl Worker for Tally {
        fn drain(&mut self) {
            self.0[0].fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Drop for Tally {
        fn drop(&mut self) {
            self.0[1].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A thread with a worker and one that was taken back; how often they were drained and dropped in the end.
    fn end(thread: IoThread) -> [usize; 2] {
        let (stays, goes) = (Arc::<[AtomicUsize; 2]>::default(), Arc::default());
        let handle = thread.handle();
        let gone = handle.attach(Box::new(Tally(goes))).unwrap();
        handle.attach(Box::new(Tally(Arc::clone(&stays)))).unwrap();
        drop(handle.detach(gone));
        drop(thread);
        [0, 1].map(|index| stays[index].load(Ordering::Relaxed))
    }

    #[test]
    fn a_thread_that_ends_drops_its_workers() {
        assert_eq!(end(IoThread::start("ends").unwrap()), [0, 1]);
    }

    #[test]
    fn a_thread_that_lasts_drains_its_workers_and_leaves_them_where_they_are() {
        let thread = IoThread::start("lasts").unwrap();
        assert_eq!(thread.settle(|| Ok::<_, ()>(())), Some(Ok(())));
        assert_eq!(end(thread), [1, 0]);
    }

    #[test]
    fn a_thread_that_could_not_settle_ends() {
        let thread = IoThread::start("refused").unwrap();
        assert_eq!(thread.settle(|| Err("no")), Some(Err("no")));
        assert_eq!(end(thread), [0, 1]);
    }
}
