//! Network cards whose limits change under a running guest.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use super::card::describe;
use super::monitor::Monitor;
use crate::network::in_own_network;

crate::tests!(
    TRIMMED => [
        new_limits_are_felt_in_both_directions_and_lifted_again,
        what_a_guest_sends_and_gets_is_counted,
    ],
);

/// What the guest gets, and sends back, in one pass.
const BYTES: usize = 2 << 20;
const PASS: &str =
    "pass() { nc 10.9.0.1 5000 < /dev/null > /tmp/data; nc 10.9.0.1 5001 < /tmp/data; echo $1 pass is over; read line; }
    until ping -c 1 -W 1 10.9.0.1 > /dev/null; do :; done; pass first; pass second; pass third";

/// Serves passes without an end.
fn echo() {
    let [down, up] = [5000, 5001].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap());
    thread::spawn(move || {
        for stream in down.incoming() {
            stream.unwrap().write_all(&vec![b'x'; BYTES]).unwrap();
        }
    });
    thread::spawn(move || {
        for stream in up.incoming() {
            std::io::copy(&mut stream.unwrap(), &mut std::io::sink()).unwrap();
        }
    });
}

/// A guest that makes passes, and its first one.
fn first_pass() -> Monitor {
    let monitor = Monitor::firecracker();
    let metrics = monitor.path("metrics");
    File::create(&metrics).unwrap();
    monitor
        .put("/metrics", json!({ "metrics_path": metrics }))
        .done();
    echo();
    describe(&monitor, PASS);
    monitor.start();
    monitor.wait_for("first pass is over");
    monitor
}

/// What the card has done since the last call.
fn counted(monitor: &Monitor) -> Value {
    monitor.act("FlushMetrics");
    let text = fs::read_to_string(monitor.path("metrics")).unwrap();
    serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["net_eth0"].take()
}

fn throttled(counted: &Value) -> [u64; 2] {
    ["rx_rate_limiter_throttled", "tx_rate_limiter_throttled"]
        .map(|name| counted[name].as_u64().unwrap())
}

fn limit(monitor: &Monitor, size: usize, refill_time: u64) {
    let limiter = json!({ "bandwidth": { "size": size, "refill_time": refill_time } });
    let update =
        json!({ "iface_id": "eth0", "rx_rate_limiter": limiter, "tx_rate_limiter": limiter });
    monitor.patch("/network-interfaces/eth0", update).done();
}

fn new_limits_are_felt_in_both_directions_and_lifted_again() {
    in_own_network(|| {
        let mut monitor = first_pass();
        let free = counted(&monitor);
        assert_eq!(throttled(&free), [0, 0], "{free}");
        // A quarter of a MiB a second, far below what an emulated guest comes to.
        limit(&monitor, BYTES / 16, 500);
        monitor.type_line("go on");
        monitor.wait_for("second pass is over");
        let limited = counted(&monitor);
        assert!(
            throttled(&limited).iter().all(|count| *count > 0),
            "{limited}"
        );
        limit(&monitor, 0, 0);
        monitor.type_line("go on");
        monitor.wait_for("third pass is over");
        let lifted = counted(&monitor);
        assert_eq!(throttled(&lifted), [0, 0], "{lifted}");
        monitor.type_line("go on");
        monitor.end().status(0);
    });
}

fn what_a_guest_sends_and_gets_is_counted() {
    in_own_network(|| {
        let monitor = first_pass();
        let card = counted(&monitor);
        for way in ["rx_bytes_count", "tx_bytes_count"] {
            let bytes = card[way].as_u64().unwrap();
            // With headers and acknowledgements, which are few.
            let expected = BYTES as u64..2 * BYTES as u64;
            assert!(expected.contains(&bytes), "{way}: {card}");
        }
    });
}
