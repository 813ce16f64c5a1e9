//! A request at work: one system call after the other until it has its status.
//!
//! Both engines run jobs the same way: `step` says which call is next, `advance` takes its outcome. So
//! short transfers, interrupted calls and what a file system cannot do are handled once, here.

use std::io;
use std::time::Instant;

use rustix::io::Errno;
use vm_memory::GuestAddress;

use crate::iovec::IoVecs;
use crate::virtio::Head;
use crate::virtio::block::disk::{Abilities, Allocate, Extent};
use crate::virtio::block::request::{IO_ERROR, OK, Request};

/// How often in a row the kernel may say "try again".
const RETRIES: u8 = 16;
/// Room for buffers that a job has from the start; it grows to the largest request seen, at most a
/// whole queue of buffers, and keeps that.
const BUFFERS: usize = 4;

/// The next system call of a job.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Read into the buffers from this offset.
    Read(&'a IoVecs, u64),
    /// Write the buffers to this offset.
    Write(&'a IoVecs, u64),
    /// Make what was written durable.
    Sync,
    /// Free or zero blocks.
    Allocate(Allocate, Extent),
    /// Write zeros over the start of this part.
    WriteZeros(Extent),
}

/// A request that is to be done.
#[derive(Debug)]
pub(super) struct Order {
    /// What is asked for.
    pub(super) request: Request,
    pub(super) head: Head,
    /// Where the status goes.
    pub(super) status_at: GuestAddress,
    /// When it was taken up.
    pub(super) since: Instant,
}

/// A request that has its status and is to be given back.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) head: Head,
    /// Where the status goes.
    pub(super) status_at: GuestAddress,
    pub(super) status: u8,
    /// The bytes of data written into guest memory.
    pub(super) written: u32,
    /// What was asked for.
    pub(super) request: Request,
    /// When it was taken up.
    pub(super) since: Instant,
    /// What the host's kernel said, if it failed the request.
    pub(super) error: Option<Errno>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Read,
    Write,
    /// A write whose driver cannot flush: it is durable when it is done.
    DurableWrite,
    Sync,
    Discard,
    Zero(Allocate),
    WriteZeros,
}

/// A request at work; reusable. **It owns its buffers' list and its head from `begin` to `finish`.**
#[derive(Debug)]
pub(super) struct Job {
    /// The buffers still to be moved.
    pub(super) vecs: IoVecs,
    request: Request,
    since: Instant,
    task: Task,
    /// The part of the disk still to be done.
    rest: Extent,
    moved: u64,
    retries: u8,
    status_at: GuestAddress,
    head: Option<Head>,
}

impl Job {
    /// A job with nothing to do.
    pub(super) fn idle() -> Self {
        Self {
            vecs: IoVecs::with_capacity(BUFFERS),
            request: Request::Flush,
            since: Instant::now(),
            task: Task::Sync,
            rest: Extent::default(),
            moved: 0,
            retries: 0,
            status_at: GuestAddress(0),
            head: None,
        }
    }

    /// Takes up a request whose buffers are in `vecs`. `durable`: a write is to be durable when done.
    pub(super) fn begin(&mut self, order: Order, durable: bool) {
        let Order {
            request,
            head,
            status_at,
            since,
        } = order;
        (self.request, self.since) = (request, since);
        let (task, rest) = match request {
            Request::Read(extent) => (Task::Read, extent),
            Request::Write(extent) if durable => (Task::DurableWrite, extent),
            Request::Write(extent) => (Task::Write, extent),
            Request::Discard(extent) => (Task::Discard, extent),
            Request::Zero { extent, unmap } if unmap => (Task::Zero(Allocate::PunchHole), extent),
            Request::Zero { extent, .. } => (Task::Zero(Allocate::ZeroRange), extent),
            Request::Flush | Request::GetId => (Task::Sync, Extent::default()),
        };
        (self.task, self.rest) = (task, rest);
        (self.moved, self.retries) = (0, 0);
        (self.head, self.status_at) = (Some(head), status_at);
    }

