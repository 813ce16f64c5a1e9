//! `ravelin gc`: what dead VMs have left behind goes, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use crate::fake::{Place, in_state, json_of, stderr, stdout};
use crate::monitor::monitor_of;
use crate::real::Api;

/// No process has this number: the kernel's largest is smaller (proc_sys_kernel(5), `pid_max`).
const NOBODY: u32 = 1 << 30;

/// Writes a dead VM's entry, with this socket.
fn dead(place: &Place, name: &str, socket: &Path) {
    let entry = json!({
        "name": name, "pid": NOBODY, "pid_start": 1, "socket": socket, "started_at": 0,
    });
    fs::write(place.path().join(format!("{name}.json")), entry.to_string()).unwrap();
}

/// A socket that nobody serves any more.
fn deserted(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
}

/// What gc says of a place's own things: kind, name and fate, without what it finds elsewhere on this host.
fn told(place: &Place, flags: &[&str]) -> BTreeSet<(String, String, String)> {
    let report = json_of(&place.ravelin(&[&["gc", "--json"], flags].concat()));
    let rows = report["remnants"].as_array().unwrap().iter();
    let of_place = rows.filter(|row| {
        let path = row["path"].as_str().unwrap();
        Path::new(path).starts_with(place.path())
    });
    of_place
        .map(|row| {
            let file = Path::new(row["path"].as_str().unwrap()).file_name();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let file = file.unwrap().to_str().unwrap().to_owned();
            (text(&row["kind"]), file, text(&row["fate"]))
        })
        .collect()
}

fn rows(all: &[(&str, &str, &str)]) -> BTreeSet<(String, String, String)> {
    let own = |(kind, file, fate): &(&str, &str, &str)| {
        ((*kind).to_owned(), (*file).to_owned(), (*fate).to_owned())
    };
    all.iter().map(own).collect()
}

fn files(place: &Place) -> usize {
    fs::read_dir(place.path()).unwrap().count()
}

/// What a host crash leaves: an entry with its socket beside it, one with its socket elsewhere, and one half written.
fn crash(place: &Place) {
    let elsewhere = place.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (name, socket) in [
        ("web", place.socket("web")),
        ("shop", elsewhere.join("api.sock")),
    ] {
        dead(place, name, &socket);
        deserted(&socket);
    }
    fs::write(place.path().join(".new.4711.0"), "{").unwrap();
}

#[test]
fn what_a_crash_has_left_is_removed_and_then_nothing_is() {
    let place = Place::new();
    crash(&place);
    let removed = rows(&[
        ("entry", "web.json", "removed"),
        ("socket", "web.sock", "removed"),
        ("entry", "shop.json", "removed"),
        ("socket", "api.sock", "removed"),
        ("entry", ".new.4711.0", "removed"),
    ]);
    assert_eq!(told(&place, &[]), removed);
    assert_eq!(told(&place, &[]), rows(&[]));
    // The directory that the user has made stays.
    assert_eq!(files(&place), 1);
}

