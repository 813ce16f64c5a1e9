//! A second, as long as somebody waits for something that may never come.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer that is due every second while it runs.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    is_running: bool,
}

impl Timer {
    /// A timer that does not run.
    ///
    /// # Errors
    /// When the kernel grants none.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            fd: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            is_running: false,
        })
    }

    /// Readable when it is due.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Lets it run, if it does not.
    pub(super) fn start(&mut self) {
        if !self.is_running {
            self.set(1);
        }
    }

    /// Stops it.
    pub(super) fn stop(&mut self) {
        if self.is_running {
            self.set(0);
        }
    }

    /// Takes its event.
    pub(super) fn fired(&self) {
        // It may have been stopped meanwhile.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }

    fn set(&mut self, tv_sec: i64) {
        let time = Timespec { tv_sec, tv_nsec: 0 };
        let every = Itimerspec {
            it_interval: time,
            it_value: time,
        };
        // It has nothing to fail for: the times are sound and the timer is one.
        let is_set = timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &every).is_ok();
        self.is_running = is_set && tv_sec > 0;
    }
}