    /// The next system call.
    pub(super) fn step(&self) -> Step<'_> {
        match self.task {
            Task::Read => Step::Read(&self.vecs, self.rest.offset),
            Task::Write | Task::DurableWrite => Step::Write(&self.vecs, self.rest.offset),
            Task::Sync => Step::Sync,
            Task::Discard => Step::Allocate(Allocate::PunchHole, self.rest),
            Task::Zero(way) => Step::Allocate(way, self.rest),
            Task::WriteZeros => Step::WriteZeros(self.rest),
        }
    }

    /// Passes over what the file system is known not to do. True when nothing is left to be done.
    pub(super) fn skip(&mut self, abilities: Abilities) -> bool {
        if let Task::Discard = self.task
            && !abilities.has(Allocate::PunchHole)
        {
            return true;
        }
        while let Task::Zero(way) = self.task
            && !abilities.has(way)
        {
            self.task = next_way(way);
        }
        self.rest.len == 0 && self.task != Task::Sync
    }

    /// Takes the outcome of the last step. `Some` when the job has its status.
    pub(super) fn advance(
        &mut self,
        outcome: io::Result<usize>,
        abilities: &mut Abilities,
    ) -> Option<(u8, Option<Errno>)> {
        match outcome {
            Ok(n) => self.proceed(n),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.recover(errno, abilities)
            }
        }
    }

    /// Gives the request back with its status.
    pub(super) fn finish(&mut self, status: u8, error: Option<Errno>) -> Option<Finished> {
        self.vecs.clear();
        let written = if self.task == Task::Read {
            self.moved
        } else {
            0
        };
        Some(Finished {
            head: self.head.take()?,
            status_at: self.status_at,
            status,
            written: u32::try_from(written).unwrap_or(u32::MAX),
            request: self.request,
            since: self.since,
            error,
        })
    }

    fn proceed(&mut self, n: usize) -> Option<(u8, Option<Errno>)> {
        self.retries = 0;
        match self.task {
            Task::Sync | Task::Discard | Task::Zero(_) => return Some((OK, None)),
            Task::Read | Task::Write | Task::DurableWrite | Task::WriteZeros => {}
        }
        if n == 0 {
            // The file is shorter than when it was measured.
            return Some((IO_ERROR, Some(Errno::IO)));
        }
        let moved = u64::try_from(n).unwrap_or(u64::MAX);
        self.moved = self.moved.saturating_add(moved);
        self.rest = Extent {
            offset: self.rest.offset.saturating_add(moved),
            len: self.rest.len.saturating_sub(moved),
        };
        if self.rest.len > 0 {
            if self.task != Task::WriteZeros {
                self.vecs.advance(n);
            }
            return None;
        }
        if self.task == Task::DurableWrite {
            self.task = Task::Sync;
            return None;
        }
        Some((OK, None))
    }

    fn recover(&mut self, errno: Errno, abilities: &mut Abilities) -> Option<(u8, Option<Errno>)> {
        let cannot = matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS);
        match (self.task, errno) {
            (_, Errno::INTR | Errno::AGAIN) if self.retries < RETRIES => {
                self.retries = self.retries.saturating_add(1);
                None
            }
            // A discard is a hint: what cannot be freed stays.
            (Task::Discard, _) if cannot => {
                abilities.lacks(Allocate::PunchHole);
                Some((OK, None))
            }
            (Task::Zero(way), _) if cannot => {
                abilities.lacks(way);
                self.task = next_way(way);
                None
            }
            // A block device takes only whole blocks of its own here; a write takes any.
            (Task::Zero(_), Errno::INVAL) => {
                self.task = Task::WriteZeros;
                None
            }
            _ => Some((IO_ERROR, Some(errno))),
        }
    }
}

/// What to try where `way` cannot be had.
fn next_way(way: Allocate) -> Task {
    match way {
        Allocate::PunchHole => Task::Zero(Allocate::ZeroRange),
        Allocate::ZeroRange => Task::WriteZeros,
    }
}

