//! A VM behind a socket that `ravelin api` serves, as its user and its starter see it.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::fake::{Place, json_of, stderr};
use crate::monitor::monitor_of;

/// `ravelin api` whose socket accepts. Dropping it ends it.
pub(crate) struct Api {
    pub(crate) child: Option<Child>,
}

impl Api {
    /// Starts `ravelin api` and waits for the line on `--ready-fd`.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        let fd = writer.as_raw_fd().to_string();
        let mut command = place.command(&[&["api", "--ready-fd", &fd], args].concat());
        let child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(writer);
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        let mut api = Self { child: Some(child) };
        if line != "ready\n" {
            panic!("{line:?}: {:?}", api.end());
        }
        api
    }

    /// The process in the jail.
    pub(crate) fn monitor(&self) -> u32 {
        monitor_of(self.child.as_ref().unwrap().id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Waits for its end: its exit status and what it has said.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        (output.status.code(), stderr(&output))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn names(place: &Place) -> Vec<String> {
    let json = json_of(&place.ravelin(&["ps", "--json"]));
    let vms = json.as_array().unwrap().iter();
    vms.map(|vm| vm["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_vm_is_listed_from_its_readiness_to_its_end() {
    let place = Place::new();
    let mut api = Api::start(&place, &["--name", "web"]);
    let json = json_of(&place.ravelin(&["ps", "--json"]));
    assert_eq!(json[0]["name"], "web");
    assert_eq!(json[0]["state"], "Not started");
    assert_eq!(json[0]["pid"], api.monitor());
    assert_eq!(json[0]["socket"], json!(place.socket("web")));
    let stop = place.ravelin(&["ctl", "web", "stop"]);
    assert_eq!(stop.status.code(), Some(0), "{stop:?}");
    api.end();
    assert!(names(&place).is_empty());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_name_is_given_once() {
    let place = Place::new();
    let api = Api::start(&place, &["--name", "web"]);
    let pid = api.monitor();
    let output = place.ravelin(&["api", "--id", "web", "--api-sock", "/nonexistent/x"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        stderr(&output),
        format!(
            "ravelin web: a VM with the name `web` runs already (process {pid}): choose another --name\n"
        )
    );
    assert_eq!(names(&place), ["web"]);
}

#[test]
fn of_many_that_want_a_name_at_once_one_gets_it() {
    let place = Place::new();
    let start = || {
        let mut command = place.command(&["api", "--name", "web"]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut vms: Vec<Child> = (0..6).map(|_| start()).collect();
    // The others say so and end; the one that has the name runs until it is told to stop.
    while vms.len() > 1 {
        vms.retain_mut(|vm| vm.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    let winner = vms.pop().unwrap();
    while names(&place).is_empty() {}
    kill_process(Pid::from_child(&winner), Signal::INT).unwrap();
    let output = winner.wait_with_output().unwrap();
    assert!(!stderr(&output).contains("runs already"), "{output:?}");
}

#[test]
fn a_killed_vm_leaves_nothing_in_the_way_of_the_next() {
    let place = Place::new();
    let mut first = Api::start(&place, &["--name", "web"]);
    first.signal(Signal::KILL);
    first.end();
    let _second = Api::start(&place, &["--name", "web"]);
    assert_eq!(names(&place), ["web"]);
}

#[test]
fn vms_without_a_name_have_one_each() {
    let place = Place::new();
    let vms = [Api::start(&place, &[]), Api::start(&place, &[])];
    let mut expected = vms
        .each_ref()
        .map(|api| format!("vm-{}", api.child.as_ref().unwrap().id()));
    expected.sort();
    assert_eq!(names(&place), expected);
}

#[test]
fn the_socket_is_its_owners_alone_unless_said_otherwise() {
    let place = Place::new();
    let mode = |name: &str| {
        fs::metadata(place.socket(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    let _one = Api::start(&place, &["--name", "one"]);
    let _two = Api::start(&place, &["--name", "two", "--sock-mode", "0660"]);
    assert_eq!((mode("one"), mode("two")), (0o600, 0o660));
}

#[test]
fn a_socket_that_was_passed_in_is_served() {
    let place = Place::new();
    let path = place.path().join("passed");
    let listener = UnixListener::bind(&path).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let fd = listener.as_raw_fd().to_string();
    let _api = Api::start(&place, &["--name", "web", "--listen-fd", &fd]);
    let output = place.ravelin(&["ctl", "--sock", path.to_str().unwrap(), "info", "--json"]);
    assert_eq!(json_of(&output)["id"], "web");
    let json = json_of(&place.ravelin(&["ps", "--json"]));
    assert_eq!(json[0]["socket"], json!(path));
}

#[test]
fn a_descriptor_that_does_not_listen_is_refused() {
    let place = Place::new();
    let (reader, _writer) = std::io::pipe().unwrap();
    fcntl_setfd(&reader, FdFlags::empty()).unwrap();
    let output = place.ravelin(&["api", "--listen-fd", &reader.as_raw_fd().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("is no listening Unix stream socket"),
        "{output:?}"
    );
}

#[test]
fn a_service_manager_hears_of_the_start_and_the_end() {
    let place = Place::new();
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = place.command(&["api", "--name", "web"]);
    let child = command
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut api = Api { child: Some(child) };
    let mut buffer = [0; 64];
    let mut hear = || {
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    assert!(place.ravelin(&["ctl", "web", "config"]).status.success());
    api.signal(Signal::INT);
    assert_eq!(hear(), "STOPPING=1");
    api.end();
}

#[test]
fn a_place_where_no_socket_can_be_is_explained() {
    let place = Place::new();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let long = place.path().join("x".repeat(108));
    for (path, message) in [
        (
            Path::new("/nonexistent/x"),
            "does not exist: create it first",
        ),
        (&file, "exists and is no socket"),
        (&long, "and a socket's path at most 107"),
    ] {
        let output = place.ravelin(&["api", "--api-sock", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(message), "{path:?}: {output:?}");
        assert_eq!(stderr(&output).lines().count(), 1, "{output:?}");
    }
}

#[test]
fn a_configuration_that_is_wrong_is_explained_and_ends_the_process() {
    let place = Place::new();
    let file = place.path().join("vm.json");
    let path = file.to_str().unwrap();
    for (text, status, message) in [
        ("{", 2, "is not JSON"),
        (r#"{"drive":[]}"#, 2, "drives"),
        (
            r#"{"boot-source":{"kernel_image_path":"/nonexistent"}}"#,
            2,
            "/nonexistent",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = place.ravelin(&["api", "--config", path]);
        assert_eq!(output.status.code(), Some(status), "{text}: {output:?}");
        assert!(stderr(&output).contains(message), "{text}: {output:?}");
        let output = place.ravelin(&["firecracker", "--no-api", "--config-file", path]);
        assert_eq!(output.status.code(), Some(152), "{text}: {output:?}");
    }
    for flag in ["--config", "--metadata"] {
        let output = place.ravelin(&["api", flag, "/nonexistent"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            stderr(&output).contains("/nonexistent cannot be read"),
            "{output:?}"
        );
    }
    assert_eq!(names(&place), [""; 0]);
}

#[test]
fn metadata_is_there_from_the_start() {
    let place = Place::new();
    let file = place.path().join("data.json");
    fs::write(&file, r#"{"a":{"b":1}}"#).unwrap();
    let _api = Api::start(
        &place,
        &["--name", "web", "--metadata", file.to_str().unwrap()],
    );
    let output = place.ravelin(&["ctl", "web", "mmds", "get"]);
    assert_eq!(json_of(&output), json!({ "a": { "b": 1 } }));
}

#[test]
fn a_process_that_is_called_firecracker_is_in_no_list_and_reached_by_its_socket() {
    let place = Place::new();
    let socket = place.path().join("fc.socket");
    let socket = socket.to_str().unwrap();
    let mut child = place
        .command(&["firecracker", "--id", "fc-1", "--api-sock", socket])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let info = || {
        Command::new(crate::fake::RAVELIN)
            .args(["ctl", "--sock", socket, "info", "--json"])
            .output()
    };
    let found = loop {
        let output = info().unwrap();
        if output.status.success() {
            break output;
        }
        assert!(child.try_wait().unwrap().is_none(), "{output:?}");
    };
    let listed = names(&place);
    let stop = place.ravelin(&["ctl", "--sock", socket, "stop"]);
    let _ = child.kill();
    child.wait().unwrap();
    assert_eq!(json_of(&found)["id"], "fc-1");
    assert!(listed.is_empty(), "{listed:?}");
    assert_eq!(stop.status.code(), Some(0), "{stop:?}");
}
