//! What there is of containers on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::engine::{Engine, processes};

/// Processes, mounts, interfaces, cgroups, sockets and files that a container may leave; directories end with a slash.
pub(crate) fn traces(engine: &Engine) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    for (pid, line) in processes() {
        if line.contains("ravelin") && line.contains("--name")
            || line.contains("containerd-shim-ravelin")
        {
            traces.insert(format!("process {pid} {line}"));
        }
    }
    for (file, what) in [("/proc/mounts", "mount"), ("/proc/net/dev", "interface")] {
        let text = fs::read_to_string(file).unwrap();
        // Of an interface the name, since the figures behind it count on.
        let lines = text.lines().map(|line| match what {
            "mount" => line,
            _ => line.split(':').next().unwrap_or_default(),
        });
        traces.extend(lines.map(|line| format!("{what} {line}")));
    }
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
        let path = entry.path();
        if is_directory {
            traces.insert(format!("{}/", path.display()));
            walk(&path, only_directories, traces);
        } else if !only_directories {
            traces.insert(path.display().to_string());
        }
    }
}
