//! How containers end: by signals, and by the death of whatever carries them.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Engine, processes, ravelin};

crate::tests![
    a_signal_that_is_caught_is_the_commands_to_answer,
    a_kill_is_137,
    a_killed_monitor_ends_its_container,
    a_killed_shim_ends_its_container_and_leaves_nothing,
    a_killed_containerd_finds_its_containers_again,
    the_monitor_passes_its_audit,
];

fn kill(pid: u32) {
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// Waits until no process has the text in its command line.
fn await_none(text: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let left: Vec<_> = processes()
            .into_iter()
            .filter(|(_, line)| line.contains(text))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{left:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

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

fn a_killed_monitor_ends_its_container() {
    let engine = Engine::new();
    engine.begin(&[], "host", &["sleep", "1000"]);
    kill(engine.monitor("host"));
    engine.await_state("host", "STOPPED");
    engine.ctr(&["task", "rm", "host"]);
    assert_eq!(engine.state("host"), None);
    await_none("--name host-");
}

fn a_killed_shim_ends_its_container_and_leaves_nothing() {
    let engine = Engine::new();
    engine.begin(&[], "shimless", &["sleep", "1000"]);
    kill(engine.shim("shimless"));
    await_none("--name shimless-");
    let end = Instant::now() + Duration::from_secs(30);
    while engine
        .state("shimless")
        .is_some_and(|state| state == "RUNNING")
    {
        assert!(Instant::now() < end, "{}", engine.log());
        thread::sleep(Duration::from_millis(100));
    }
    engine.ctr(&["task", "rm", "-f", "shimless"]);
    engine.ok(&["container", "rm", "shimless"]);
    // The name is free.
    let again = engine.run(&["--null-io"], "shimless", &["true"]);
    assert!(again.status.success(), "{again:?}\n{}", engine.log());
}

fn a_killed_containerd_finds_its_containers_again() {
    let mut engine = Engine::new();
    engine.begin(&[], "survivor", &["sleep", "1000"]);
    engine.restart();
    assert_eq!(
        engine.state("survivor").as_deref(),
        Some("RUNNING"),
        "{}",
        engine.log()
    );
    let output = engine.exec("survivor", "look", &["true"]);
    assert!(output.status.success(), "{output:?}\n{}", engine.log());
    engine.ok(&["task", "kill", "-s", "SIGKILL", "survivor"]);
    engine.await_state("survivor", "STOPPED");
    engine.ctr(&["task", "rm", "survivor"]);
    assert_eq!(engine.state("survivor"), None);
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
