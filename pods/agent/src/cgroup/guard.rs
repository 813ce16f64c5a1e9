//! What keeps the agent alive whatever its containers do: its own memory and its own place, and a bound around all of
//! them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_init::kmsg;
use rustix::mount::{MountFlags, mount};

const ROOT: &str = "/sys/fs/cgroup";
/// Memory that the agent always has, and what is left to it and to the kernel beside all containers, bytes.
const OWN: u64 = 16 << 20;
const LEAST_LEFT: u64 = 24 << 20;
/// The most processes of all containers together.
const PROCESSES: u64 = 16_384;
/// The agent's part of the processors beside that of all containers, which is 100.
const WEIGHT: u32 = 1000;

/// Mounts the cgroups, puts this process into its own, makes the one that all containers are in, and gives that one's
/// folder.
///
/// # Errors
///
/// The kernel has no cgroups of version 2.
pub(crate) fn guard() -> io::Result<PathBuf> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", ROOT, "cgroup2", flags, None)?;
    let root = Path::new(ROOT);
    let (agent, pod) = (root.join("agent"), root.join("pod"));
    fs::create_dir(&agent)?;
    fs::create_dir(&pod)?;
    fs::write(agent.join("cgroup.procs"), "1")?;
    delegate(root);
    delegate(&pod);
    wish(&agent.join("memory.min"), &OWN.to_string());
    wish(&agent.join("cpu.weight"), &WEIGHT.to_string());
    wish(&pod.join("pids.max"), &PROCESSES.to_string());
    if let Some(total) = total_memory() {
        let most = most_of(total);
        wish(&pod.join("memory.max"), &most.to_string());
    }
    wish(Path::new("/proc/self/oom_score_adj"), "-1000");
    Ok(pod)
}

/// What all containers together may have of a guest's memory.
fn most_of(total: u64) -> u64 {
    total.saturating_sub((total / 16).max(LEAST_LEFT))
}

/// Hands every controller that there is on to the cgroups below.
fn delegate(folder: &Path) {
    let there = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in there.split_whitespace() {
        wish(
            &folder.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        );
    }
}

/// Writes what a guest can do without, though worse.
fn wish(path: &Path, value: &str) {
    if let Err(error) = fs::write(path, value) {
        kmsg::error(&format_args!(
            "cannot set {} to {value}: {error}",
            path.display()
        ));
    }
}

/// The guest's memory, bytes.
fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    field(&text, "MemTotal")
}

/// A field of /proc/meminfo, bytes.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_to_the_agent() {
        assert_eq!(most_of(128 << 20), 104 << 20);
        assert_eq!(most_of(16 << 30), 15 << 30);
        assert_eq!(most_of(1 << 20), 0);
    }

    #[test]
    fn memory_is_in_kibibytes() {
        let text = "MemTotal:         100 kB\nMemFree:   7 kB\n";
        assert_eq!(field(text, "MemTotal"), Some(102_400));
        assert_eq!(field(text, "Mem"), None);
    }
}
