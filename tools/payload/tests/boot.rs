//! The payload under KVM, started by the least monitor there is (`examples/floor.rs`).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the payload; none without a KVM, which is said.
fn run(protocol: &str, command_line: &str) -> Option<Output> {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("skipped: this machine has no /dev/kvm");
        return None;
    }
    let arguments = [env!("CARGO_BIN_EXE_payload"), protocol, command_line];
    Some(
        Command::new(floor())
            .args(arguments)
            .output()
            .expect("the floor program starts"),
    )
}

/// The example that cargo builds beside this test.
fn floor() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests stand in deps");
    folder.join("examples/floor")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn it_enters_by_the_linux_protocol_at_level_3_and_resets() {
    let Some(output) = run("linux", "payload=reset") else {
        return;
    };
    assert_eq!(printed(&output), "# payload entry linux level 3\n");
    assert!(output.status.success());
}

#[test]
fn it_enters_by_pvh_at_level_3_and_resets() {
    let Some(output) = run("pvh", "payload=reset") else {
        return;
    };
    assert_eq!(printed(&output), "# payload entry pvh level 3\n");
    assert!(output.status.success());
}

#[test]
fn a_crash_is_a_triple_fault() {
    let Some(output) = run("linux", "payload=crash") else {
        return;
    };
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn missing_devices_and_unknown_work_are_said() {
    let Some(output) = run("linux", "payload=blk:verify") else {
        return;
    };
    assert!(printed(&output).ends_with("error: no such virtio device: Block\n"));
    let Some(output) = run("pvh", "console=ttyS0 payload=dance") else {
        return;
    };
    assert!(printed(&output).contains("error: unknown payload= in: console=ttyS0 payload=dance\n"));
}

#[test]
fn the_cycle_counter_runs() {
    let Some(output) = run("linux", "payload=spin:1000000") else {
        return;
    };
    let printed = printed(&output);
    let spent = printed
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("spin end "));
    assert!(
        spent
            .and_then(|text| text.parse::<u64>().ok())
            .is_some_and(|cycles| cycles >= 1_000_000)
    );
}
