//! One system call after the other; nothing is ever in flight.

use std::io;

use crate::virtio::block::disk::Disk;
use crate::virtio::block::job::{Finished, Job, Step};
use crate::virtio::block::request::OK;

/// The engine that waits for each call.
#[derive(Debug)]
pub(in crate::virtio::block) struct SyncEngine {
    job: Job,
}

impl SyncEngine {
    pub(super) fn new() -> Self {
        Self { job: Job::idle() }
    }

    pub(super) fn job(&mut self) -> &mut Job {
        &mut self.job
    }

    /// Runs the job to its end. **Bound: each step moves at least a byte, drops an ability, or counts as
    /// one of few retries.**
    pub(super) fn run(&mut self, disk: &mut Disk) -> Option<Finished> {
        loop {
            if self.job.skip(disk.abilities) {
                return self.job.finish(OK, None);
            }
            let outcome = call(&self.job.step(), disk);
            if let Some((status, error)) = self.job.advance(outcome, &mut disk.abilities) {
                return self.job.finish(status, error);
            }
        }
    }
}

fn call(step: &Step<'_>, disk: &Disk) -> io::Result<usize> {
    match *step {
        Step::Read(vecs, offset) => disk.read(vecs, offset),
        Step::Write(vecs, offset) => disk.write(vecs, offset),
        Step::Sync => disk.sync(),
        Step::Allocate(way, extent) => disk.allocate(way, extent),
        Step::WriteZeros(extent) => disk.write_zeros(extent),
    }
}
