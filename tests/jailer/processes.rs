//! Which process runs, where it is numbered, and what it was told.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::kit::{RAVELIN, jailing};

#[test]
fn the_jailer_becomes_the_program_and_its_number_is_written() {
    jailing(|place| {
        let vm = place.start("");
        assert_eq!(vm.pid(), vm.child());
        assert_eq!(vm.proc("comm"), "firecracker\n");
        let answer = vm.ask("GET", "/", "");
        assert!(answer.contains(r#""id":"web""#), "{answer}");
    });
}

#[test]
fn the_program_is_told_its_name_its_times_and_what_follows_the_hyphens() {
    jailing(|place| {
        let vm = place.start("-- --level Debug --log-path /log");
        let line = vm.proc("cmdline");
        let args: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        let numbers = [4, 6, 8].map(|at| args[at].parse::<u64>().is_ok());
        assert_eq!(numbers, [true; 3], "{args:?}");
        assert_eq!(
            args[..4],
            ["/firecracker", "--id", "web", "--start-time-us"]
        );
        assert_eq!(args[5], "--start-time-cpu-us");
        assert_eq!(args[7], "--parent-cpu-time-us");
        assert_eq!(args[9..], ["--level", "Debug", "--log-path", "/log"]);
        assert!(place.root().join("log").is_file());
    });
}

#[test]
fn a_daemon_leaves_the_session_and_the_terminal() {
    jailing(|place| {
        let mut vm = place.start("--daemonize");
        let pid = vm.pid();
        let child = vm.child();
        vm.first_ends();
        assert_ne!(pid, child);
        let stat = vm.proc("stat");
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let (group, session, terminal) = (fields[2], fields[3], fields[4]);
        // Its parent, which has gone, led the session.
        assert_ne!(session, pid.to_string());
        assert_eq!(group, session);
        assert_eq!(terminal, "0");
        for fd in 0..3 {
            let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
            assert_eq!(target.to_str(), Some("/dev/null"), "{fd}");
        }
    });
}

#[test]
fn in_a_pid_namespace_it_is_the_first_and_the_file_has_the_hosts_number() {
    jailing(|place| {
        let mut vm = place.start("--new-pid-ns");
        let child = vm.child();
        vm.first_ends();
        assert_ne!(vm.pid(), child);
        assert_eq!(vm.status("NSpid"), format!("{} 1", vm.pid()));
    });
}

#[test]
fn a_daemon_in_a_pid_namespace_is_both() {
    jailing(|place| {
        let mut vm = place.start("--daemonize --new-pid-ns");
        vm.first_ends();
        assert!(vm.status("NSpid").ends_with(" 1"));
        assert!(vm.ask("GET", "/", "").contains("Not started"));
    });
}

#[test]
fn the_network_namespace_is_joined_also_over_a_link() {
    jailing(|place| {
        // As ip-netns(8) has them: a mount of the namespace on a file, in a directory that is a link.
        let directory = place.path().join("netns");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("web"), "").unwrap();
        symlink(&directory, place.path().join("link")).unwrap();
        let made = Command::new("unshare")
            .arg(format!("--net={}/web", directory.display()))
            .arg("true")
            .status();
        assert!(made.unwrap().success());
        let vm = place.start(&format!("--netns {}/link/web", place.path().display()));
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        assert_ne!(vm.namespace("net"), ours);
    });
}

#[test]
fn a_program_that_is_called_jailer_is_one() {
    jailing(|place| {
        let program = place.path().join("jailer");
        symlink(RAVELIN, &program).unwrap();
        let version = Command::new(&program).arg("--version").output().unwrap();
        assert_eq!(version.status.code(), Some(0));
        assert_eq!(version.stdout, b"Jailer v1.17.0-dev\n\n");
        let jailer = place.jailer("");
        // The same arguments without the subcommand.
        let mut by_name = Command::new(&program);
        by_name.args(jailer.get_args().skip(1));
        let vm = place.start_by(&mut by_name);
        assert!(vm.ask("GET", "/", "").contains("Not started"));
    });
}