#[test]
fn a_dry_run_names_it_and_leaves_it() {
    let place = Place::new();
    crash(&place);
    let before = files(&place);
    let output = place.ravelin(&["gc", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    let line = text.lines().find(|line| line.contains("api.sock")).unwrap();
    let words: Vec<_> = line.split_whitespace().take(5).collect();
    assert_eq!(words, ["shop", "socket", "would", "be", "removed"]);
    assert_eq!(told(&place, &["--dry-run"]).len(), 5);
    assert_eq!(files(&place), before);
}

#[test]
fn a_vm_that_runs_keeps_everything() {
    let place = Place::new();
    let _vm = place.vm("web", in_state("Running"));
    let being_written = fs::File::create(place.path().join(".new.4711.0")).unwrap();
    being_written.lock().unwrap();
    assert_eq!(told(&place, &[]), rows(&[]));
    let listed = json_of(&place.ravelin(&["ps", "--json"]));
    assert_eq!(listed[0]["state"], "Running");
    assert_eq!(files(&place), 3);
}

#[test]
fn what_others_have_put_there_is_named_and_stays() {
    let place = Place::new();
    let outside = tempfile::tempdir().unwrap();
    let (file, served) = (outside.path().join("file"), outside.path().join("served"));
    fs::write(&file, "precious").unwrap();
    let _listener = UnixListener::bind(&served).unwrap();
    let dotted = outside.path().join("x/../dotted.sock");
    fs::create_dir(outside.path().join("x")).unwrap();
    deserted(&outside.path().join("dotted.sock"));
    let link = outside.path().join("link");
    symlink(outside.path().join("dotted.sock"), &link).unwrap();
    // An entry that leads elsewhere, one whose name leads elsewhere, one that is none, a note.
    symlink(&file, place.path().join("link.json")).unwrap();
    symlink(&file, place.path().join(".link.4711.0")).unwrap();
    dead(&place, "other", &file);
    fs::rename(
        place.path().join("other.json"),
        place.path().join("up.json"),
    )
    .unwrap();
    let up = json!({ "name": "../up", "pid": NOBODY, "pid_start": 1, "started_at": 0 });
    fs::write(place.path().join("evil.json"), up.to_string()).unwrap();
    fs::write(place.path().join("note.txt"), "").unwrap();
    fs::create_dir(place.path().join("folder.json")).unwrap();
    let foreign = rows(&[
        ("entry", "link.json", "foreign"),
        ("entry", "up.json", "foreign"),
        ("entry", "evil.json", "foreign"),
        ("entry", "folder.json", "foreign"),
    ]);
    let before = files(&place);
    assert_eq!(told(&place, &[]), foreign);
    assert_eq!(files(&place), before);
    // Entries that are true, and sockets that are none of a dead VM's.
    for (name, socket) in [("a", &file), ("b", &served), ("c", &dotted), ("d", &link)] {
        dead(&place, name, socket);
    }
    let output = place.ravelin(&["gc"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stdout(&output);
    for why in ["it is no socket", "somebody serves it still", "its path"] {
        assert!(text.contains(why), "{why}: {text}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    for path in [&served, &link, &outside.path().join("dotted.sock")] {
        assert!(path.symlink_metadata().is_ok(), "{path:?}");
    }
    // What names a socket that is served stays with it, and is found again.
    assert_eq!(files(&place), before + 1);
}

#[test]
fn a_directory_that_others_may_write_is_not_believed() {
    let place = Place::new();
    crash(&place);
    let before = files(&place);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for command in ["gc", "ps"] {
        let output = place.ravelin(&[command]);
        assert_eq!(output.status.success(), command == "ps", "{output:?}");
        assert_eq!(files(&place), before, "{command}");
    }
    assert!(stderr(&place.ravelin(&["gc"])).contains("nobody else may write"));
}

#[test]
fn without_a_directory_there_is_nothing_of_it_to_clear() {
    let place = Place::new();
    let mut command = place.command(&["gc"]);
    let gone = place.path().join("gone");
    let output = command.env("RAVELIN_RUNTIME_DIR", &gone).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!gone.exists());
}

/// The cgroups of a VM.
fn cgroups_of(name: &str) -> BTreeSet<String> {
    let find = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-path",
            &format!("*/ravelin.vms/{name}.*"),
            "-type",
            "d",
        ])
        .output();
    let text = String::from_utf8(find.unwrap().stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The processes beside the monitor that a warden has made: its keeper.
fn keeper_of(warden: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{warden}/task/{warden}/children"));
    let monitor = monitor_of(warden);
    let children = children.unwrap();
    let mut others = children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .filter(|pid| Some(*pid) != monitor);
    others.next().unwrap()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Kills the processes of a VM that would clear up, and with them the monitor.
fn kill_all(vm: &mut Api) {
    let warden = vm.child.as_ref().unwrap().id();
    kill(keeper_of(warden));
    kill(warden);
    // Its end is seen when stdout and stderr are closed: by the monitor too.
    vm.end();
}

#[test]
fn the_cgroups_of_a_dead_vm_go_and_those_of_one_that_runs_stay() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root's VMs have cgroups everywhere");
        return;
    }
    let place = Place::new();
    let name = |what: &str| format!("gc-{what}-{}", std::process::id());
    let (dead, live) = (name("dead"), name("live"));
    let mut one = Api::start(&place, &["--name", &dead]);
    let _other = Api::start(&place, &["--name", &live]);
    let before = cgroups_of(&live);
    assert!(!before.is_empty() && !cgroups_of(&dead).is_empty());
    kill_all(&mut one);
    let output = place.ravelin(&["gc"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(cgroups_of(&dead), BTreeSet::new());
    assert_eq!(cgroups_of(&live), before);
    let names = json_of(&place.ravelin(&["ps", "--json"]));
    assert_eq!(names[0]["name"], json!(live));
    assert_eq!(names.as_array().unwrap().len(), 1);
    assert!(!place.socket(&dead).exists());
}

#[test]
fn a_vm_starts_under_the_name_and_at_the_socket_of_a_dead_one_without_it() {
    let place = Place::new();
    let name = format!("again-{}", std::process::id());
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("api.sock");
    let start = |name: &str| {
        Api::start(
            &place,
            &["--name", name, "--api-sock", socket.to_str().unwrap()],
        )
    };
    kill_all(&mut start(&name));
    assert!(socket.exists());
    kill_all(&mut start(&name));
    // Another name at the same socket.
    let vm = start(&format!("{name}-b"));
    let listed = json_of(&place.ravelin(&["ps", "--json"]));
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    drop(vm);
    place.ravelin(&["gc"]);
}
