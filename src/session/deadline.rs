//! Points in time that a session waits for.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// A time that will be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// How long it was when it began.
    pub(super) after: Duration,
}

impl Deadline {
    /// `None` for a time so long that no clock reaches its end.
    pub(super) fn after(after: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(after)?;
        Some(Self { at, after })
    }

    pub(super) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Waits until one of `fds` is ready, or `deadline` has come, or a signal handler has run.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], deadline: Option<Deadline>) -> io::Result<()> {
    // What no timespec holds is longer than anybody waits.
    let left = deadline.and_then(|deadline| Timespec::try_from(deadline.left()).ok());
    match poll(fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
