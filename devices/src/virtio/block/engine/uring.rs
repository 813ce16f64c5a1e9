//! Many requests in flight through one io_uring.
//!
//! **The completion queue cannot overflow**: there is room for as many jobs as the ring has submission
//! entries, a job has one entry at a time, and the kernel makes the completion queue twice as long.
//! **A job in flight owns its head and its list of buffers**, and the worker owns the guest's memory and
//! waits for all of them before it lets go.
//!
//! Completions are told by an eventfd: with deferred task work, a ring's own fd does not become readable
//! when an io-wq thread has finished a request (Linux 6.18). The eventfd is switched off while the
//! worker is at work anyway, so a request that the page cache serves costs no wake-up.
#![expect(unsafe_code, reason = "an io_uring entry names its buffers by address")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering, fence};

use io_uring::register::Restriction;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::virtio::block::disk::{Disk, zeros};
use crate::virtio::block::job::{Finished, Job, Step};
use crate::virtio::block::request::{IO_ERROR, OK};

/// The engine with requests in flight.
pub(in crate::virtio::block) struct UringEngine {
    ring: IoUring,
    completions: EventFd,
    jobs: Vec<Job>,
    /// Indexes into `jobs`; the one used last is used first, while it is warm.
    free: Vec<u16>,
    /// Jobs in the submission queue, in its order, that the kernel has not yet taken.
    queued: VecDeque<u16>,
    enabled: bool,
    /// The kernel refuses the ring: jobs fail at once.
    broken: bool,
}

