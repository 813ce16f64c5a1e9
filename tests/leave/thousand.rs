//! A thousand VMs, one after the other, beside one that stays: nothing grows.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::guest::Guest;
use crate::kit::jailing;
use crate::scene::{Scene, kvm};

const STARTS: u32 = 1000;

/// What each process has: its threads and its descriptors.
fn holdings() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let count = |pid: u32, what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let mut all: Vec<_> = pids
        .map(|pid| {
            format!(
                "{pid}: {} threads, {} descriptors",
                count(pid, "task"),
                count(pid, "fd")
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_thousand_starts_leave_nothing_and_nothing_grows() {
    jailing(|place| {
        if !kvm() {
            return;
        }
        let scene = Scene::new(place, &Guest::default().say("here\n").power_off());
        // It has no name of theirs, no disk and no socket, and its guest does nothing.
        let kernel = Guest::default().say("here\n").halt().kernel();
        let line = ["run", "--quiet", "--mem", "32M", "--kernel"].map(str::to_owned);
        let mut neighbour = scene.ravelin(&line);
        let neighbour = neighbour.arg(kernel.path()).stdout(Stdio::piped());
        let mut neighbour = neighbour.spawn().unwrap();
        let mut output = BufReader::new(neighbour.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        let run = scene.run();
        assert_eq!(scene.runs(&run).status.code(), Some(0));
        let (before, held) = (scene.everything(), holdings());
        for round in 0..STARTS {
            let output = scene.runs(&run);
            assert_eq!(output.status.code(), Some(0), "{round}: {output:?}");
        }
        let after = scene.everything();
        let left: Vec<_> = after.symmetric_difference(&before).collect();
        assert_eq!(left, Vec::<&String>::new());
        assert_eq!(holdings(), held);
        // It clears up itself: a keeper would end with these namespaces.
        kill_process(Pid::from_child(&neighbour), Signal::INT).unwrap();
        neighbour.wait().unwrap();
    });
}
