//! `ravelin audit`: of a monitor without walls. One that has some: `tests/walls.rs`.

use serde_json::{Value, json};

use crate::fake::{Place, json_of, sleeper, stderr, stdout};
use crate::real::Api;

fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    let found = rows.iter().find(|row| row["id"] == id);
    found.unwrap_or_else(|| panic!("no row {id} in {report:#}"))
}

fn state<'a>(report: &'a Value, id: &str) -> &'a str {
    row(report, id)["state"].as_str().unwrap()
}

#[test]
fn a_monitor_without_walls_is_told_so() {
    let place = Place::new();
    let api = Api::start(&place, &["--name", "web", "--no-jail"]);
    let output = place.ravelin(&["audit", "--json"]);
    let report = json_of(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["format"], 1);
    assert_eq!(report["required_walls_stand"], "no");
    let pid = api.child.as_ref().unwrap().id();
    assert_eq!(report["target"], json!({ "name": "web", "pid": pid }));
    for wall in [
        "environment",
        "ns-mount",
        "ns-pid",
        "ns-net",
        "ns-user",
        "ns-ipc",
        "ns-uts",
        "ns-cgroup",
        "root",
    ] {
        assert_eq!(state(&report, wall), "absent", "{wall}: {report:#}");
    }
    for wall in ["descriptors", "memory", "untraced"] {
        assert_eq!(state(&report, wall), "in-force", "{wall}: {report:#}");
    }
    for wall in ["landlock", "securebits"] {
        assert_eq!(state(&report, wall), "not-testable", "{wall}");
    }
    assert!(
        report["threads"].as_array().unwrap().len() > 1,
        "{report:#}"
    );
}

#[test]
fn text_says_the_same_and_ends_with_the_verdict() {
    let place = Place::new();
    let _api = Api::start(&place, &["--name", "web", "--no-jail"]);
    let report = json_of(&place.ravelin(&["audit", "--json"]));
    let text = stdout(&place.ravelin(&["audit", "web"]));
    assert!(text.starts_with("web (process "), "{text}");
    for wall in ["ns-net", "root", "memory"] {
        let evidence = row(&report, wall)["evidence"].as_str().unwrap();
        assert!(text.contains(evidence), "{wall}: {text}");
    }
    let summary = report["summary"].as_str().unwrap();
    assert_eq!(text.lines().last().unwrap(), format!("{summary}."));
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn scripts_choose_the_walls() {
    let place = Place::new();
    let _api = Api::start(&place, &["--name", "web", "--no-jail"]);
    let status = |args: &[&str]| {
        place
            .ravelin(&[&["audit", "web"], args].concat())
            .status
            .code()
    };
    assert_eq!(status(&["--require", "memory,descriptors"]), Some(0));
    assert_eq!(status(&["--require", "memory,ns-net"]), Some(1));
    assert_eq!(status(&["--require", "landlock"]), Some(1));
    let only = place.ravelin(&["audit", "web", "--json", "--only", "memory,host"]);
    let report = json_of(&only);
    assert_eq!(only.status.code(), Some(0), "{report:#}");
    let rows = report["rows"].as_array().unwrap();
    let others = rows
        .iter()
        .filter(|row| row["section"] != "host" && row["id"] != "memory");
    assert_eq!(others.count(), 0, "{report:#}");
    let wrong = place.ravelin(&["audit", "web", "--require", "moat"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(stderr(&wrong).contains("`moat` is no wall"), "{wrong:?}");
}

#[test]
fn without_a_name_it_is_the_one_that_runs() {
    let place = Place::new();
    let none = place.ravelin(&["audit", "--json"]);
    let report = json_of(&none);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert_eq!(report["required_walls_stand"], "unknown");
    let rows = report["rows"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["section"] == "host"),
        "{report:#}"
    );
    let host = place.ravelin(&["audit", "--only", "host"]);
    assert_eq!(host.status.code(), Some(0), "{host:?}");
    let _vms = [
        Api::start(&place, &["--name", "db"]),
        Api::start(&place, &["--name", "web", "--no-jail"]),
    ];
    let several = place.ravelin(&["audit"]);
    assert_eq!(several.status.code(), Some(2), "{several:?}");
    let said = stderr(&several);
    assert!(said.contains("2 VMs run: name one of db, web"), "{said}");
}

#[test]
fn a_name_that_nobody_has_is_explained() {
    let place = Place::new();
    let output = place.ravelin(&["audit", "nobody"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("no VM with the name `nobody` runs"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn every_host_row_that_is_not_in_force_says_what_to_do() {
    let report = json_of(&Place::new().ravelin(&["audit", "--only", "host", "--json"]));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "{report:#}");
    for row in rows {
        let is_fine = row["state"] == "in-force";
        assert_eq!(is_fine, row["advice"].is_null(), "{row:#}");
    }
}

#[test]
fn a_descriptor_that_no_vm_has_is_named() {
    let mut child = sleeper("exec sleep 1000 3</proc/self/status 4</");
    // The shell has become `sleep` when its standard files are joined by two others.
    let comm = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {}
    let pid = child.id().to_string();
    let output = Place::new().ravelin(&["audit", &pid, "--json", "--only", "descriptors"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let report = json_of(&output);
    let evidence = row(&report, "descriptors")["evidence"].as_str().unwrap();
    assert!(evidence.contains("2 of "), "{evidence}");
    assert!(evidence.contains("4 (directory, /)"), "{evidence}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
