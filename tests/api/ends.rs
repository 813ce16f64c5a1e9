//! How the process ends, and what it leaves.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::vm::{self, Face, Vm};

#[test]
fn the_socket_goes_with_the_process_and_the_signal_that_ended_firecracker_is_seen() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut vm = Vm::firecracker();
        vm.signal(signal);
        assert_eq!(vm.end().signal(), Some(signal.as_raw()), "{}", vm.stdout());
        assert!(!vm.socket().exists());
    }
}

#[test]
fn a_hangup_has_an_exit_status_of_its_own() {
    let mut vm = Vm::firecracker();
    vm.signal(Signal::HUP);
    assert_eq!(vm.end().code(), Some(156));
    let log = vm.stdout();
    assert!(
        log.contains("Shutting down VM after intercepting signal 1, code 156."),
        "{log}"
    );
    assert!(!vm.socket().exists());
}

#[test]
fn a_signal_ends_ravelin_api_with_128_and_its_number() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut vm = Vm::start(Face::Ravelin, &[]);
        vm.signal(signal);
        assert_eq!(
            vm.end().code(),
            Some(128 + signal.as_raw()),
            "{}",
            vm.stderr()
        );
        assert!(!vm.socket().exists());
    }
}

#[test]
fn a_signal_ends_a_running_guest_and_a_paused_one() {
    if !vm::kvm() {
        return;
    }
    for (pauses, signal) in [
        (false, Signal::INT),
        (false, Signal::TERM),
        (true, Signal::TERM),
    ] {
        let mut vm = Vm::firecracker();
        vm.boot("idle");
        if pauses {
            let paused = vm.ask("PATCH", "/vm", Some(r#"{"state": "Paused"}"#));
            assert_eq!(paused.status, 204, "{paused:?}");
        }
        vm.signal(signal);
        assert_eq!(vm.end().signal(), Some(signal.as_raw()));
        assert!(!vm.socket().exists());
    }
}

#[test]
fn a_guest_that_ends_by_itself_is_no_failure_of_firecracker() {
    if !vm::kvm() {
        return;
    }
    for work in ["reset", "poweroff", "poweroff:7", "crash"] {
        let mut vm = Vm::firecracker();
        vm.boot(work);
        assert_eq!(vm.end().code(), Some(0), "{work}: {}", vm.stdout());
        let log = vm.stdout();
        assert!(log.contains("Vmm is stopping."), "{work}: {log}");
        let last = "Firecracker exiting successfully. exit_code=0";
        assert!(log.trim_end().ends_with(last), "{work}: {log}");
        assert!(!vm.socket().exists());
    }
}

#[test]
fn a_guest_that_ends_tells_ravelin_api_how() {
    if !vm::kvm() {
        return;
    }
    for (work, status) in [
        ("reset", 120),
        ("poweroff", 0),
        ("poweroff:7", 7),
        ("crash", 122),
    ] {
        let mut vm = Vm::start(Face::Ravelin, &[]);
        vm.boot(work);
        assert_eq!(vm.end().code(), Some(status), "{work}: {}", vm.stderr());
        assert!(!vm.socket().exists());
    }
}

#[test]
fn a_socket_that_took_the_place_of_ours_stays() {
    let mut vm = Vm::firecracker();
    let ours = vm.socket();
    std::fs::remove_file(&ours).unwrap();
    let theirs = std::os::unix::net::UnixListener::bind(&ours).unwrap();
    vm.signal(Signal::TERM);
    vm.end();
    assert!(UnixStream::connect(&ours).is_ok());
    drop(theirs);
}

#[test]
fn a_client_that_waits_is_not_kept_from_the_end() {
    let mut vm = Vm::firecracker();
    let _idle = vm.client();
    let mut half = vm.client();
    half.write(b"PUT /actions HTTP/1.1\r\nContent-Length: 30\r\n\r\n{");
    vm.signal(Signal::TERM);
    assert_eq!(vm.end().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(half.reply(), None);
}
