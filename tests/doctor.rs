//! `ravelin doctor`, as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test's own fixtures")]

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{RAVELIN, in_an_empty_dev};

/// Rows that every report has. Names are for scripts: one that is here may not vanish.
const ROWS: &[&str] = &[
    "kvm-device",
    "kvm-kind",
    "kvm-machine",
    "kvm-probe",
    "kvm-vcpus",
    "kvm-cap-user-memory",
    "kvm-cap-irqchip",
    "kvm-cap-ioeventfd",
    "kvm-cap-irqfd",
    "kvm-cap-immediate-exit",
    "tap",
    "io-uring",
    "cgroup",
    "user-namespaces",
    "landlock",
    "seccomp",
    "lsm",
    "kernel",
    "cpu-vulnerabilities",
    "smt",
    "memory",
    "huge-pages",
    "ksm",
    "swap",
];

fn doctor(args: &[&str]) -> Output {
    Command::new(RAVELIN)
        .arg("doctor")
        .args(args)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter()
        .find(|row| row["id"] == id)
        .unwrap_or_else(|| panic!("no row {id} in {report:#}"))
}

fn text_of<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("{row:#}"))
}

#[test]
fn the_exit_status_agrees_with_the_verdict() {
    let output = doctor(&["--json"]);
    let report = report(&output);
    let expected = if report["can_run_guests"] == "yes" {
        0
    } else {
        1
    };
    assert_eq!(output.status.code(), Some(expected), "{report:#}");
    assert_eq!(doctor(&["--quiet"]).status.code(), Some(expected));
    assert_eq!(doctor(&[]).status.code(), Some(expected));
}

#[test]
fn json_holds_every_row_once() {
    let report = report(&doctor(&["--json"]));
    assert_eq!(report["format"], 1);
    let mut ids: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text_of(row, "id").to_owned())
        .collect();
    for id in ROWS {
        assert!(ids.iter().any(|has| has == id), "no row {id}");
    }
    let rows = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows);
}

#[test]
fn every_row_that_is_not_ok_says_what_to_do() {
    let report = report(&doctor(&["--json"]));
    for row in report["rows"].as_array().unwrap() {
        assert!(!text_of(row, "evidence").is_empty(), "{row:#}");
        assert_eq!(row["level"] == "ok", row["advice"].is_null(), "{row:#}");
    }
}

#[test]
fn text_says_the_same_as_json_and_ends_with_the_verdict() {
    let report = report(&doctor(&["--json"]));
    let output = doctor(&[]);
    let text = stdout(&output);
    for id in ["kvm-device", "kvm-probe", "landlock"] {
        let evidence = text_of(row(&report, id), "evidence");
        assert!(text.contains(evidence), "{id}: {text}");
    }
    let last = text.lines().last().unwrap().to_lowercase();
    let summary = text_of(&report, "summary").to_lowercase();
    assert_eq!(last, format!("{summary}."));
    assert!(!text.contains('\x1b'), "colours in a pipe: {text}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_probe_decides_where_kvm_opens() {
    let report = report(&doctor(&["--json"]));
    if row(&report, "kvm-device")["level"] != "ok" {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here");
        return;
    }
    let probe = row(&report, "kvm-probe");
    match text_of(probe, "level") {
        "ok" => assert_eq!(report["can_run_guests"], "yes", "{report:#}"),
        "failing" => {
            assert_eq!(report["can_run_guests"], "no");
            assert!(text_of(probe, "evidence").contains("emulates privileged guest code"));
            assert!(text_of(probe, "advice").contains("tools/testbed"));
        }
        _ => panic!("the probe has no answer: {probe:#}"),
    }
}

#[test]
fn quiet_prints_nothing() {
    let output = doctor(&["--quiet"]);
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn a_wrong_flag_is_usage_and_names_itself() {
    let output = doctor(&["--jsno"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("--jsno") && stderr.contains("--json"),
        "{stderr}"
    );
}

#[test]
fn help_teaches_levels_examples_and_exit_statuses() {
    let text = stdout(&doctor(&["--help"]));
    for word in ["warning", "Examples:", "--json", "Exit status:"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
}

#[test]
fn a_host_without_the_device_is_told_how_to_get_it() {
    let Some(output) = in_an_empty_dev("exec /dev/ravelin doctor --json") else {
        return;
    };
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    assert_eq!(report["can_run_guests"], "no");
    let device = row(&report, "kvm-device");
    assert_eq!(text_of(device, "evidence"), "/dev/kvm does not exist");
    assert_eq!(row(&report, "kvm-probe")["level"], "unknown");
    assert_eq!(row(&report, "kvm-cap-irqfd")["level"], "unknown");
    assert_eq!(row(&report, "tap")["level"], "warning");
    for id in ROWS {
        row(&report, id);
    }
}

#[test]
fn a_user_without_rights_is_told_how_to_get_them() {
    let script = "mknod -m 0660 /dev/kvm c 10 232 && chgrp 65533 /dev/kvm && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups /dev/ravelin doctor --json";
    let Some(output) = in_an_empty_dev(script) else {
        return;
    };
    let report = report(&output);
    let device = row(&report, "kvm-device");
    assert_eq!(device["level"], "failing");
    assert_eq!(
        text_of(device, "evidence"),
        "/dev/kvm may not be opened by this user"
    );
    assert!(text_of(device, "advice").contains("setfacl"), "{device:#}");
}

#[test]
fn another_device_in_the_place_of_kvm_is_found_out() {
    let script = "mknod -m 0666 /dev/kvm c 1 3 && exec /dev/ravelin doctor --json";
    let Some(output) = in_an_empty_dev(script) else {
        return;
    };
    let report = report(&output);
    let device = row(&report, "kvm-device");
    assert_eq!(text_of(device, "evidence"), "/dev/kvm is not KVM's device");
}
