//! Cgroups, of the version that this host has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kit::{Place, jailing};

/// A parent of a test's own in one hierarchy. What is in it goes with the value.
struct Parent {
    name: String,
    mounts: Vec<PathBuf>,
}

impl Parent {
    /// Where the hierarchies of `kinds` are mounted: a v1 controller, or `cgroup2`. `None`, said aloud, where one
    /// is not.
    fn new(place: &Place, kinds: &[&str]) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let find = |kind: &&str| {
            let found = mounts.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                let is_it = match *kind {
                    "cgroup2" => fields[2] == "cgroup2",
                    _ => fields[2] == "cgroup" && fields[3].split(',').any(|o| o == *kind),
                };
                is_it.then(|| PathBuf::from(fields[1]))
            });
            if found.is_none() {
                eprintln!("SKIPPED: this host has no cgroup hierarchy of {kind}");
            }
            found
        };
        // The place's name is no other test's.
        let name = place.path().file_name().unwrap().to_str().unwrap();
        Some(Self {
            name: format!("ravelin-test{}", name.replace('.', "-")),
            mounts: kinds.iter().map(find).collect::<Option<_>>()?,
        })
    }

    fn read(&self, at: usize, file: &str) -> String {
        fs::read_to_string(self.mounts[at].join(&self.name).join(file)).unwrap()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for mount in &self.mounts {
            remove(&mount.join(&self.name));
        }
    }
}

/// Removes a cgroup and those below it. Their processes have been waited for.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

#[test]
fn version_1_limits_and_enters_a_cgroup_of_each_controller() {
    jailing(|place| {
        let Some(parent) = Parent::new(place, &["cpuset", "cpu"]) else {
            return;
        };
        let vm = place.start(&format!(
            "--cgroup cpu.shares=512 --cgroup cpuset.cpus=0 --parent-cgroup {}/deeper",
            parent.name
        ));
        assert_eq!(parent.read(0, "deeper/web/cpuset.cpus"), "0\n");
        assert_eq!(parent.read(1, "deeper/web/cpu.shares"), "512\n");
        // Inherited, since nothing can be in a cpuset without them.
        let above = fs::read_to_string(parent.mounts[0].join("cpuset.mems")).unwrap();
        assert_eq!(parent.read(0, "deeper/web/cpuset.mems"), above);
        assert_eq!(
            parent.read(0, "deeper/web/tasks").lines().next(),
            Some(vm.pid().to_string().as_str())
        );
        let inside = format!("/{}/deeper/web", parent.name);
        let cgroups = vm.proc("cgroup");
        let entered = cgroups.lines().filter(|line| line.ends_with(&inside));
        assert_eq!(entered.count(), 2, "{cgroups}");
    });
}

#[test]
fn version_1_names_its_parent_after_the_program() {
    jailing(|place| {
        if Parent::new(place, &["cpu"]).is_none() {
            return;
        }
        // A name of this test's own, since the parent is named after it.
        let name = format!(
            "firecracker{}",
            place
                .path()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .replace('.', "-")
        );
        let program = place.path().join(&name);
        fs::copy(crate::kit::RAVELIN, &program).unwrap();
        let mut parent = Parent::new(place, &["cpu"]).unwrap();
        parent.name = name;
        let base = place.base();
        // It is not called `firecracker`, so it does not know the flags and ends: its cgroup stays.
        let output = std::process::Command::new(crate::kit::RAVELIN)
            .args([
                "jailer",
                "--id",
                "web",
                "--uid",
                "1",
                "--gid",
                "1",
                "--exec-file",
            ])
            .arg(&program)
            .arg("--chroot-base-dir")
            .arg(&base)
            .args(["--cgroup", "cpu.shares=256"])
            .output();
        assert_eq!(output.unwrap().status.code(), Some(2));
        assert_eq!(parent.read(0, "web/cpu.shares"), "256\n");
    });
}

#[test]
fn version_2_enters_a_parent_that_is_there() {
    jailing(|place| {
        let Some(parent) = Parent::new(place, &["cgroup2"]) else {
            return;
        };
        fs::create_dir(parent.mounts[0].join(&parent.name)).unwrap();
        let line = format!("--cgroup-version 2 --parent-cgroup {}", parent.name);
        let vm = place.start(&line);
        assert_eq!(parent.read(0, "cgroup.procs"), format!("{}\n", vm.pid()));
    });
}

#[test]
fn version_2_stays_where_it_is_when_the_parent_is_not_there() {
    jailing(|place| {
        let Some(parent) = Parent::new(place, &["cgroup2"]) else {
            return;
        };
        let line = format!("--cgroup-version 2 --parent-cgroup {}", parent.name);
        let _vm = place.start(&line);
        assert!(!parent.mounts[0].join(&parent.name).exists());
    });
}

#[test]
fn version_2_limits_and_enters_a_cgroup() {
    jailing(|place| {
        let Some(parent) = Parent::new(place, &["cgroup2"]) else {
            return;
        };
        let controllers = fs::read_to_string(parent.mounts[0].join("cgroup.controllers")).unwrap();
        let has = |name: &str| controllers.split_whitespace().any(|c| c == name);
        let (file, value) = match (has("pids"), has("hugetlb")) {
            (true, _) => ("pids.max", "64"),
            (_, true) => ("hugetlb.2MB.max", "0"),
            _ => {
                eprintln!("SKIPPED: this host's cgroup 2 has neither pids nor hugetlb");
                return;
            }
        };
        let vm = place.start(&format!(
            "--cgroup-version 2 --cgroup {file}={value} --parent-cgroup {}/deeper",
            parent.name
        ));
        assert_eq!(
            parent.read(0, &format!("deeper/web/{file}")),
            format!("{value}\n")
        );
        assert_eq!(
            parent.read(0, "deeper/web/cgroup.procs"),
            format!("{}\n", vm.pid())
        );
    });
}
