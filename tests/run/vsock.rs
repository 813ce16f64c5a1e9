//! The socket between guest and host, from the host's side alone: where it is, who may have it, when it goes.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::guest::Guest;
use crate::process::{Piped, boot, kvm, stderr, stdout};
use crate::support::RAVELIN;

/// A guest with a socket that runs until it is ended.
fn start(socket: &Path, more: &[&str]) -> Piped {
    let arguments = [&["--vsock", socket.to_str().unwrap()], more].concat();
    let mut ravelin = Piped::boot(&Guest::default().say("here\n").halt(), &arguments);
    assert_eq!(ravelin.line(), "here\n");
    ravelin
}

fn place() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v.sock");
    (directory, path)
}

#[test]
fn the_socket_is_there_as_long_as_the_vm() {
    if !kvm() {
        return;
    }
    for more in [&[][..], &["--no-jail"]] {
        let (_directory, socket) = place();
        let mut ravelin = start(&socket, more);
        assert!(socket.metadata().unwrap().file_type().is_socket());
        // This guest has no driver: who comes waits in the socket's backlog.
        UnixStream::connect(&socket).unwrap();
        ravelin.signal(Signal::INT);
        let output = ravelin.end();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(!socket.exists(), "{more:?}");
    }
}

#[test]
fn the_walls_stand_around_a_monitor_with_a_socket_for_its_guest() {
    if !kvm() {
        return;
    }
    let (_directory, socket) = place();
    let mut ravelin = start(&socket, &[]);
    let monitor = ravelin.monitor().unwrap().to_string();
    let audit = Command::new(RAVELIN)
        .args(["audit", &monitor, "--require", "seccomp,descriptors"])
        .output()
        .unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}", stdout(&audit));
    assert_eq!(ravelin.try_end(), None);
}

#[test]
fn a_socket_that_is_served_is_left_alone() {
    if !kvm() {
        return;
    }
    for more in [&[][..], &["--no-jail"]] {
        let (_directory, socket) = place();
        let _served = UnixListener::bind(&socket).unwrap();
        let arguments = [&["--vsock", socket.to_str().unwrap()], more].concat();
        let output = boot(&Guest::default().power_off(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = stderr(&output);
        let words = "Error binding to the host-side Unix socket: Address in use";
        assert!(said.contains(words) && said.contains("remove it"), "{said}");
        UnixStream::connect(&socket).unwrap();
    }
}

#[test]
fn a_socket_that_was_left_behind_is_replaced() {
    if !kvm() {
        return;
    }
    for more in [&[][..], &["--no-jail"]] {
        let (_directory, socket) = place();
        drop(UnixListener::bind(&socket).unwrap());
        let _ravelin = start(&socket, more);
        UnixStream::connect(&socket).unwrap();
    }
}

#[test]
fn a_file_in_the_sockets_place_is_left_alone() {
    if !kvm() {
        return;
    }
    let (_directory, socket) = place();
    std::fs::write(&socket, "mine").unwrap();
    let arguments = ["--vsock", socket.to_str().unwrap()];
    let output = boot(&Guest::default().power_off(), &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
}
