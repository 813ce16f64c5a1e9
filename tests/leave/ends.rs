//! Every end of a VM that runs: nothing is left of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::guest::Guest;
use crate::kit::{Place, jailing};
use crate::monitor::monitor_of;
use crate::scene::{Scene, kvm};

fn present() -> Guest {
    Guest::default().say("here\n")
}

/// Runs a VM until its guest is there, does something to it, and looks for what is left when it has ended.
fn ends(place: &Place, guest: &Guest, status: i32, act: fn(&Child)) {
    if !kvm() {
        return;
    }
    let scene = Scene::new(place, guest).with_tap();
    let before = scene.everything();
    let mut command = scene.ravelin(&scene.run());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    act(&child);
    assert_eq!(child.wait().unwrap().code(), Some(status));
    let after = scene.everything();
    let left: Vec<_> = after.symmetric_difference(&before).collect();
    assert_eq!(left, Vec::<&String>::new());
}

/// The processes that a process has started.
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn what_a_vm_leaves_whose_processes_are_all_killed_gc_removes_its_guests_socket_too() {
    jailing(|place| {
        if !kvm() {
            return;
        }
        let scene = Scene::new(place, &present().halt());
        let before = scene.everything();
        let mut command = scene.ravelin(&scene.run_alone());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let monitor = monitor_of(child.id()).unwrap();
        let keeper = children(child.id()).into_iter().find(|one| *one != monitor);
        kill_process(
            Pid::from_raw(keeper.unwrap().cast_signed()).unwrap(),
            Signal::KILL,
        )
        .unwrap();
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        let left = scene.everything();
        let of_guest = |one: &&String| one.contains("guest.vsock");
        assert_eq!(left.iter().filter(of_guest).count(), 1, "{left:?}");
        let gc = scene.gc();
        assert_eq!(gc.status.code(), Some(0), "{gc:?}");
        let after = scene.everything();
        let left = after.symmetric_difference(&before);
        // Nobody waits for the ends of processes whose parent was killed.
        let left: Vec<_> = left.filter(|one| !one.starts_with("process ")).collect();
        assert_eq!(left, Vec::<&String>::new(), "{gc:?}");
    });
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The closure's name is that of its test: this is where each is written.
macro_rules! endings {
    ($($name:ident: $guest:expr, $status:literal, $act:expr;)*) => {$(
        #[test]
        fn $name() {
            jailing(|place| ends(place, &$guest, $status, $act));
        }
    )*};
}

endings! {
    a_power_off_leaves_nothing: present().power_off(), 0, |_| {};
    a_reset_leaves_nothing: present().reset(), 120, |_| {};
    a_crash_leaves_nothing: present().crash(), 122, |_| {};
    sigint_leaves_nothing: present().halt(), 130, |child| signal(child, Signal::INT);
    sigterm_leaves_nothing: present().wait_for_button().power_off(), 0, |child| signal(child, Signal::TERM);
    a_monitor_that_is_killed_while_its_guest_runs_leaves_nothing: present().halt(), 137, |child| {
        let monitor = monitor_of(child.id()).unwrap();
        kill_process(Pid::from_raw(monitor.cast_signed()).unwrap(), Signal::KILL).unwrap();
    };
}
