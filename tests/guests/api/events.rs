//! The stream of events, beside a guest.

use std::fs::File;
use std::time::{Duration, Instant};

use serde_json::json;

use super::monitor::Monitor;
use crate::transcript::Transcript;

crate::tests!(
    TRIMMED => [
        whoever_listens_hears_what_happens_in_its_order,
    ],
);

/// The stream ends with the process, sooner than this.
const PATIENCE: Duration = Duration::from_secs(60);

fn whoever_listens_hears_what_happens_in_its_order() {
    let monitor = Monitor::ravelin();
    let disk = monitor.path("disk");
    File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    monitor.describe("echo guest is waiting; read never");
    monitor.drive("data", &disk);
    let events = Transcript::of(monitor.events());
    monitor.start();
    monitor.wait_for("guest is waiting");
    monitor.set_state("Paused");
    monitor.set_state("Resumed");
    let update = json!({ "drive_id": "data", "path_on_host": disk });
    monitor.patch("/drives/data", update).done();
    monitor.act("SendCtrlAltDel");
    let outcome = monitor.end();
    events.wait_for_end(Instant::now() + PATIENCE);
    let text = events.text();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(
        names,
        ["started", "paused", "resumed", "device_updated", "ended"],
        "{text}"
    );
    assert!(text.contains(r#""id":"data""#), "{text}");
    // Its command, which never got its line, was ended.
    let last = text
        .lines()
        .rfind(|line| line.starts_with("data: "))
        .unwrap();
    let exit_code = format!(r#""exit_code":{}"#, outcome.status);
    assert!(last.contains(&exit_code), "{exit_code} {text}");
}
