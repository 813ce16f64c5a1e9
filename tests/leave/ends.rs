//! Every end of a VM that runs: nothing is left of it.

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
