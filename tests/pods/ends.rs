//! How containers end, and what stands around them until then.

use std::process::Command;

use crate::engine::{Engine, ravelin};

crate::tests![
    a_signal_that_is_caught_is_the_commands_to_answer,
    a_kill_is_137,
    the_monitor_passes_its_audit,
];

fn a_signal_that_is_caught_is_the_commands_to_answer() {
    let engine = Engine::new();
    let command = [
        "sh",
        "-c",
        "trap 'exit 42' TERM; echo ready; while :; do sleep 0.1; done",
    ];
    let words = Engine::words(&["run", "--rm"], &[], "trap", &command);
    let mut child = engine.command(&words).spawn().unwrap();
    engine.await_state("trap", "RUNNING");
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    engine.ok(&["task", "kill", "-s", "SIGTERM", "trap"]);
    assert_eq!(child.wait().unwrap().code(), Some(42), "{}", engine.log());
}

fn a_kill_is_137() {
    let engine = Engine::new();
    let words = Engine::words(
        &["run", "--rm", "--null-io"],
        &[],
        "victim",
        &["sleep", "1000"],
    );
    let mut child = engine.command(&words).spawn().unwrap();
    engine.await_state("victim", "RUNNING");
    engine.ok(&["task", "kill", "-s", "SIGKILL", "victim"]);
    assert_eq!(child.wait().unwrap().code(), Some(137), "{}", engine.log());
}

fn the_monitor_passes_its_audit() {
    let engine = Engine::new();
    engine.begin(&[], "walled", &["sleep", "1000"]);
    let pid = engine.monitor("walled").to_string();
    let output = Command::new(ravelin())
        .args(["audit", &pid])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
