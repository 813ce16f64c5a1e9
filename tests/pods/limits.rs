//! Limits, figures, and standing still.

use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::engine::{Engine, text};

crate::tests![
    who_wants_more_memory_than_it_may_have_is_killed_and_an_event_says_why,
    a_quota_of_processor_time_holds,
    figures_are_plausible,
    a_paused_container_stands_still_and_goes_on,
    the_numbers_of_its_processes_are_those_that_it_has,
];

fn who_wants_more_memory_than_it_may_have_is_killed_and_an_event_says_why() {
    let engine = Engine::new();
    let mut events = engine.command(&["events"]).spawn().unwrap();
    // The whole of it is in memory: head's own buffer, a line that never ends.
    let hog = ["sh", "-c", "sort /dev/zero"];
    let output = engine.run(&["--null-io", "--memory-limit", "67108864"], "hog", &hog);
    assert_eq!(
        output.status.code(),
        Some(137),
        "{output:?}\n{}",
        engine.log()
    );
    let (heard, hearing) = mpsc::channel();
    let lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let listening = thread::spawn(move || {
        let mut lines = lines.map_while(Result::ok);
        if lines.any(|line| line.contains("/tasks/oom") && line.contains("hog")) {
            heard.send(()).unwrap();
        }
    });
    // It may come after the command's end.
    let heard = hearing.recv_timeout(Duration::from_secs(30));
    events.kill().unwrap();
    events.wait().unwrap();
    listening.join().unwrap();
    assert!(heard.is_ok(), "{}", engine.log());
}

fn a_quota_of_processor_time_holds() {
    let engine = Engine::new();
    engine.begin(
        &["--cpu-quota", "20000", "--cpu-period", "100000"],
        "busy",
        &["sh", "-c", "while :; do :; done"],
    );
    let used = || {
        metric(&engine, "busy", "cpuacct.usage")
            .or_else(|| metric(&engine, "busy", "cpu.usage_usec"))
            .unwrap()
    };
    // A rate is over a time: nothing is waited for.
    let (before, at) = (used(), std::time::Instant::now());
    thread::sleep(Duration::from_secs(5));
    let spent = (used() - before) as f64 / 1e6 / at.elapsed().as_secs_f64();
    assert!((0.02..0.35).contains(&spent), "{spent} of a processor");
}

/// A figure of `ctr task metrics`.
fn metric(engine: &Engine, id: &str, name: &str) -> Option<u64> {
    let all = engine.ok(&["task", "metrics", id]);
    let line = all
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn figures_are_plausible() {
    let engine = Engine::new();
    engine.begin(&[], "figures", &["sleep", "1000"]);
    let figure = |name| {
        metric(&engine, "figures", name)
            .unwrap_or_else(|| panic!("{}", engine.ok(&["task", "metrics", "figures"])))
    };
    assert_eq!(figure("pids.current"), 1);
    let memory = figure("memory.usage");
    assert!((4096..64 << 20).contains(&memory), "{memory}");
    assert!(figure("cpu.usage_usec") > 0);
}

fn a_paused_container_stands_still_and_goes_on() {
    let engine = Engine::new();
    engine.begin(
        &[],
        "clock",
        &[
            "sh",
            "-c",
            "while :; do echo x >> /tmp/ticks; sleep 0.1; done",
        ],
    );
    let used = || metric(&engine, "clock", "cpu.usage_usec").unwrap();
    engine.ok(&["task", "pause", "clock"]);
    assert_eq!(engine.state("clock").as_deref(), Some("PAUSED"));
    // That nothing happens has no event.
    let before = used();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(used(), before);
    engine.ok(&["task", "resume", "clock"]);
    assert_eq!(engine.state("clock").as_deref(), Some("RUNNING"));
    let output = engine.exec(
        "clock",
        "look",
        &[
            "sh",
            "-c",
            "a=$(wc -l < /tmp/ticks); sleep 1; b=$(wc -l < /tmp/ticks); [ $b -gt $a ]",
        ],
    );
    assert!(output.status.success(), "{output:?}");
}

fn the_numbers_of_its_processes_are_those_that_it_has() {
    let engine = Engine::new();
    engine.begin(
        &[],
        "family",
        &["sh", "-c", "sleep 1000 & sleep 1000 & wait"],
    );
    thread::sleep(Duration::from_secs(1));
    let list = engine.ok(&["task", "ps", "family"]);
    assert_eq!(list.lines().skip(1).count(), 3, "{list}");
    let inside = text(&engine.exec("family", "look", &["ps"]));
    assert!(inside.contains("sleep 1000"), "{inside}");
}
