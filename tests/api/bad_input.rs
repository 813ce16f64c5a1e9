//! What is refused before there is a VM, for both command lines: the sentence, and the exit status.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::vm::{Face, RAVELIN, Vm};

/// Runs a ravelin that is to refuse, in `folder`.
fn refused(folder: &Path, face: Face, arguments: &[&str]) -> (i32, String) {
    let face = match face {
        Face::Ravelin => "api",
        _ => "firecracker",
    };
    let output: Output = Command::new("timeout")
        .args(["60", RAVELIN, face])
        .args(arguments)
        .env("XDG_RUNTIME_DIR", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

/// Both command lines refuse `arguments` with the words and their own statuses.
fn both(folder: &TempDir, arguments: &[&str], says: &[&str], statuses: (i32, i32)) {
    for (face, expected) in [(Face::Ravelin, statuses.0), (Face::Firecracker, statuses.1)] {
        let (status, text) = refused(folder.path(), face, arguments);
        assert_eq!(status, expected, "{face:?} {arguments:?}: {text}");
        for words in says {
            assert!(
                text.contains(words),
                "{face:?} {arguments:?}: no {words:?} in {text}"
            );
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_path_where_something_is_already_is_not_taken_for_the_socket() {
    let folder = folder();
    fs::write(folder.path().join("file"), "kept").unwrap();
    both(
        &folder,
        &["--api-sock", "file"],
        &["file exists and is no socket"],
        (1, 1),
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("file")).unwrap(),
        "kept"
    );
    let path = folder.path().join("served");
    let served = UnixListener::bind(&path).unwrap();
    both(
        &folder,
        &["--api-sock", "served"],
        &["another process serves it"],
        (1, 1),
    );
    drop(served);
    both(&folder, &["--api-sock", "served"], &["remove it"], (1, 1));
    assert!(path.exists(), "what is not ours stays");
}

#[test]
fn a_socket_path_that_no_socket_can_have_is_refused() {
    let folder = folder();
    let long = "x".repeat(108);
    both(
        &folder,
        &["--api-sock", &long],
        &["108 bytes", "at most 107"],
        (1, 1),
    );
    both(
        &folder,
        &["--api-sock", "nowhere/s"],
        &["does not exist"],
        (1, 1),
    );
}

#[test]
fn a_folder_that_may_not_be_written_holds_no_socket() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: to become another user needs root");
        return;
    }
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("ravelin");
    // By another process: a file that this one has open for writing somewhere cannot be executed.
    let copied = Command::new("cp").arg(RAVELIN).arg(&copy).status();
    assert!(copied.unwrap().success());
    for (face, status) in [("api", 1), ("firecracker", 1)] {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args([face, "--api-sock", "s"])
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(folder.path())
            .output();
        let Ok(output) = output else {
            eprintln!("SKIPPED: there is no setpriv");
            return;
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{face}: {text}");
        assert!(text.contains("may not write"), "{face}: {text}");
    }
}

#[test]
fn a_configuration_file_that_is_wrong_names_what_is_wrong() {
    let folder = folder();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("text", "not JSON");
    file("list", "7");
    file("key", r#"{"boot-sauce": {"kernel_image_path": "x"}}"#);
    file(
        "inner",
        r#"{"boot-source": {"kernel_image_path": "x", "initrd_pat": "y"}}"#,
    );
    file(
        "kernel",
        r#"{"boot-source": {"kernel_image_path": "nowhere"}}"#,
    );
    file(
        "vcpus",
        r#"{"boot-source": {"kernel_image_path": "x"},
            "machine-config": {"vcpu_count": 99, "mem_size_mib": 64}}"#,
    );
    file("cut", r#"{"boot-source": {"#);
    let with = |name: &'static str| ["--api-sock", "s", "--config-file", name];
    both(
        &folder,
        &with("nowhere.json"),
        &["nowhere.json cannot be read"],
        (1, 1),
    );
    both(&folder, &with("."), &["cannot be read"], (1, 1));
    both(
        &folder,
        &with("text"),
        &["text is not JSON", "line 1"],
        (2, 152),
    );
    both(&folder, &with("cut"), &["is not JSON"], (2, 152));
    both(&folder, &with("list"), &["is wrong"], (2, 152));
    // Firecracker passes over a key of the whole file that it does not know, and then misses what it needs.
    both(
        &folder,
        &with("key"),
        &["is wrong", "`boot-source`"],
        (2, 152),
    );
    let (_, text) = refused(folder.path(), Face::Ravelin, &with("key"));
    assert!(text.contains("did you mean `boot-source`?"), "{text}");
    both(
        &folder,
        &with("inner"),
        &["initrd_pat", "`initrd_path`"],
        (2, 152),
    );
    both(&folder, &with("vcpus"), &["99 vCPUs", "1 to 32"], (2, 152));
    both(
        &folder,
        &with("kernel"),
        &["nowhere", "No such file"],
        (2, 152),
    );
    assert!(!folder.path().join("s").exists(), "no socket is left");
}

#[test]
fn metadata_that_is_wrong_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("text"), "not JSON").unwrap();
    fs::write(
        folder.path().join("long"),
        format!("{{\"a\": \"{}\"}}", "x".repeat(60_000)),
    )
    .unwrap();
    let with = |name: &'static str| ["--api-sock", "s", "--metadata", name];
    both(&folder, &with("nowhere"), &["cannot be read"], (1, 1));
    both(&folder, &with("text"), &["is not JSON"], (2, 152));
    both(&folder, &with("long"), &["doesn't fit"], (2, 152));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let folder = folder();
    for (arguments, words) in [
        (&["--no-api"][..], "config-file"),
        (&["--api-socket", "s"], "api-socket"),
        (&["--id", "a b"], "invalid char"),
        (&["--id"], "requires a value"),
        (&["--no-seccomp", "--seccomp-filter", "x"], "seccomp"),
        (
            &["--http-api-max-payload-size", "many"],
            "http-api-max-payload-size",
        ),
    ] {
        let (status, text) = refused(folder.path(), Face::Firecracker, arguments);
        assert_eq!(status, 153, "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    for arguments in [
        &["--api-socket", "s"][..],
        &["--api-sock"],
        &["--api-fd", "0", "--api-sock", "s"],
    ] {
        let (status, text) = refused(folder.path(), Face::Ravelin, arguments);
        assert_eq!(status, 2, "{arguments:?}: {text}");
    }
    let level = ["--level", "Loud", "--api-sock", "s"];
    let (status, text) = refused(folder.path(), Face::Firecracker, &level);
    assert_eq!(status, 152, "{text}");
}

#[test]
fn log_and_figures_go_to_no_folder() {
    let folder = folder();
    let (status, text) = refused(
        folder.path(),
        Face::Firecracker,
        &["--api-sock", "s", "--log-path", "."],
    );
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("is a folder"), "{text}");
    let (status, text) = refused(
        folder.path(),
        Face::Firecracker,
        &["--api-sock", "s", "--metrics-path", "."],
    );
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("is a folder"), "{text}");
    assert!(!folder.path().join("s").exists());
}

#[test]
fn pipes_without_a_reader_hold_nothing_up_and_take_what_comes_once_they_are_read() {
    let vm = Vm::firecracker();
    let [log, figures] = ["log", "figures"].map(|name| vm.folder().join(name));
    mkfifo(&log);
    mkfifo(&figures);
    let mut client = vm.client();
    let logger = client.ask(
        "PUT",
        "/logger",
        Some(r#"{"log_path": "log", "level": "Info"}"#),
    );
    assert_eq!(logger.status, 204, "{logger:?}");
    let metrics = client.ask("PUT", "/metrics", Some(r#"{"metrics_path": "figures"}"#));
    assert_eq!(metrics.status, 204, "{metrics:?}");
    // More than a pipe holds.
    for _ in 0..1000 {
        assert_eq!(client.ask("GET", "/version", None).status, 200);
    }
    let mut reader = fs::File::open(&log).unwrap();
    let mut some = [0; 4096];
    assert_ne!(reader.read(&mut some).unwrap(), 0);
    assert_eq!(client.ask("GET", "/", None).status, 200);
}

#[test]
fn a_socket_can_be_had_again_once_its_process_has_ended() {
    let mut vm = Vm::firecracker();
    vm.signal(rustix::process::Signal::TERM);
    vm.end();
    assert!(UnixStream::connect(vm.socket()).is_err());
    UnixListener::bind(vm.socket()).unwrap();
}
