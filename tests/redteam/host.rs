//! What there is of the host, as far as attacks could change it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Longer than what other tests do to the host for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The host's name, mounts, shared memory and swap space; its interfaces; the processes and cgroups of one test, since
/// others come and go.
#[derive(Debug)]
pub(crate) struct Host {
    lines: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    processes: BTreeSet<String>,
    cgroups: Vec<String>,
}

impl Host {
    /// As it is. The processes are those with a mark on their command line, the cgroups those with it in their name.
    pub(crate) fn look(mark: &str) -> Self {
        let files = [
            "/proc/sys/kernel/hostname",
            "/proc/self/mountinfo",
            "/proc/sysvipc/shm",
            "/proc/swaps",
        ];
        let texts = files.map(|path| fs::read_to_string(path).unwrap_or_default());
        let lines = texts.iter().flat_map(|text| text.lines());
        let mut processes = names("/proc");
        processes.retain(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.contains(mark))
        });
        Self {
            lines: lines.map(ToOwned::to_owned).collect(),
            interfaces: names("/sys/class/net"),
            processes,
            cgroups: cgroups(mark),
        }
    }

    /// Asserts that it is as it was, once what other tests do has passed: those make interfaces.
    pub(crate) fn assert_unchanged(&self, mark: &str) {
        let begin = Instant::now();
        loop {
            let now = Self::look(mark);
            let lines = now.lines.symmetric_difference(&self.lines);
            let interfaces = now.interfaces.difference(&self.interfaces);
            let processes = now.processes.difference(&self.processes);
            let changes: Vec<_> = lines
                .chain(interfaces)
                .chain(processes)
                .chain(&now.cgroups)
                .collect();
            if changes.is_empty() {
                return;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the host is not as it was: {changes:#?}"
            );
            std::thread::yield_now();
        }
    }
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Those of each hierarchy that have the mark in their name.
fn cgroups(mark: &str) -> Vec<String> {
    let hierarchies = ["/sys/fs/cgroup".to_owned()].into_iter().chain(
        names("/sys/fs/cgroup")
            .into_iter()
            .map(|name| format!("/sys/fs/cgroup/{name}")),
    );
    let all = hierarchies.flat_map(|path| names(&path));
    all.filter(|name| name.contains(mark)).collect()
}
