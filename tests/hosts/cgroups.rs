//! Control groups, of the version that this host has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::process::{Piped, kvm, last_line, run, stderr, stdout};
use crate::support::RAVELIN;
use crate::{boot, root};

/// The walls that cgroups are, as the audit calls them.
const WALLS: &str = "cgroup,cgroup-memory,cgroup-pids,cgroup-cpu,cgroup-devices";

/// Whether this host's monitors have cgroups with this file.
fn has(file: &str) -> bool {
    let top = Path::new("/sys/fs/cgroup");
    let there = match fs::read_to_string(top.join("cgroup.controllers")) {
        Ok(controllers) => controllers
            .split_whitespace()
            .any(|one| file.split('.').next() == Some(one)),
        Err(_) => below(top, file, 4),
    };
    if !there {
        eprintln!("SKIPPED: this host's cgroups have no {file}");
    }
    kvm() && root() && there
}

/// Whether a cgroup has a file; the root cgroups have few.
fn below(directory: &Path, file: &str, depth: u32) -> bool {
    directory.join(file).exists()
        || (depth > 0
            && folders(directory)
                .iter()
                .any(|one| below(one, file, depth - 1)))
}

fn folders(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Whether there is but the one hierarchy of version 2.
fn is_version_2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The cgroup of a VM that has a file.
fn group(ravelin: &mut Piped, file: &str) -> PathBuf {
    fn find(directory: &Path, end: &str, file: &str) -> Option<PathBuf> {
        let folders = folders(directory);
        let is_it =
            |one: &&PathBuf| one.to_string_lossy().ends_with(end) && one.join(file).exists();
        let found = folders.iter().find(is_it).cloned();
        found.or_else(|| folders.iter().find_map(|one| find(one, end, file)))
    }
    let end = format!(".{}", ravelin.pid().as_raw_nonzero());
    let found = find(Path::new("/sys/fs/cgroup"), &end, file);
    found.unwrap_or_else(|| panic!("no cgroup of the VM's has {file}"))
}

/// What a process of root's finds that enters the cgroup of a VM and then opens a device for reading.
fn open_inside(ravelin: &mut Piped, device: &str) -> Output {
    let (file, door) = match is_version_2() {
        true => ("memory.max", "cgroup.procs"),
        false => ("devices.list", "tasks"),
    };
    let door = group(ravelin, file).join(door);
    let script = format!("echo $$ >{} && exec <{device}", door.display());
    Command::new("sh").args(["-c", &script]).output().unwrap()
}

fn end(ravelin: Piped) {
    let mut ravelin = ravelin;
    ravelin.signal(Signal::INT);
    let output = ravelin.end();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn every_usual_limit_stands() {
    if !has("pids.max") {
        return;
    }
    let mut ravelin = boot(&[]);
    let monitor = ravelin.monitor().unwrap().to_string();
    let audit = Command::new(RAVELIN)
        .args(["audit", &monitor, "--require", WALLS])
        .output()
        .unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}", stdout(&audit));
    end(ravelin);
}

#[test]
fn a_process_in_a_vms_cgroup_opens_no_device() {
    let file = if is_version_2() {
        "pids.max"
    } else {
        "devices.list"
    };
    if !has(file) {
        return;
    }
    let mut ravelin = boot(&[]);
    for device in ["/dev/zero", "/dev/null", "/dev/kvm"] {
        assert!(fs::File::open(device).is_ok(), "{device} opens elsewhere");
        let output = open_inside(&mut ravelin, device);
        assert!(!output.status.success(), "{device}");
        assert!(stderr(&output).contains("not permitted"), "{output:?}");
    }
    // What is no device is not its business.
    assert!(
        open_inside(&mut ravelin, "/proc/self/status")
            .status
            .success()
    );
    end(ravelin);
}

#[test]
fn a_device_is_allowed_by_name() {
    let file = if is_version_2() {
        "pids.max"
    } else {
        "devices.list"
    };
    if !has(file) {
        return;
    }
    let mut ravelin = boot(&["--cgroup", "devices.allow=c 1:5 r"]);
    assert!(open_inside(&mut ravelin, "/dev/zero").status.success());
    assert!(!open_inside(&mut ravelin, "/dev/null").status.success());
    end(ravelin);
}

#[test]
fn every_limit_is_set_by_the_name_of_its_file() {
    let settings: &[(&str, &str)] = match is_version_2() {
        true => &[
            ("memory.max", "419430400"),
            ("memory.swap.max", "0"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "50"),
            ("cpuset.cpus", "0"),
            ("pids.max", "77"),
            ("io.max", ""),
        ],
        false => &[
            ("memory.limit_in_bytes", "419430400"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.shares", "512"),
            ("cpuset.cpus", "0"),
            ("pids.max", "77"),
            ("blkio.throttle.read_bps_device", ""),
        ],
    };
    let Some(disk) = disk() else {
        eprintln!("SKIPPED: this host has no disk");
        return;
    };
    let there = |file: &str| has(file);
    // Swap is a host's or is not.
    let settings = settings.iter().filter(|(file, _)| there(file));
    let settings: Vec<(&str, String)> = settings
        .map(|(file, value)| {
            let value = match *file {
                "io.max" => format!("{disk} rbps=1048576"),
                _ if value.is_empty() => format!("{disk} 1048576"),
                _ => (*value).to_owned(),
            };
            (*file, value)
        })
        .collect();
    if settings.is_empty() {
        return;
    }
    let words: Vec<String> = settings
        .iter()
        .map(|(file, value)| format!("{file}={value}"))
        .collect();
    let words: Vec<&str> = words.iter().flat_map(|word| ["--cgroup", word]).collect();
    let mut ravelin = boot(&words);
    for (file, value) in settings {
        let found = fs::read_to_string(group(&mut ravelin, file).join(file)).unwrap();
        // The kernel adds what was not said of a disk.
        assert!(
            found.starts_with(&value),
            "{file}: {found} in place of {value}"
        );
    }
    end(ravelin);
}

/// The number of a whole disk.
fn disk() -> Option<String> {
    let entries = fs::read_dir("/sys/block").ok()?.flatten();
    let number = |path: PathBuf| fs::read_to_string(path.join("dev")).ok();
    let found = entries.filter_map(|entry| number(entry.path())).next()?;
    Some(found.trim().to_owned())
}

#[test]
fn a_limit_that_this_host_does_not_have_stops_the_start() {
    if !has("pids.max") {
        return;
    }
    let kernel = crate::guest::Guest::default().power_off().kernel();
    let kernel = kernel.path().to_str().unwrap();
    for (limit, word) in [
        ("nosuch.limit=1", "nosuch.limit"),
        ("pids.max=many", "pids.max"),
        ("devices.allow=c one:1 r", "devices.allow"),
    ] {
        if limit.starts_with("devices") && !is_version_2() {
            continue;
        }
        let output = run(["--kernel", kernel, "--cgroup", limit]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let word = if limit.starts_with("devices") {
            "c one:1 r"
        } else {
            word
        };
        assert!(last_line(&output).contains(word), "{output:?}");
    }
}
