//! The container's cgroup: where it is, and its end. It is made, with the VM's own below it, by the monitor's warden.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

/// What the VM's own cgroup is in, below the container's.
const COMMON: &str = "ravelin.vms";
/// How often it is tried to remove a cgroup whose last process may still be ending, and the pause between: 2 s.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Where a container's cgroup is, by `linux.cgroupsPath`: a path, or systemd's `slice:prefix:name`. Relative to the mount
/// of each hierarchy.
pub(crate) fn path(cgroups_path: &str) -> Option<PathBuf> {
    let path = match cgroups_path.split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] => systemd(slice, prefix, name)?,
        _ => PathBuf::from(cgroups_path.trim_start_matches('/')),
    };
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (is_plain && !path.as_os_str().is_empty()).then_some(path)
}

/// `a-b.slice` is in `a.slice`; what has no slice is in `system.slice`.
fn systemd(slice: &str, prefix: &str, name: &str) -> Option<PathBuf> {
    let slice = if slice.is_empty() {
        "system.slice"
    } else {
        slice
    };
    let stem = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    if stem != "-" {
        for (at, _) in stem.match_indices('-') {
            path.push(format!("{}.slice", &stem[..at]));
        }
        path.push(slice);
    }
    path.push(match name.ends_with(".slice") {
        true => name.to_owned(),
        false => format!("{prefix}-{name}.scope"),
    });
    Some(path)
}

/// The mounts of cgroup hierarchies.
fn mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_cgroups = fields.filter(|fields| matches!(fields.get(2), Some(&"cgroup" | &"cgroup2")));
    of_cgroups
        .filter_map(|fields| fields.get(1).map(PathBuf::from))
        .collect()
}

/// Whether this host has all controllers in one hierarchy.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The first process in the VM's own cgroup: the monitor.
pub(crate) fn monitor(parent: &Path, vm_name: &str, warden: u32) -> Option<u32> {
    let below = parent.join(COMMON).join(format!("{vm_name}.{warden}"));
    mounts().iter().find_map(|mount| {
        let text = fs::read_to_string(mount.join(&below).join("cgroup.procs")).ok()?;
        text.lines().next()?.parse().ok()
    })
}

/// Removes a container's cgroup in every hierarchy, and what a VM has left in it.
pub(crate) fn remove(path: &Path) {
    for mount in mounts() {
        let directory = mount.join(path);
        for vm in fs::read_dir(directory.join(COMMON))
            .into_iter()
            .flatten()
            .flatten()
        {
            if vm.path().is_dir() {
                remove_one(&vm.path());
            }
        }
        remove_one(&directory.join(COMMON));
        remove_one(&directory);
    }
}

fn remove_one(directory: &Path) {
    for _ in 0..TRIES {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => thread::sleep(PAUSE),
            _ => return,
        }
    }
    log::warn!(
        "the cgroup {} cannot be removed: processes are in it",
        directory.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_path_are_one() {
        let is = |text, expected: &str| assert_eq!(path(text), Some(expected.into()), "{text}");
        is("/default/web", "default/web");
        is("kubepods/pod1/c", "kubepods/pod1/c");
        is(
            "kubepods-burstable-pod1.slice:cri-containerd:abc",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope",
        );
        is(":docker:abc", "system.slice/docker-abc.scope");
        is("-.slice:crio:abc", "crio-abc.scope");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_none() {
        for text in ["", "/", "../a", "/a/../../b", "a.slice:p:../../x/y"] {
            assert_eq!(
                path(text).filter(|path| path.components().any(|c| c == Component::ParentDir)),
                None,
                "{text}"
            );
        }
        assert_eq!(path("/a/../b"), None);
        assert_eq!(path("foo:bar:baz"), None);
    }
}
