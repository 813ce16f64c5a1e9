//! What is left when containers are gone: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::engine::{Engine, processes};

crate::tests![ten_containers_one_after_another_leave_nothing];

/// Processes, mounts, cgroups, sockets and files that a container may leave.
fn traces(engine: &Engine) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    for (pid, line) in processes() {
        if line.contains("ravelin") && line.contains("--name")
            || line.contains("containerd-shim-ravelin")
        {
            traces.insert(format!("process {pid} {line}"));
        }
    }
    traces.extend(
        fs::read_to_string("/proc/mounts")
            .unwrap()
            .lines()
            .map(|line| format!("mount {line}")),
    );
    walk(Path::new("/sys/fs/cgroup"), true, &mut traces);
    for directory in ["/run/ravelin", "/run/ravelin-pods", "/run/containerd/s"] {
        walk(Path::new(directory), false, &mut traces);
    }
    walk(&engine.root().join("state"), false, &mut traces);
    traces
}

/// All that is in a directory; of cgroups, the directories alone.
fn walk(directory: &Path, only_directories: bool, traces: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory || !only_directories {
            traces.insert(entry.path().display().to_string());
        }
        if is_directory {
            walk(&entry.path(), only_directories, traces);
        }
    }
}

fn ten_containers_one_after_another_leave_nothing() {
    let engine = Engine::new();
    let run = |id: &str| {
        let output = engine.run(&["--null-io"], id, &["true"]);
        assert!(output.status.success(), "{output:?}\n{}", engine.log());
    };
    // What the first one makes may stay: directories that are shared, the cached disk.
    run("first");
    let before = traces(&engine);
    for number in 0..10 {
        run(&format!("c{number}"));
    }
    let after = traces(&engine);
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "{left:#?}");
}
