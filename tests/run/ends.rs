//! Every way in which a guest ends: exit status and last line.

use rustix::process::Signal;

use crate::guest::Guest;
use crate::process::{Piped, boot, kvm, last_line, stderr, stdout};

/// Says `here` and a line's end, so that a test knows when it runs.
fn present() -> Guest {
    Guest::default().say("here\n")
}

#[test]
fn a_power_off_is_status_0() {
    if !kvm() {
        return;
    }
    let output = boot(&present().power_off(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "here\n");
    assert_eq!(stderr(&output), "ravelin: the guest powered off\n");
}

#[test]
fn the_status_that_the_guest_has_left_is_ravelins() {
    if !kvm() {
        return;
    }
    for status in [0, 7, 255] {
        let output = boot(&present().leave_status(status).power_off(), &[]);
        assert_eq!(output.status.code(), Some(status.into()), "{output:?}");
        let line = format!("ravelin: the guest powered off; its command's status was {status}");
        assert_eq!(last_line(&output), line);
    }
}

#[test]
fn a_reset_is_status_120() {
    if !kvm() {
        return;
    }
    let output = boot(&present().reset(), &[]);
    assert_eq!(output.status.code(), Some(120), "{output:?}");
    assert_eq!(
        last_line(&output),
        "ravelin: the guest rebooted; run ravelin again to boot it again"
    );
}

#[test]
fn a_reset_after_a_panic_is_status_121() {
    if !kvm() {
        return;
    }
    let output = boot(&present().mark_panic().reset(), &[]);
    assert_eq!(output.status.code(), Some(121), "{output:?}");
    assert_eq!(last_line(&output), "ravelin: the guest's kernel panicked");
}

#[test]
fn a_triple_fault_is_status_122() {
    if !kvm() {
        return;
    }
    let output = boot(&present().crash(), &[]);
    assert_eq!(output.status.code(), Some(122), "{output:?}");
    assert_eq!(
        last_line(&output),
        "ravelin: the guest's processor shut down (triple fault)"
    );
}

#[test]
fn a_timeout_is_status_124() {
    if !kvm() {
        return;
    }
    let output = boot(&present().halt(), &["--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert_eq!(
        last_line(&output),
        "ravelin: the guest was ended: its 300ms are over"
    );
}

#[test]
fn sigint_ends_the_guest_at_once_with_status_130() {
    if !kvm() {
        return;
    }
    let mut ravelin = Piped::boot(&present().halt(), &[]);
    assert_eq!(ravelin.line(), "here\n");
    ravelin.signal(Signal::INT);
    let output = ravelin.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(
        stderr(&output),
        "ravelin: the guest was ended by its user\n"
    );
}

#[test]
fn sigterm_and_sighup_press_the_power_button() {
    if !kvm() {
        return;
    }
    for signal in [Signal::TERM, Signal::HUP] {
        let guest = present().wait_for_button().say("bye\n").power_off();
        let mut ravelin = Piped::boot(&guest, &[]);
        assert_eq!(ravelin.line(), "here\n");
        ravelin.signal(signal);
        let output = ravelin.end();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(stdout(&output), "bye\n");
    }
}

#[test]
fn a_second_sigterm_ends_a_guest_that_does_not_listen_with_status_143() {
    if !kvm() {
        return;
    }
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::HUP, Signal::TERM)] {
        let mut ravelin = Piped::boot(&present().halt(), &[]);
        assert_eq!(ravelin.line(), "here\n");
        ravelin.signal(first);
        let pressed = "ravelin: pressed the guest's power button; a second signal ends it at once";
        assert_eq!(ravelin.message(), pressed);
        ravelin.signal(second);
        let output = ravelin.end();
        assert_eq!(output.status.code(), Some(143), "{output:?}");
        assert_eq!(
            last_line(&output),
            "ravelin: the guest was ended by a second signal"
        );
    }
}

#[test]
fn both_boot_protocols_reach_the_guest() {
    if !kvm() {
        return;
    }
    let output = boot(&present().power_off(), &["--protocol", "linux64"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // The guest has no PVH note: it says so.
    let output = boot(&present().power_off(), &["--protocol", "pvh"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("no PVH entry"), "{output:?}");
}
