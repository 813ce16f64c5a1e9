//! Why a guest no longer runs, as a sentence and an exit status.

use std::time::Duration;

use nix::sys::signal::Signal;
use vmm::end::{Finish, GuestEnd};

use super::Suspicion;
use crate::failure::Failure;

/// Why a VM no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was kept from running so late that this process can start nothing any more.
    Spent,
    /// Its own doing.
    Guest(GuestEnd),
    /// Its time is over, which was this long.
    Timeout(Duration),
    /// Ctrl-A x or SIGINT.
    Stopped,
    /// A signal.
    Signal(Signal),
    /// The socket's thread has ended.
    Unserved,
}

/// What the user hears last, and ravelin's exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastWord {
    /// A sentence.
    pub(crate) text: String,
    /// The exit status.
    pub(crate) status: u8,
}

/// The last word about a guest that has ended in this way and left `finish` behind.
///
/// # Errors
/// When the guest did not end but KVM could not go on with it.
pub(crate) fn last_word(
    ending: Ending,
    finish: Option<Finish>,
    suspicion: &Suspicion,
) -> Result<LastWord, Failure> {
    let (text, status) = match ending {
        Ending::Spent => {
            return Err(Failure::run(
                "the guest was kept from running, and this process is confined by now: start it anew",
            ));
        }
        Ending::Timeout(time) => (format!("the guest was ended: its {time:?} are over"), 124),
        Ending::Stopped => ("the guest was ended by its user".to_owned(), 130),
        Ending::Signal(signal) if finish.is_none() => (
            "ended by a signal, before there was a guest".to_owned(),
            killed_by(signal),
        ),
        Ending::Signal(_) => ("the guest was ended by a second signal".to_owned(), 143),
        Ending::Unserved => ("the VM cannot be used any more".to_owned(), 1),
        Ending::Guest(GuestEnd::PowerOff) => match finish.and_then(|finish| finish.exit_status) {
            Some(status) => (
                format!("the guest powered off; its command's status was {status}"),
                status,
            ),
            None => ("the guest powered off".to_owned(), 0),
        },
        Ending::Guest(GuestEnd::Reset) if finish.is_some_and(|finish| finish.panicked) => {
            ("the guest's kernel panicked".to_owned(), 121)
        }
        Ending::Guest(GuestEnd::Reset) => (
            "the guest rebooted; run ravelin again to boot it again".to_owned(),
            120,
        ),
        Ending::Guest(end @ GuestEnd::TripleFault) => (end.to_string(), 122),
        Ending::Guest(broken) => return Err(explained(broken, suspicion)),
    };
    Ok(LastWord { text, status })
}

/// The status that a shell gives to a program that a signal has ended.
fn killed_by(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)
}

/// What KVM could not go on with, the host's examination may explain.
fn explained(broken: GuestEnd, suspicion: &Suspicion) -> Failure {
    match suspicion.sentence() {
        Some(sentence) => Failure::run(format!("{broken}: {sentence}")),
        None => Failure::run(broken.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Finish = Finish {
        exit_status: None,
        panicked: false,
    };

    fn word(ending: Ending, finish: Finish) -> (String, u8) {
        let word = last_word(ending, Some(finish), &Suspicion::of_host(false)).unwrap();
        (word.text, word.status)
    }

    #[test]
    fn each_ending_has_its_sentence_and_status() {
        let panicked = Finish {
            panicked: true,
            ..NOTHING
        };
        let failed = Finish {
            exit_status: Some(7),
            ..NOTHING
        };
        for (ending, finish, says, status) in [
            (Ending::Guest(GuestEnd::PowerOff), NOTHING, "powered off", 0),
            (Ending::Guest(GuestEnd::PowerOff), failed, "status was 7", 7),
            (Ending::Guest(GuestEnd::Reset), NOTHING, "rebooted", 120),
            (Ending::Guest(GuestEnd::Reset), panicked, "panicked", 121),
            (
                Ending::Guest(GuestEnd::TripleFault),
                NOTHING,
                "triple fault",
                122,
            ),
            (
                Ending::Timeout(Duration::from_secs(90)),
                NOTHING,
                "its 90s are over",
                124,
            ),
            (Ending::Stopped, NOTHING, "ended by its user", 130),
            (
                Ending::Signal(Signal::SIGTERM),
                NOTHING,
                "second signal",
                143,
            ),
        ] {
            let (text, given) = word(ending, finish);
            assert!(text.contains(says), "{text}");
            assert_eq!(given, status, "{text}");
        }
    }

    #[test]
    fn a_command_that_failed_does_not_count_when_the_guest_was_ended() {
        let finish = Finish {
            exit_status: Some(7),
            panicked: true,
        };
        assert_eq!(word(Ending::Stopped, finish).1, 130);
    }
}
