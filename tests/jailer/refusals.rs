//! What is refused: traps in a directory that is another's, and what is not what it should be.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::kit::{jailing, refusal};

#[test]
fn a_link_in_the_way_to_the_root_is_not_followed() {
    jailing(|place| {
        let elsewhere = place.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let base = place.base();
        for part in ["firecracker", "firecracker/web", "firecracker/web/root"] {
            let link = base.join(part);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(&elsewhere, &link).unwrap();
            let text = place.refusal("");
            let start = format!("Failed to create directory {}: ", link.display());
            assert!(text.starts_with(&start), "{text}");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    });
}

#[test]
fn a_link_in_place_of_the_program_is_not_written_to() {
    // CVE-2026-1386: the jailer wrote over what such a link leads to, as root.
    jailing(|place| {
        let victim = place.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::create_dir_all(place.root()).unwrap();
        let trap = place.root().join("firecracker");
        symlink(&victim, &trap).unwrap();
        let text = place.refusal("");
        assert!(text.starts_with("Failed to open file "), "{text}");
        fs::remove_file(&trap).unwrap();
        fs::hard_link(&victim, &trap).unwrap();
        let text = place.refusal("");
        assert_eq!(text, format!("Detected hard link at: {}", trap.display()));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    });
}

#[test]
fn a_pipe_in_place_of_the_program_does_not_hang_the_jailer() {
    jailing(|place| {
        fs::create_dir_all(place.root()).unwrap();
        let made = Command::new("mkfifo")
            .arg(place.root().join("firecracker"))
            .status();
        assert!(made.unwrap().success());
        let text = place.refusal("");
        assert!(text.contains("No such device or address"), "{text}");
    });
}

#[test]
fn a_link_in_place_of_a_directory_of_the_jail_is_not_followed() {
    jailing(|place| {
        fs::create_dir_all(place.root().join("other")).unwrap();
        symlink("other", place.root().join("dev")).unwrap();
        let text = place.refusal("");
        assert!(
            text.starts_with("Failed to create directory /dev: "),
            "{text}"
        );
        assert_eq!(fs::read_dir(place.root().join("other")).unwrap().count(), 0);
    });
}

#[test]
fn a_jail_is_not_built_twice() {
    jailing(|place| {
        let vm = place.start("");
        let second = refusal(&place.jailer("").output().unwrap());
        // The program that runs cannot be written to.
        assert!(second.starts_with("Failed to open file "), "{second}");
        assert!(vm.ask("GET", "/", "").contains("Not started"));
        drop(vm);
        let text = place.refusal("");
        assert!(
            text.starts_with("Failed to create /dev/net/tun via mknod inside the jail: "),
            "{text}"
        );
    });
}

#[test]
fn an_exec_file_that_is_none_is_refused() {
    jailing(|place| {
        let path = place.path().display().to_string();
        fs::write(place.path().join("monitor"), "").unwrap();
        fs::create_dir(place.path().join("firecracker-dir")).unwrap();
        let base = place.base().display().to_string();
        for (file, message) in [
            (
                "nothing",
                format!("Failed to canonicalize path {path}/nothing: No such file or directory (os error 2)"),
            ),
            ("firecracker-dir", format!("{path}/firecracker-dir is not a file")),
            (
                "monitor",
                "Invalid filename. The filename of `--exec-file` option must contain \"firecracker\": monitor".to_owned(),
            ),
        ] {
            let output = Command::new(crate::kit::RAVELIN)
                .args(["jailer", "--id", "web", "--uid", "1", "--gid", "1"])
                .args(["--chroot-base-dir", &base])
                .args(["--exec-file", &format!("{path}/{file}")])
                .output();
            assert_eq!(refusal(&output.unwrap()), message);
        }
        assert_eq!(fs::read_dir(place.base()).unwrap().count(), 0);
    });
}

#[test]
fn a_chroot_base_that_is_no_directory_is_refused() {
    jailing(|place| {
        let path = place.path().join("nothing");
        let text = run_in(place, &path);
        assert!(text.starts_with("Failed to canonicalize path "), "{text}");
        fs::write(&path, "").unwrap();
        assert_eq!(
            run_in(place, &path),
            format!("{} is not a directory", path.display())
        );
    });
}

fn run_in(place: &crate::kit::Place, base: &std::path::Path) -> String {
    let output = Command::new(crate::kit::RAVELIN)
        .args(["jailer", "--id", "web", "--uid", "1", "--gid", "1"])
        .arg("--exec-file")
        .arg(place.firecracker())
        .arg("--chroot-base-dir")
        .arg(base)
        .output();
    refusal(&output.unwrap())
}

#[test]
fn a_network_namespace_that_is_none_is_refused() {
    jailing(|place| {
        let text = place.refusal("--netns /nonexistent");
        assert_eq!(
            text,
            "Failed to open file /nonexistent: No such file or directory (os error 2)"
        );
        let text = place.refusal("--netns /proc/self/ns/uts");
        assert_eq!(
            text,
            "Failed to join network namespace: netns: Invalid argument (os error 22)"
        );
    });
}

#[test]
fn a_program_that_needs_a_loader_is_refused_with_the_reason() {
    jailing(|place| {
        fs::copy("/bin/sh", place.path().join("firecracker")).unwrap();
        let text = place.refusal("");
        assert!(
            text.starts_with("Failed to exec into Firecracker: "),
            "{text}"
        );
        assert!(text.contains("linked statically"), "{text}");
    });
}

#[test]
fn the_command_line_is_refused_before_anything_is_made() {
    jailing(|place| {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let unavailable = match mounts.lines().any(|line| line.contains(" cgroup ")) {
            true => "Controller nosuch is unavailable",
            false => "Hierarchy not found: No hierarchy found for this cgroup version.",
        };
        for (flags, message) in [
            (
                "--parent-cgroup ../up",
                "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'",
            ),
            (
                "--cgroup ../cpu.shares=1",
                "Cgroup invalid file: ../cpu.shares=1",
            ),
            ("--cgroup nosuch.file=1", unavailable),
            (
                "--node 0",
                "Failed to parse arguments: Found argument 'node' which wasn't expected, or isn't valid in this context.",
            ),
        ] {
            assert_eq!(place.refusal(flags), message);
        }
        assert_eq!(fs::read_dir(place.base()).unwrap().count(), 0);
    });
}