impl std::fmt::Debug for UringEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringEngine")
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl UringEngine {
    /// A ring with room for `slots` jobs, not yet enabled: the thread that enables it is the only one
    /// that may use it.
    ///
    /// # Errors
    /// When the kernel grants none: too old (5.10 is needed), switched off, or filtered.
    pub(super) fn new(slots: u16) -> io::Result<Self> {
        let mut ring = build(slots.into())?;
        let completions = EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        ring.completion().disable_eventfd();
        ring.submitter().register_eventfd(completions.as_raw_fd())?;
        restrict(&ring)?;
        Ok(Self {
            ring,
            completions,
            jobs: (0..slots).map(|_| Job::idle()).collect(),
            free: (0..slots).rev().collect(),
            queued: VecDeque::with_capacity(slots.into()),
            enabled: false,
            broken: false,
        })
    }

    pub(super) fn completions(&self) -> &EventFd {
        &self.completions
    }

    /// Completions need not be told until `listen`.
    pub(super) fn hush(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Completions are to be told from now on. True: there is one already.
    pub(super) fn listen(&mut self) -> bool {
        if !self.is_busy() {
            return false;
        }
        self.ring.completion().enable_eventfd();
        // Either the kernel sees the switch after its completion, or this sees the completion after the
        // switch.
        fence(Ordering::SeqCst);
        self.has_completion()
    }

    /// Whether there is a completion, or deferred work that makes one.
    pub(super) fn has_completion(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    pub(super) fn enable(&mut self) {
        if self.enabled {
            return;
        }
        match self.ring.submitter().register_enable_rings() {
            Ok(()) => self.enabled = true,
            Err(error) => self.give_up(&error),
        }
    }

    pub(super) fn vacant(&mut self) -> Option<&mut Job> {
        let slot = *self.free.last()?;
        self.jobs.get_mut(usize::from(slot))
    }

    /// Puts the vacant job into the submission queue.
    pub(super) fn start(&mut self, disk: &Disk) -> Option<Finished> {
        let slot = self.free.pop()?;
        self.step(slot, disk)
    }

    /// Passes the submission queue to the kernel and lets it do its deferred work.
    pub(super) fn submit(&mut self) {
        if self.has_queued() || self.ring.submission().taskrun() {
            self.enter(0);
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    pub(super) fn next_finished(&mut self, disk: &mut Disk) -> Option<Finished> {
        loop {
            let Some(entry) = self.ring.completion().next() else {
                return self.next_abandoned();
            };
            let Ok(slot) = u16::try_from(entry.user_data()) else {
                continue;
            };
            let outcome = usize::try_from(entry.result())
                .map_err(|_| io::Error::from_raw_os_error(entry.result().saturating_neg()));
            let Some(job) = self.jobs.get_mut(usize::from(slot)) else {
                continue;
            };
            let finished = match job.advance(outcome, &mut disk.abilities) {
                Some((status, error)) => self.release(slot, status, error),
                None => self.step(slot, disk),
            };
            if finished.is_some() {
                return finished;
            }
        }
    }

    /// Waits for a completion. False: nothing is in flight. **Never gives up on what the kernel has
    /// taken**: it may still write to guest memory.
    pub(super) fn wait(&mut self) -> bool {
        if !self.is_busy() {
            return false;
        }
        // What the kernel never took does not complete; what it took does.
        self.enter(0);
        if self.in_flight() > self.queued.len() && self.ring.completion().is_empty() {
            self.enter(1);
        }
        true
    }

    fn is_busy(&self) -> bool {
        self.in_flight() > 0
    }

    fn in_flight(&self) -> usize {
        self.jobs.len().saturating_sub(self.free.len())
    }

    /// Queues the job's next system call, or finishes the job if there is none.
    fn step(&mut self, slot: u16, disk: &Disk) -> Option<Finished> {
        let job = self.jobs.get_mut(usize::from(slot))?;
        if self.broken {
            return self.release(slot, IO_ERROR, Some(Errno::IO));
        }
        if job.skip(disk.abilities) {
            return self.release(slot, OK, None);
        }
        let entry = entry(&job.step(), disk).user_data(slot.into());
        // SAFETY: the entry names the job's list and the guest buffers on it. The job stays in its slot
        // untouched until its completion, and the worker keeps guest memory until all are complete.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return self.release(slot, IO_ERROR, Some(Errno::AGAIN));
        }
        self.queued.push_back(slot);
        None
    }

    fn release(&mut self, slot: u16, status: u8, error: Option<Errno>) -> Option<Finished> {
        self.free.push(slot);
        self.jobs.get_mut(usize::from(slot))?.finish(status, error)
    }

    /// `io_uring_enter(2)`. A kernel that is short of memory is asked again at the next event.
    fn enter(&mut self, wait_for: usize) {
        match self.ring.submitter().submit_and_wait(wait_for) {
            Ok(taken) => {
                self.queued.drain(..taken.min(self.queued.len()));
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                _ => self.give_up(&error),
            },
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        if !self.broken {
            log::error!("an io_uring can no longer be used, its disk fails: {error}");
        }
        self.broken = true;
    }

    /// Of a broken ring: the next job that the kernel will never take.
    fn next_abandoned(&mut self) -> Option<Finished> {
        if !self.broken {
            return None;
        }
        let slot = self.queued.pop_front()?;
        self.release(slot, IO_ERROR, Some(Errno::IO))
    }
}

/// Completions are worked up only when this thread asks (6.1), which saves interrupting it; an older
/// kernel interrupts.
fn build(entries: u32) -> io::Result<IoUring> {
    let modern = IoUring::builder()
        .setup_r_disabled()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match modern {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            IoUring::builder().setup_r_disabled().build(entries)
        }
        built => built,
    }
}

/// From its enabling on, the ring does what a disk does and nothing else, whoever holds it.
fn restrict(ring: &IoUring) -> io::Result<()> {
    let mut allowed = [
        opcode::Readv::CODE,
        opcode::Writev::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
        opcode::Fallocate::CODE,
    ]
    .map(Restriction::sqe_op);
    ring.submitter().register_restrictions(&mut allowed)
}

fn entry(step: &Step<'_>, disk: &Disk) -> squeue::Entry {
    let fd = Fd(disk.file.as_raw_fd());
    match *step {
        Step::Read(vecs, offset) => {
            let list = vecs.as_slice();
            opcode::Readv::new(fd, list.as_ptr(), count(list))
                .offset(offset)
                .build()
        }
        Step::Write(vecs, offset) => {
            let list = vecs.as_slice();
            opcode::Writev::new(fd, list.as_ptr(), count(list))
                .offset(offset)
                .build()
        }
        Step::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        Step::Allocate(way, extent) => opcode::Fallocate::new(fd, extent.len)
            .offset(extent.offset)
            .mode(i32::try_from(way.flags().bits()).unwrap_or_default())
            .build(),
        Step::WriteZeros(extent) => {
            let zeros = zeros(extent);
            opcode::Write::new(fd, zeros.as_ptr(), count(zeros))
                .offset(extent.offset)
                .build()
        }
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
