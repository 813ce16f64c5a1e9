//! Guests that stand still, and go on.

use super::monitor::Monitor;

crate::tests!(
    TRIMMED => [
        a_paused_guest_stands_still_and_goes_on_where_it_was,
        a_paused_guest_can_be_ended,
    ],
);

/// Counts, without an end.
const COUNTS: &str = "n=0; while :; do n=$((n + 1)); echo tick $n; done";
/// Requests that a monitor answers meanwhile: time enough for a guest that runs to count on.
const REQUESTS: usize = 200;

fn a_paused_guest_stands_still_and_goes_on_where_it_was() {
    let monitor = Monitor::firecracker();
    monitor.describe(COUNTS);
    monitor.start();
    monitor.wait_for("tick 100\n");
    monitor.set_state("Paused");
    let ask = || {
        for _ in 0..REQUESTS {
            assert_eq!(monitor.get("/").json()["state"], "Paused");
        }
    };
    // What it said before its end may still be on its way.
    ask();
    let before = monitor.said();
    ask();
    assert_eq!(monitor.said(), before);
    monitor.set_state("Resumed");
    assert_eq!(monitor.get("/").json()["state"], "Running");
    let last: u64 = ticks(&before).last().unwrap();
    monitor.wait_for(&format!("tick {}\n", last + 100));
    // No number is missing, and none is there twice.
    let all: Vec<u64> = ticks(&monitor.said()).collect();
    assert!(all.iter().copied().eq(1..=all[all.len() - 1]), "{all:?}");
}

/// The numbers in whole lines.
fn ticks(said: &str) -> impl Iterator<Item = u64> {
    let (whole, _) = said.rsplit_once('\n').unwrap();
    let numbers = whole.lines().filter_map(|line| line.strip_prefix("tick "));
    numbers.map(|number| number.parse().unwrap())
}

fn a_paused_guest_can_be_ended() {
    let monitor = Monitor::firecracker();
    monitor.describe(COUNTS);
    monitor.start();
    monitor.wait_for("tick 100\n");
    monitor.set_state("Paused");
    monitor.signal(rustix::process::Signal::TERM);
    let outcome = monitor.end();
    // Firecracker, too, dies of the signal.
    assert_eq!(outcome.status, -15);
}
