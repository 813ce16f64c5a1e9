//! How requests reach the host's kernel.
//!
//! An engine has room for jobs: the worker fills the `vacant` one and starts it. It may be finished at
//! once, or come out of `next_finished` later.

mod sync;
mod uring;

use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::virtio::block::disk::Disk;
use crate::virtio::block::job::{Finished, Job};
use crate::virtio::block::{self, QUEUE_SIZES};

use sync::SyncEngine;
use uring::UringEngine;

/// The engine of a disk: built with it, moves into its worker and back.
#[derive(Debug)]
pub(super) enum Engine {
    Sync(SyncEngine),
    Uring(Box<UringEngine>),
}

impl Engine {
    /// The engine that waits for each call.
    pub(super) fn sync() -> Self {
        Self::Sync(SyncEngine::new())
    }

    /// # Errors
    /// When the kernel grants no io_uring and one was asked for.
    pub(super) fn new(kind: block::Engine) -> io::Result<Self> {
        Ok(match kind {
            block::Engine::Sync => Self::sync(),
            block::Engine::Uring => {
                let slots = QUEUE_SIZES.iter().copied().max().unwrap_or(1);
                Self::Uring(Box::new(UringEngine::new(slots)?))
            }
        })
    }

    /// Takes up work on the present thread, the only one to use the engine until it is stopped.
    pub(super) fn enter(&mut self) {
        if let Self::Uring(uring) = self {
            uring.enable();
        }
    }

    /// What becomes readable when a job may have finished.
    pub(super) fn completions(&self) -> Option<&EventFd> {
        match self {
            Self::Sync(_) => None,
            Self::Uring(uring) => Some(uring.completions()),
        }
    }

    /// Takes the event of `completions`.
    pub(super) fn silence(&self) {
        if let Self::Uring(uring) = self {
            // It may be quiet already: what it told may have been found before.
            let _ = uring.completions().read();
        }
    }

    /// Asks not to be told of completions: the worker looks for them.
    pub(super) fn hush(&mut self) {
        if let Self::Uring(uring) = self {
            uring.hush();
        }
    }

    /// Asks to be told of completions again. True: there is one that will not be told; look for it.
    pub(super) fn listen(&mut self) -> bool {
        match self {
            Self::Sync(_) => false,
            Self::Uring(uring) => uring.listen(),
        }
    }

    /// Room for one more job.
    pub(super) fn vacant(&mut self) -> Option<&mut Job> {
        match self {
            Self::Sync(sync) => Some(sync.job()),
            Self::Uring(uring) => uring.vacant(),
        }
    }

    /// Starts the job in the vacant room.
    pub(super) fn start(&mut self, disk: &mut Disk) -> Option<Finished> {
        match self {
            Self::Sync(sync) => sync.run(disk),
            Self::Uring(uring) => uring.start(disk),
        }
    }

    /// Passes what was started to the kernel.
    pub(super) fn submit(&mut self) {
        if let Self::Uring(uring) = self {
            uring.submit();
        }
    }

    /// Whether something waits to be submitted: another step of a job, or what a kernel short of memory
    /// did not take.
    pub(super) fn has_queued(&self) -> bool {
        match self {
            Self::Sync(_) => false,
            Self::Uring(uring) => uring.has_queued(),
        }
    }

    /// The next job that has finished since it was started.
    pub(super) fn next_finished(&mut self, disk: &mut Disk) -> Option<Finished> {
        match self {
            Self::Sync(_) => None,
            Self::Uring(uring) => uring.next_finished(disk),
        }
    }

    /// Whether `submit` and `next_finished` would find something. Makes no system call.
    pub(super) fn has_completion(&mut self) -> bool {
        match self {
            Self::Sync(_) => false,
            Self::Uring(uring) => uring.has_completion(),
        }
    }

    /// Waits until `next_finished` has something, if anything is in flight. False: nothing is.
    pub(super) fn wait(&mut self) -> bool {
        match self {
            Self::Sync(_) => false,
            Self::Uring(uring) => uring.wait(),
        }
    }
}