#[cfg(test)]
impl Finished {
    /// Gives up the head of a test, which no queue waits for.
    fn settled(mut self) -> Self {
        self.head.settle();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::GuestRam;
    use crate::virtio::queue::Head;

    const EXTENT: Extent = Extent {
        offset: 4096,
        len: 1024,
    };

    fn job(request: Request, durable: bool) -> Job {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let mut job = Job::idle();
        for at in [0, 512] {
            job.vecs.push(&ram, GuestAddress(at), 512).unwrap();
        }
        // The memory is named and never touched.
        let order = Order {
            request,
            head: Head::for_tests(),
            status_at: GuestAddress(0),
            since: Instant::now(),
        };
        job.begin(order, durable);
        job
    }

    fn all() -> Abilities {
        Abilities::all()
    }

    fn failed(errno: Errno) -> io::Result<usize> {
        Err(errno.into())
    }

    #[test]
    fn a_short_transfer_goes_on_where_it_ended() {
        let mut job = job(Request::Read(EXTENT), false);
        assert_eq!(job.advance(Ok(700), &mut all()), None);
        let Step::Read(vecs, 4796) = job.step() else {
            panic!("{:?}", job.step());
        };
        assert_eq!((vecs.len(), vecs.as_slice().len()), (324, 1));
        assert_eq!(job.advance(Ok(324), &mut all()), Some((OK, None)));
        assert_eq!(job.finish(OK, None).unwrap().settled().written, 1024);
    }

    #[test]
    fn a_transfer_that_moves_nothing_has_failed() {
        let mut job = job(Request::Write(EXTENT), false);
        let end = job.advance(Ok(0), &mut all());
        assert_eq!(end, Some((IO_ERROR, Some(Errno::IO))));
        job.finish(IO_ERROR, None).unwrap().settled();
    }

    #[test]
    fn an_interrupted_call_is_made_again_but_not_for_ever() {
        let mut job = job(Request::Read(EXTENT), false);
        for _ in 0..RETRIES {
            assert_eq!(job.advance(failed(Errno::INTR), &mut all()), None);
        }
        let end = job.advance(failed(Errno::AGAIN), &mut all());
        assert_eq!(end, Some((IO_ERROR, Some(Errno::AGAIN))));
        job.finish(IO_ERROR, None).unwrap().settled();
    }

    #[test]
    fn a_durable_write_is_synced_before_it_is_done() {
        let mut job = job(Request::Write(EXTENT), true);
        assert_eq!(job.advance(Ok(1024), &mut all()), None);
        assert!(matches!(job.step(), Step::Sync));
        assert!(!job.skip(all()));
        assert_eq!(job.advance(Ok(0), &mut all()), Some((OK, None)));
        job.finish(OK, None).unwrap().settled();
    }

    #[test]
    fn zeroes_fall_back_step_by_step_and_the_disk_remembers() {
        let request = Request::Zero {
            extent: EXTENT,
            unmap: true,
        };
        let mut job = job(request, false);
        let mut abilities = all();
        for way in [Allocate::PunchHole, Allocate::ZeroRange] {
            assert!(matches!(job.step(), Step::Allocate(now, EXTENT) if now == way));
            assert_eq!(job.advance(failed(Errno::OPNOTSUPP), &mut abilities), None);
            assert!(!abilities.has(way));
        }
        assert!(matches!(job.step(), Step::WriteZeros(EXTENT)));
        assert_eq!(job.advance(Ok(1024), &mut abilities), Some((OK, None)));
        job.finish(OK, None).unwrap().settled();
    }

    #[test]
    fn a_discard_that_cannot_be_had_is_done() {
        let mut job = job(Request::Discard(EXTENT), false);
        let mut abilities = all();
        let end = job.advance(failed(Errno::OPNOTSUPP), &mut abilities);
        assert_eq!(end, Some((OK, None)));
        assert!(job.skip(abilities), "the next one is not even tried");
        job.finish(OK, None).unwrap().settled();
    }
}
