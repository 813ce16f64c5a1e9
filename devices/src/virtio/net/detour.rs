//! Frames between the guest and the metadata service, which never see the tap.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::host::GuestRam;
use crate::mmds::{Attachment, HEAD, LONGEST_FRAME, Stack};
use crate::virtio::Chain;
use crate::virtio::net::HEADER;

/// A card's way to the metadata service. Until the guest's first frame to it there is only a timer.
pub(super) struct Detour {
    attachment: Attachment,
    stack: Option<Box<Stack>>,
    /// The card's MTU, or what most have.
    mtu: u16,
    timer: OwnedFd,
    /// When the timer is due, in the time of `made`.
    armed: Option<Duration>,
    /// What the stack's time counts from.
    made: Instant,
    /// The frame that is being read.
    frame: Vec<u8>,
}

impl Detour {
    /// A way to the service of `attachment`.
    ///
    /// # Errors
    /// When the kernel grants no timer.
    pub(super) fn new(attachment: Attachment, mtu: Option<u16>) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            attachment,
            stack: None,
            mtu: mtu.unwrap_or(1500),
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            armed: None,
            made: Instant::now(),
            frame: Vec::new(),
        })
    }

    /// The timer to watch for input. It is set only while a connection is open.
    pub(super) fn timer(&self) -> &OwnedFd {
        &self.timer
    }

    /// Takes the frame in `chain`, which is longer than virtio's header, if it is for the service.
    pub(super) fn take(&mut self, ram: &GuestRam, chain: &Chain) -> bool {
        let len = usize::try_from(chain.readable_len()).unwrap_or(usize::MAX);
        let len = len.saturating_sub(HEADER);
        let mut head = [0; HEAD];
        let Some(head) = head.get_mut(..len.min(HEAD)) else {
            return false;
        };
        if !read(ram, chain, head) || !self.attachment.claims(head) {
            return false;
        }
        // The rest may be unread: it is too long for any request, and counted as such.
        self.frame
            .resize(len.min(LONGEST_FRAME.saturating_add(1)), 0);
        // The head is read once more, and what it says by now is what counts.
        if read(ram, chain, &mut self.frame) {
            let now = self.made.elapsed();
            let stack = self
                .stack
                .get_or_insert_with(|| Box::new(Stack::new(&self.attachment, self.mtu, now)));
            stack.take(now, &self.frame);
        }
        true
    }

    /// Whether the guest has a frame to receive.
    pub(super) fn has_frame(&self) -> bool {
        self.front().is_some()
    }

    /// The next frame for the guest, without virtio's header.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.stack.as_ref()?.front()
    }

    /// The next frame has been given to the guest.
    pub(super) fn pop(&mut self) {
        let now = self.made.elapsed();
        if let Some(stack) = &mut self.stack {
            stack.pop(now);
        }
    }

    /// Takes the timer's event.
    pub(super) fn fired(&mut self) {
        // Empty when the event is older than the last setting.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        self.armed = None;
        let now = self.made.elapsed();
        if let Some(stack) = &mut self.stack {
            stack.advance(now);
        }
    }

    /// Sets the timer for what is due next. One that is set for an earlier time is left: it costs a turn.
    pub(super) fn arm(&mut self) {
        let Some(stack) = &mut self.stack else {
            return;
        };
        let now = self.made.elapsed();
        let Some(due) = stack.deadline(now) else {
            return;
        };
        if self.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        let wait = due.saturating_sub(now).max(Duration::from_nanos(1));
        let Ok(it_value) = Timespec::try_from(wait) else {
            return;
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value,
        };
        let set = timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &once);
        self.armed = set.is_ok().then_some(due);
    }

    /// Forgets all connections: the driver that had them is gone.
    pub(super) fn reset(&mut self) {
        self.stack = None;
    }
}

impl fmt::Debug for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detour")
            .field("stack", &self.stack)
            .finish_non_exhaustive()
    }
}

/// Reads a frame's beginning.
fn read(ram: &GuestRam, chain: &Chain, frame: &mut [u8]) -> bool {
    let offset = u32::try_from(HEADER).unwrap_or(u32::MAX);
    chain.read_at(ram, offset, frame).is_ok()
}
