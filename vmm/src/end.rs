//! The ways a guest ends, and the channel that carries the first of them to the main thread.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Why a guest stopped running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestEnd {
    /// The guest asked for a reset (keyboard controller or ACPI reset register).
    Reset,
    /// The guest switched the machine off (ACPI sleep control, type 5).
    PowerOff,
    /// A fault while delivering a double fault: `KVM_EXIT_SHUTDOWN`.
    TripleFault,
    /// KVM could not go on with a vCPU: `KVM_EXIT_INTERNAL_ERROR` with its suberror.
    InternalError(u32),
    /// The processor refused to enter the guest, with the hardware's reason.
    EntryFailed(u64),
    /// A vCPU left the guest for a reason that this machine never asks for, with KVM's number.
    UnexpectedExit(u32),
    /// `KVM_RUN` itself failed, with the error number.
    RunFailed(i32),
}

impl fmt::Display for GuestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("the guest reset the machine"),
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::TripleFault => f.write_str("the guest's processor shut down (triple fault)"),
            Self::InternalError(suberror) => write!(
                f,
                "KVM could not emulate the guest any further (internal error, suberror {suberror})"
            ),
            Self::EntryFailed(reason) => {
                write!(
                    f,
                    "the processor refused to run the guest (reason {reason:#x})"
                )
            }
            Self::UnexpectedExit(reason) => {
                write!(
                    f,
                    "KVM left the guest for an unexpected reason (exit {reason})"
                )
            }
            Self::RunFailed(errno) => write!(
                f,
                "KVM_RUN failed: {}",
                io::Error::from_raw_os_error(*errno)
            ),
        }
    }
}

/// What a guest has left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Finish {
    /// The status that its init has written to the power block, if it has.
    pub exit_status: Option<u8>,
    /// Whether the reset followed a kernel panic (Linux `reboot=panic_warm`).
    pub panicked: bool,
}

/// Reports guest ends; one clone for each vCPU thread and each device that can end the guest.
#[derive(Debug, Clone)]
pub struct EndReporter {
    ends: Sender<GuestEnd>,
    event: Arc<EventFd>,
    ended: Arc<AtomicBool>,
}

impl EndReporter {
    /// Reports `end`. Only the first report counts; later ones are dropped, so that a guest that
    /// resets twice, or a second vCPU that faults meanwhile, does not hide why it really ended.
    pub fn report(&self, end: GuestEnd) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        // Both fail only when nobody listens any more, and then nobody needs to know.
        if self.ends.send(end).is_err() || self.event.write(1).is_err() {
            log::debug!("{end}, after the machine was taken down");
        }
    }

    /// Wakes the listener for another reason, which it finds out by itself.
    pub fn wake(&self) {
        // A full counter wakes as well.
        let _ = self.event.write(1);
    }

    /// Whether an end was reported: a vCPU thread then leaves the guest alone.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Where the main thread hears that the guest ended.
#[derive(Debug)]
pub struct Ends {
    ends: Receiver<GuestEnd>,
    event: Arc<EventFd>,
}

impl Ends {
    /// The event that becomes readable when the guest has ended, for an event loop.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Makes the event quiet until something new comes. What came before is still there to be taken.
    pub fn calm(&self) {
        let _ = self.event.read();
    }

    /// The reported end, if there is one; does not wait.
    pub fn take(&self) -> Option<GuestEnd> {
        self.ends.try_recv().ok()
    }

    /// Waits for the end. `None` when every reporter is gone without a report.
    pub fn wait(&self) -> Option<GuestEnd> {
        self.ends.recv().ok()
    }
}

/// Makes a connected pair.
///
/// # Errors
/// The error of `eventfd(2)`.
pub fn ends() -> io::Result<(EndReporter, Ends)> {
    let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
    let (sender, receiver) = channel();
    let reporter = EndReporter {
        ends: sender,
        event: Arc::clone(&event),
        ended: Arc::new(AtomicBool::new(false)),
    };
    Ok((
        reporter,
        Ends {
            ends: receiver,
            event,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_end_is_reported() {
        let (reporter, ends) = ends().unwrap();
        assert!(!reporter.has_ended());
        reporter.report(GuestEnd::PowerOff);
        reporter.clone().report(GuestEnd::TripleFault);
        assert!(reporter.has_ended());
        assert_eq!(ends.event().read().unwrap(), 1);
        assert_eq!(ends.take(), Some(GuestEnd::PowerOff));
        assert_eq!(ends.take(), None);
    }

    #[test]
    fn waiting_ends_when_every_reporter_is_gone() {
        let (reporter, ends) = ends().unwrap();
        drop(reporter);
        assert_eq!(ends.wait(), None);
    }
}
