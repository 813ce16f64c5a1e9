//! How a VM with a socket ends, in the words and exit statuses of its face.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal, raise};
use vmm::end::{Finish, GuestEnd};

use super::launch::Face;
use crate::failure::Failure;
use crate::session::{Ending, LastWord, Suspicion, last_word};

/// Exit status of Firecracker: SIGHUP has come.
const HUNG_UP: u8 = 156;
/// Exit status: something failed.
const FAILED: u8 = 1;

/// What is said last.
///
/// # Errors
/// When the guest did not end but KVM could not go on with it.
pub(super) fn word(
    face: Face,
    ending: Ending,
    finish: Option<Finish>,
    suspicion: &Suspicion,
) -> Result<LastWord, Failure> {
    let word = last_word(ending, finish, suspicion)?;
    Ok(match face {
        Face::Ravelin => word,
        Face::Firecracker => LastWord {
            status: firecracker_status(ending),
            ..word
        },
    })
}

/// Firecracker's exit statuses: a guest that ends by itself, in whatever way, is no failure.
fn firecracker_status(ending: Ending) -> u8 {
    match ending {
        Ending::Guest(GuestEnd::Reset | GuestEnd::PowerOff | GuestEnd::TripleFault) => 0,
        Ending::Signal(Signal::SIGHUP) => HUNG_UP,
        _ => FAILED,
    }
}

/// The process's exit status, after the lines that tools look for. A Firecracker that was ended by a signal
/// dies of it, so whoever waits for the process sees the same.
pub(super) fn leave(face: Face, ending: Ending, status: u8) -> ExitCode {
    if face == Face::Firecracker {
        match (ending, status) {
            (Ending::Signal(number), HUNG_UP) => log::error!(
                "Shutting down VM after intercepting signal {}, code {HUNG_UP}.",
                number as i32
            ),
            (Ending::Signal(number), _) => die_of(number),
            _ => log::info!("Vmm is stopping."),
        }
        match status {
            0 => log::info!("Firecracker exiting successfully. exit_code=0"),
            _ => log::error!("Firecracker exiting with error. exit_code={status}"),
        }
    }
    ExitCode::from(status)
}

/// Ends the process by `number`.
fn die_of(number: Signal) {
    // Each only fails for a signal that cannot be caught, and that has ended the process already.
    let _ = SigSet::from(number).thread_unblock();
    let _ = raise(number);
}
