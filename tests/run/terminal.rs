//! The terminal: raw while the guest runs, and put back however it ends; keys, progress, messages.

use rustix::process::Signal;

use crate::guest::Guest;
use crate::process::kvm;
use crate::pty::OnTerminal;

/// A guest that says that it is there, and stays.
fn idle() -> Guest {
    Guest::default().say("here\r\n").halt()
}

/// Boots an idle guest on a terminal, and waits for its word.
fn booted() -> OnTerminal {
    let mut ravelin = OnTerminal::boot(&idle(), &[]);
    ravelin.sees("here");
    // Raw mode is set when the guest has started: it may speak before.
    crate::process::until("raw mode", || ravelin.is_raw().then_some(()));
    ravelin
}

/// Asserts that ravelin ends with `status` and leaves the terminal as it was.
fn ends(ravelin: &mut OnTerminal, status: i32) {
    let (given, seen) = ravelin.end();
    assert_eq!(given, Some(status), "{seen:?}");
    assert!(ravelin.is_as_before());
}

#[test]
fn the_terminal_is_restored_when_the_guest_ends() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().say("here\r\n").echo_until(b'q');
    let mut ravelin = OnTerminal::boot(&guest.power_off(), &[]);
    ravelin.sees("here");
    crate::process::until("raw mode", || ravelin.is_raw().then_some(()));
    // Ctrl-C and Ctrl-Z are keys for the guest.
    ravelin.types(b"\x03\x1aq");
    ends(&mut ravelin, 0);
    assert!(ravelin.sees("the guest powered off").contains("\x03\x1aq"));
}

#[test]
fn ctrl_a_x_ends_the_guest_and_the_terminal_is_restored() {
    if !kvm() {
        return;
    }
    let mut ravelin = booted();
    ravelin.types(b"\x01x");
    ends(&mut ravelin, 130);
    ravelin.sees("ravelin: the guest was ended by its user\r\n");
}

#[test]
fn ctrl_a_x_ends_a_guest_that_does_not_read_what_is_typed() {
    if !kvm() {
        return;
    }
    let mut ravelin = booted();
    // More than the serial port and ravelin take for it.
    for _ in 0..100 {
        ravelin.types(&[b'a'; 100]);
    }
    ravelin.types(b"\x01x");
    ends(&mut ravelin, 130);
}

#[test]
fn the_terminal_is_restored_after_signals() {
    if !kvm() {
        return;
    }
    for (signals, status) in [
        (&[Signal::INT][..], 130),
        (&[Signal::TERM, Signal::TERM], 143),
        (&[Signal::HUP, Signal::HUP], 143),
    ] {
        let mut ravelin = booted();
        for (count, signal) in signals.iter().enumerate() {
            if count > 0 {
                ravelin.sees("pressed the guest's power button");
            }
            ravelin.signal(*signal);
        }
        ends(&mut ravelin, status);
    }
}

#[test]
fn the_terminal_is_restored_when_the_process_outside_is_killed() {
    if !kvm() {
        return;
    }
    let mut ravelin = booted();
    ravelin.signal(Signal::KILL);
    assert_eq!(ravelin.end().0, None);
    crate::process::until("the terminal as it was", || {
        ravelin.is_as_before().then_some(())
    });
}

#[test]
fn the_terminal_is_restored_after_a_timeout() {
    if !kvm() {
        return;
    }
    let mut ravelin = OnTerminal::boot(&idle(), &["--timeout", "300ms"]);
    ends(&mut ravelin, 124);
}

#[test]
fn the_terminal_is_as_it_was_after_a_start_that_failed() {
    let mut ravelin = OnTerminal::boot(&idle(), &["--disk", "/nonexistent"]);
    ends(&mut ravelin, 1);
    let seen = ravelin.sees("does not exist");
    // The progress line does not stand before the sentence.
    let (before, _) = seen.split_once("ravelin:").unwrap();
    assert!(before.ends_with("\r\x1b[K"), "{seen:?}");
}

#[test]
fn a_terminal_that_is_gone_ends_nothing_by_itself() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().say("here\r\n").wait_for_button();
    let mut ravelin = OnTerminal::boot(&guest.say("bye\r\n").leave_status(3).power_off(), &[]);
    ravelin.sees("here");
    ravelin.hangs_up();
    ravelin.signal(Signal::HUP);
    assert_eq!(ravelin.end().0, Some(3));
}

#[test]
fn ctrl_a_c_shows_the_keys() {
    if !kvm() {
        return;
    }
    let mut ravelin = booted();
    ravelin.types(b"\x01c");
    let seen = ravelin.sees("Ctrl-A a  send Ctrl-A to the guest\r\n");
    assert!(
        seen.contains("\r\n  Ctrl-A x  end the guest at once\r\n"),
        "{seen:?}"
    );
    ravelin.types(b"\x01x");
    ends(&mut ravelin, 130);
}

#[test]
fn progress_is_one_line_that_disappears() {
    if !kvm() {
        return;
    }
    let mut ravelin = booted();
    let seen = ravelin.sees("here\r\n");
    let expected = "\r\x1b[Kloading...\r\x1b[Kbooting...\r\x1b[Khere\r\n";
    assert!(seen.starts_with(expected), "{seen:?}");
}

#[test]
fn quiet_shows_no_progress() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().say("here\r\n").power_off();
    let mut ravelin = OnTerminal::boot(&guest, &["--quiet"]);
    let (status, seen) = ravelin.end();
    assert_eq!((status, seen), (Some(0), "here\r\n"));
}

#[test]
fn a_message_never_stands_in_a_line_of_the_guests() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().say("guest login: ").halt();
    let mut ravelin = OnTerminal::boot(&guest, &[]);
    ravelin.sees("login: ");
    ravelin.signal(Signal::INT);
    ends(&mut ravelin, 130);
    ravelin.sees("guest login: \r\nravelin: the guest was ended by its user\r\n");
}

#[test]
fn the_guests_output_reaches_the_screen_as_it_is() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().say("here\r\n").echo_until(b'q');
    let mut ravelin = OnTerminal::boot(&guest.power_off(), &[]);
    ravelin.sees("here");
    crate::process::until("raw mode", || ravelin.is_raw().then_some(()));
    // A bare line feed moves down a column: no carriage return is put before it.
    ravelin.types(b"up\ndown\rq");
    ends(&mut ravelin, 0);
    ravelin.sees("up\ndown\rq");
}

#[test]
fn the_guest_is_told_of_the_terminal() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().power_off();
    let mut ravelin = OnTerminal::boot(&guest, &["-v"]);
    ends(&mut ravelin, 0);
    let seen = ravelin.sees("kernel parameters:");
    assert!(
        seen.contains("ravelin.size=40x100 ravelin.term=xterm-256color"),
        "{seen:?}"
    );
}
