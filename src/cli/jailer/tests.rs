use std::path::{Path, PathBuf};

use super::*;
use crate::jail::{CgroupVersion, Plan, Setting, Walls};

const LEAST: &str = "--id web-1 --exec-file firecracker --uid 1 --gid 2";

fn read(line: &str) -> Result<Plan, String> {
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    match flags::OWN.parse(&args) {
        Ok(Request::Flags(given)) => read::plan(&given).map_err(|error| error.to_string()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(ValueError::from(error).to_string()),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = read(LEAST).unwrap();
    assert_eq!(plan.chroot_base, Path::new("/srv/jailer"));
    assert_eq!(plan.limits.open_files, 2048);
    assert_eq!(plan.limits.file_size, None);
    assert_eq!(plan.cgroups.version, CgroupVersion::V1);
    assert_eq!(plan.walls, Walls::ALL);
    assert!(!plan.daemonize && !plan.new_pid_ns && plan.netns.is_none());
    assert!(plan.extra_args.is_empty());
}

#[test]
fn everything_given_is_in_the_plan() {
    let plan = read(&format!(
        "{LEAST} --daemonize --new-pid-ns --netns /n --chroot-base-dir /b --parent-cgroup a/b --cgroup-version 2 \
         --cgroup cpu.max=1 --cgroup pids.max=2 --resource-limit fsize=3 --resource-limit no-file=4 \
         -- --config-file vm.json --id other"
    ))
    .unwrap();
    assert!(plan.daemonize && plan.new_pid_ns);
    assert_eq!(plan.netns, Some(PathBuf::from("/n")));
    assert_eq!(plan.cgroups.parent, Some(PathBuf::from("a/b")));
    assert_eq!(plan.cgroups.version, CgroupVersion::V2);
    let last = Setting {
        file: "pids.max".to_owned(),
        value: "2".to_owned(),
    };
    assert_eq!(plan.cgroups.settings[1], last);
    assert_eq!(plan.limits.file_size, Some(3));
    assert_eq!(plan.limits.open_files, 4);
    assert_eq!(
        plan.extra_args,
        ["--config-file", "vm.json", "--id", "other"]
    );
    assert_eq!(plan.id, "web-1");
}

#[test]
fn each_mistake_has_the_jailers_words() {
    for (flags, message) in [
        (
            "--uid",
            "Failed to parse arguments: The argument 'uid' was provided more than once.",
        ),
        (
            "--node 0",
            "Failed to parse arguments: Found argument 'node' which wasn't expected, or isn't valid in this context.",
        ),
        (
            "--cgroup cpu.shares",
            "Invalid format for cgroups: cpu.shares",
        ),
        (
            "--cgroup cpu.shares=",
            "Invalid format for cgroups: cpu.shares=",
        ),
        (
            "--cgroup cpu.shares=1=2",
            "Invalid format for cgroups: cpu.shares=1=2",
        ),
        (
            "--cgroup ../cpu.shares=1",
            "Cgroup invalid file: ../cpu.shares=1",
        ),
        (
            "--cgroup /cpu.shares=1",
            "Cgroup invalid file: /cpu.shares=1",
        ),
        (
            "--cgroup a/cpu.shares=1",
            "Cgroup invalid file: a/cpu.shares=1",
        ),
        ("--cgroup ..=1", "Cgroup invalid file: ..=1"),
        (
            "--cgroup-version 3",
            "3 is an invalid cgroup version specifier",
        ),
        (
            "--cgroup-version x",
            "x is an invalid cgroup version specifier",
        ),
        (
            "--parent-cgroup /a",
            "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'",
        ),
        (
            "--parent-cgroup a/../b",
            "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'",
        ),
        (
            "--parent-cgroup ./a",
            "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'",
        ),
        (
            "--resource-limit fsize",
            "Invalid format for resources limits: fsize",
        ),
        (
            "--resource-limit fsize=-1",
            "Invalid limit value for resource: -1: invalid digit found in string",
        ),
        ("--resource-limit core=1", "Invalid resource argument: core"),
        (
            "--without seccomp",
            "Invalid wall: seccomp: one or more of namespaces, capabilities, no-new-privs and core-limit were expected, with commas between them",
        ),
    ] {
        assert_eq!(read(&format!("{LEAST} {flags}")).unwrap_err(), message);
    }
}

#[test]
fn an_id_that_is_no_directorys_name_is_refused() {
    let long = "a".repeat(65);
    for (id, message) in [
        ("..", "Invalid instance ID: invalid char (.) at position 0"),
        ("a/b", "Invalid instance ID: invalid char (/) at position 1"),
        ("a_b", "Invalid instance ID: invalid char (_) at position 1"),
        (
            &long,
            "Invalid instance ID: invalid len (65);  the length must be between 1 and 64",
        ),
    ] {
        let line = LEAST.replace("web-1", id);
        assert_eq!(read(&line).unwrap_err(), message);
    }
}

#[test]
fn a_number_that_would_leave_root_in_place_is_refused() {
    for (uid, gid, message) in [
        ("4294967295", "1", "Invalid uid: 4294967295"),
        ("1", "4294967295", "Invalid gid: 4294967295"),
        ("root", "1", "Invalid uid: root"),
        ("1", "-1", "Invalid gid: -1"),
    ] {
        let line = format!("--id a --exec-file firecracker --uid {uid} --gid {gid}");
        assert_eq!(read(&line).unwrap_err(), message);
    }
}

#[test]
fn walls_are_left_out_by_name() {
    let plan = read(&format!("{LEAST} --without namespaces,capabilities")).unwrap();
    let left = Walls {
        namespaces: false,
        capabilities: false,
        ..Walls::ALL
    };
    assert_eq!(plan.walls, left);
}

#[test]
fn called_by_name_it_has_no_flag_that_the_jailer_has_not() {
    let args = ["--without".to_owned(), "namespaces".to_owned()];
    assert!(flags::JAILER.parse(&args).is_err());
    assert!(!help(flags::JAILER.flags).contains("without"));
}
