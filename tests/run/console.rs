//! The console without a terminal: pipes, files, nothing.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::guest::Guest;
use crate::process::{Piped, boot, kvm, stderr, stdout, until};

/// Whether the first vCPU sleeps, which a guest that always speaks does only when it must wait, or has ended.
fn vcpu_waits(ravelin: &mut Piped) -> Option<()> {
    let tasks = format!("/proc/{}/task", ravelin.monitor()?);
    let stat = fs::read_dir(tasks).ok()?.find_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        stat.contains("(vcpu0)").then_some(stat)
    })?;
    stat.contains("(vcpu0) S").then_some(())
}

/// Anonymous memory of the process in KiB.
fn anonymous_kib(ravelin: &mut Piped) -> u64 {
    let status = format!("/proc/{}/status", ravelin.monitor().unwrap());
    let status = fs::read_to_string(status).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// A wait that has a limit is gone on with by a system call of its own (restart_syscall(2)).
#[test]
fn a_guest_that_waits_for_its_reader_goes_on_after_its_monitor_was_stopped() {
    if !kvm() {
        return;
    }
    const SAID: u32 = 300_000;
    let mut ravelin = Piped::boot(&Guest::default().say_x(SAID).power_off(), &[]);
    until("a guest that waits", || vcpu_waits(&mut ravelin));
    let monitor = Pid::from_raw(ravelin.monitor().unwrap().cast_signed()).unwrap();
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", monitor.as_raw_nonzero())).unwrap();
        stat.contains(") T ").then_some(())
    };
    for _ in 0..3 {
        kill_process(monitor, Signal::STOP).unwrap();
        until("a monitor that was stopped", is_stopped);
        kill_process(monitor, Signal::CONT).unwrap();
        until("a guest that waits", || vcpu_waits(&mut ravelin));
    }
    let said = ravelin.read(SAID.try_into().unwrap());
    assert!(said.iter().all(|byte| *byte == b'x'));
    let output = ravelin.end();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_is_piped_in_reaches_the_guest_whole_and_in_order() {
    if !kvm() {
        return;
    }
    // Ctrl-A is a key like any other: there is no terminal.
    let text = format!("\x01x\x03{}q", "0123456789".repeat(100));
    let mut ravelin = Piped::boot(&Guest::default().echo_until(b'q').power_off(), &[]);
    ravelin.write(text.as_bytes());
    ravelin.close_stdin();
    let output = ravelin.end();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), text);
}

#[test]
fn the_end_of_the_input_is_not_the_end_of_the_guest() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().echo_until(b'a').wait_for_button();
    let mut ravelin = Piped::boot(&guest.say("on").power_off(), &[]);
    ravelin.write(b"a");
    assert_eq!(ravelin.read(1), b"a");
    ravelin.close_stdin();
    ravelin.signal(Signal::TERM);
    let output = ravelin.end();
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "on")
    );
}

#[test]
fn a_reader_that_does_not_read_stops_the_guest_and_not_ravelin() {
    if !kvm() {
        return;
    }
    let mut ravelin = Piped::boot(&Guest::default().flood(), &[]);
    until("a vCPU that waits", || vcpu_waits(&mut ravelin));
    let before = anonymous_kib(&mut ravelin);
    // What was held back is not lost, and the guest goes on when it is read.
    assert!(ravelin.read(16 << 10).iter().all(|byte| *byte == b'x'));
    until("a vCPU that waits", || vcpu_waits(&mut ravelin));
    let after = anonymous_kib(&mut ravelin);
    assert!(after < before + 512, "{before} KiB, then {after} KiB");
    ravelin.signal(Signal::INT);
    let mut status = None;
    // It ends although nobody reads.
    until("the end", || {
        status = ravelin.try_end();
        status
    });
    assert_eq!(status, Some(130));
}

#[test]
fn a_reader_that_comes_late_gets_all_that_an_ended_guest_has_said() {
    if !kvm() {
        return;
    }
    let count = 16 << 10;
    let mut ravelin = Piped::boot(
        &Guest::default().say_x(count).leave_status(3).power_off(),
        &[],
    );
    until("a vCPU that waits", || vcpu_waits(&mut ravelin));
    let output = ravelin.end();
    assert_eq!(output.stdout.len(), usize::try_from(count).unwrap());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_guest() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().echo_until(b'q').say_x(100);
    let mut ravelin = Piped::boot(&guest.leave_status(5).power_off(), &[]);
    ravelin.write(b"a");
    assert_eq!(ravelin.read(1), b"a");
    ravelin.close_stdout();
    ravelin.write(b"q");
    let output = ravelin.end();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(
        stderr(&output).contains("console output is lost from here on"),
        "{output:?}"
    );
}

#[test]
fn what_is_said_after_the_exit_status_is_not_output() {
    if !kvm() {
        return;
    }
    let guest = Guest::default().say("output\n").leave_status(0);
    let output = boot(&guest.say("reboot: Power down\n").power_off(), &[]);
    assert_eq!(stdout(&output), "output\n");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_console_file_gets_the_output_and_is_emptied_first() {
    if !kvm() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "what was there before, and is longer").unwrap();
    let console = format!("file={}", file.path().display());
    let output = boot(
        &Guest::default().say("hello\n").power_off(),
        &["--console", &console],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "hello\n");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn a_console_that_is_off_says_and_hears_nothing() {
    if !kvm() {
        return;
    }
    // More than ravelin keeps for a reader.
    let guest = Guest::default().say_x(66 << 10).power_off();
    let output = boot(&guest, &["--console", "off"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty());
}
