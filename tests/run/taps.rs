//! Taps, each test in a network namespace of its own: made and removed, used and left, refused.

use std::process::{Command, Output};

use crate::guest::{Guest, Kernel};
use crate::process::{kvm, stderr, stdout};
use crate::support::in_an_empty_dev;

/// Makes what a guest with a network card needs.
const DEVICES: &str = "mkdir /dev/net && mknod -m 0666 /dev/net/tun c 10 200 && \
                       mknod -m 0666 /dev/kvm c 10 232 && mknod -m 0666 /dev/urandom c 1 9 || exit 99";

/// Runs `script` where the only interface is `lo` and `$RUN` boots `kernel` with a card on the tap `t0`.
fn with_taps(kernel: &Kernel, script: &str) -> Option<Output> {
    if !kvm() {
        return None;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: ip(8) is not installed");
        return None;
    }
    let run = format!(
        "RUN='/dev/ravelin run --kernel {} --net tap=t0'",
        kernel.path().display()
    );
    in_an_empty_dev(&format!("{DEVICES}; {run}; {script}"))
}

fn powers_off() -> Kernel {
    Guest::default().power_off().kernel()
}

#[test]
fn a_tap_that_does_not_exist_is_made_and_removed() {
    // In the background, with a guest that stays: while it runs, the tap is there.
    let script = "$RUN --timeout 60s & \
                  for _ in $(seq 300); do ip link show t0 >/dev/null 2>&1 && break; done; \
                  ip -brief link show t0; kill -INT $!; wait $!; echo status $?; ip link show t0 2>&1";
    let Some(output) = with_taps(&Guest::default().halt().kernel(), script) else {
        return;
    };
    let text = stdout(&output);
    let (during, after) = text.split_once("status 130").unwrap();
    assert!(during.starts_with("t0 "), "{text}");
    assert!(after.contains("does not exist"), "{text}");
}

#[test]
fn a_tap_that_exists_is_used_and_stays() {
    let script = "ip tuntap add t0 mode tap && $RUN; echo status $?; ip -brief link show t0";
    let Some(output) = with_taps(&powers_off(), script) else {
        return;
    };
    let text = stdout(&output);
    assert!(text.starts_with("status 0\nt0 "), "{output:?}");
}

#[test]
fn a_start_that_fails_leaves_no_tap() {
    let kernel = powers_off();
    std::fs::write(kernel.path(), "no kernel any more").unwrap();
    let script = "$RUN; echo status $?; ip link show t0 2>&1";
    let Some(output) = with_taps(&kernel, script) else {
        return;
    };
    let text = stdout(&output);
    assert!(text.starts_with("status 1\n"), "{output:?}");
    assert!(text.contains("does not exist"), "{text}");
}

/// Asserts that the card is refused with `words` when `prepare` comes first, as the user `run` is made to be.
fn refused(prepare: &str, run: &str, words: &[&str]) {
    let Some(output) = with_taps(&readable(), &format!("{prepare}; {run}")) else {
        return;
    };
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    let lines = text
        .lines()
        .filter(|line| !line.contains("no cgroup was delegated"));
    assert_eq!(lines.count(), 1, "{text}");
}

/// A kernel that every user may read.
fn readable() -> Kernel {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let kernel = powers_off();
    let directory = kernel.path().parent().unwrap();
    set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    kernel
}

#[test]
fn a_tap_of_another_user_is_refused() {
    refused(
        "ip tuntap add t0 mode tap user 12345",
        "exec setpriv --reuid 65534 --regid 65534 --clear-groups $RUN",
        &["the tap t0 belongs to another user", "ip tuntap add t0"],
    );
}

#[test]
fn a_tap_that_may_not_be_made_is_refused() {
    refused(
        ":",
        "exec setpriv --reuid 65534 --regid 65534 --clear-groups $RUN",
        &[
            "the tap t0 does not exist",
            "may not create it",
            "ip tuntap",
        ],
    );
}

#[test]
fn an_interface_that_is_no_tap_is_refused() {
    refused(
        "ip link add t0 type bridge || ip link add t0 type dummy || ip link set lo name t0",
        "exec $RUN",
        &["the interface t0 exists and is not a tap"],
    );
}

#[test]
fn a_tap_that_another_ravelin_has_is_busy() {
    let kernel = Guest::default().halt().kernel();
    let script = "ip tuntap add t0 mode tap; $RUN --quiet --timeout 60s & \
                  for _ in $(seq 300); do ip link show up t0 2>/dev/null | grep -q LOWER_UP && break; \
                  ip link set t0 up; done; \
                  $RUN --timeout 1s; echo status $?; kill -INT $!; wait";
    let Some(output) = with_taps(&kernel, script) else {
        return;
    };
    assert_eq!(stdout(&output), "status 1\n", "{output:?}");
    let text = stderr(&output);
    assert!(text.contains("the tap t0 is in use by another"), "{text}");
}
