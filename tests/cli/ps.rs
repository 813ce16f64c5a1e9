//! `ravelin ps`: the running VMs, whatever state they and their files are in.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::fake::{Place, in_state, json_of, sleeper, start_time, stderr, stdout};

#[test]
fn running_vms_are_a_table() {
    let place = Place::new();
    let (web, db) = (
        place.vm("web", in_state("Running")),
        place.vm("db", in_state("Paused")),
    );
    let text = stdout(&place.ravelin(&["ps"]));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        rows[0],
        [
            "NAME", "PID", "STATE", "VCPUS", "MEM", "UPTIME", "KERNEL", "IMAGE", "SOCKET"
        ]
    );
    let (db_pid, web_pid) = (db.child.id().to_string(), web.child.id().to_string());
    let (db_socket, web_socket) = (place.socket("db"), place.socket("web"));
    assert_eq!(rows[1][..5], ["db", &db_pid, "Paused", "2", "512M"]);
    assert_eq!(rows[1][6..], ["vmlinux", "-", db_socket.to_str().unwrap()]);
    assert_eq!(rows[2][..5], ["web", &web_pid, "Running", "2", "512M"]);
    assert_eq!(rows[2][6..], ["vmlinux", "-", web_socket.to_str().unwrap()]);
    assert_eq!(rows.len(), 3);
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn running_vms_are_an_array_of_objects() {
    let place = Place::new();
    let vm = place.vm("web", in_state("Running"));
    let json = json_of(&place.ravelin(&["ps", "--json"]));
    let uptime = json[0]["uptime_s"].as_u64().unwrap();
    assert!(uptime > 1_000_000_000, "{json}");
    assert_eq!(
        json,
        json!([{
            "name": "web",
            "pid": vm.child.id(),
            "state": "Running",
            "vcpus": 2,
            "mem_size_mib": 512,
            "uptime_s": uptime,
            "socket": place.socket("web"),
            "kernel": "vmlinux",
            "image": null,
            "digest": null,
        }])
    );
}

#[test]
fn a_vm_that_hangs_is_listed_without_what_it_would_have_said() {
    let place = Place::new();
    let mut child = sleeper("exec sleep 1000");
    let _entry = place.enter("web", child.id());
    let _listener = UnixListener::bind(place.socket("web")).unwrap();
    let output = place.ravelin(&["ps"]);
    let json = json_of(&place.ravelin(&["ps", "--json"]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).contains("no answer  -"), "{output:?}");
    assert_eq!(json[0]["state"], Value::Null);
}

#[test]
fn what_a_killed_vm_has_left_is_removed() {
    let place = Place::new();
    let mut child = sleeper("exec sleep 1000");
    drop(place.enter("web", child.id()));
    drop(UnixListener::bind(place.socket("web")).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(json_of(&place.ravelin(&["ps", "--json"])), json!([]));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_process_that_has_the_number_of_an_earlier_one_is_not_believed() {
    let place = Place::new();
    let mut child = sleeper("exec sleep 1000");
    let _entry = place.enter_as("web", child.id(), start_time(child.id()) + 1);
    let json = json_of(&place.ravelin(&["ps", "--json"]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(json, json!([]));
}

#[test]
fn a_directory_that_cannot_be_read_is_named() {
    let place = Place::new();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = place.command(&["ps"]);
    let output = command.env("RAVELIN_RUNTIME_DIR", &file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("cannot be read or written: Not a directory"),
        "{output:?}"
    );
}
