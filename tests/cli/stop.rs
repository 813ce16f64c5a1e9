//! `ravelin ctl NAME stop`: the guest switches itself off, or the VM is ended; ctl waits for the process.

use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::fake::{Place, Vm, done, in_state, refusal, serve, sleeper, stderr};

/// The request that presses the power button.
const BUTTON: &str = r#"PUT /actions {"action_type":"SendCtrlAltDel"}"#;

/// The signal that has ended the VM's process.
fn ended_by(vm: &mut Vm) -> Option<i32> {
    vm.child.wait().unwrap().signal()
}

#[test]
fn stop_asks_the_guest_and_waits_for_the_process() {
    let place = Place::new();
    let child = sleeper("exec sleep 1000");
    let pid = Pid::from_child(&child);
    let _entry = place.enter("web", child.id());
    let listener = UnixListener::bind(place.socket("web")).unwrap();
    let running = in_state("Running");
    let requests = serve(listener, move |request| {
        if request == BUTTON {
            kill_process(pid, Signal::USR1).unwrap();
        }
        running(request)
    });
    let output = place.ravelin(&["ctl", "web", "stop"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        requests
            .lock()
            .unwrap()
            .iter()
            .any(|request| request == BUTTON)
    );
    let status = { child }.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::USR1.as_raw()));
}

#[test]
fn a_guest_that_does_not_switch_itself_off_is_left_running() {
    let place = Place::new();
    let mut vm = place.vm("web", in_state("Running"));
    let output = place.ravelin(&["ctl", "web", "stop", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output)
            .contains("has not switched itself off within 300ms: give it a longer --timeout, or"),
        "{output:?}"
    );
    assert!(vm.child.try_wait().unwrap().is_none());
}

#[test]
fn a_vm_without_a_guest_is_ended() {
    let place = Place::new();
    let mut vm = place.vm("web", in_state("Not started"));
    let output = place.ravelin(&["ctl", "web", "stop"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(ended_by(&mut vm), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_paused_guest_cannot_be_asked() {
    let place = Place::new();
    let mut vm = place.vm("web", in_state("Paused"));
    let output = place.ravelin(&["ctl", "web", "stop"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("`resume` it first"), "{output:?}");
    assert!(vm.child.try_wait().unwrap().is_none());
}

#[test]
fn a_guest_that_may_not_be_asked_is_left_running() {
    let place = Place::new();
    let mut vm = place.vm("web", |_| refusal("not now"));
    let output = place.ravelin(&["ctl", "web", "stop"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("the VM refused (400): not now"),
        "{output:?}"
    );
    assert!(vm.child.try_wait().unwrap().is_none());
}

#[test]
fn force_lets_the_process_clean_up() {
    let place = Place::new();
    let mut vm = place.vm("web", |_| done());
    let output = place.ravelin(&["ctl", "web", "stop", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(ended_by(&mut vm), Some(Signal::INT.as_raw()));
    assert!(vm.requests().is_empty());
}

#[test]
fn force_ends_a_process_that_hangs_and_needs_no_socket() {
    let place = Place::new();
    let mut child = sleeper("trap '' INT; exec sleep 1000");
    // The shell has ignored the signal by the time it is another program.
    let comm = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    let _entry = place.enter("web", child.id());
    let output = place.ravelin(&["ctl", "web", "stop", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn a_process_that_is_no_vm_is_not_signalled() {
    let place = Place::new();
    // The process that serves this socket is the test.
    serve(
        UnixListener::bind(place.socket("x")).unwrap(),
        in_state("Running"),
    );
    let socket = place.socket("x");
    for flags in [&["stop"][..], &["stop", "--force"]] {
        let args = [&["ctl", "--sock", socket.to_str().unwrap()], flags].concat();
        let output = place.ravelin(&args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains("cannot be told"), "{output:?}");
    }
}
