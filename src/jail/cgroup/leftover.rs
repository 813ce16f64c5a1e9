//! Monitors' cgroups that nobody watches over any more: found wherever they are, and removed.
//!
//! One is ravelin's by its place, straight below a cgroup of the name that only ravelin gives, and by its own name,
//! `NAME.PID`, or `NAME.PID@NAMESPACE`. It was left behind if nobody holds the lock on it that its warden takes: a lock ends with its process,
//! so no number of a process is believed. And the kernel removes no cgroup that a process is in.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::MOUNTS;
use super::home::{COMMON, remove};
use super::tree::{Cgroup, Mount};
use crate::remnant::{Fate, Kind, Remnant};

/// How deep cgroups lie at most: container runtimes nest a few.
const DEPTH: usize = 32;

/// Removes what was left behind in all hierarchies, or only says what there is.
pub(crate) fn clear(dry_run: bool) -> Vec<Remnant> {
    let text = fs::read_to_string(MOUNTS).unwrap_or_default();
    let mounts = text.lines().filter_map(Mount::read);
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for mount in mounts {
        // A hierarchy may be mounted several times.
        let root = fs::metadata(&mount.directory).map(|root| (root.dev(), root.ino()));
        if root.is_ok_and(|root| seen.insert(root)) {
            look(
                &mount.directory,
                &mount.directory,
                DEPTH,
                dry_run,
                &mut found,
            );
        }
    }
    found
}

fn look(mount: &Path, directory: &Path, depth: usize, dry_run: bool, found: &mut Vec<Remnant>) {
    for below in children(directory) {
        let path = directory.join(&below);
        if below == COMMON {
            clear_common(mount, &path, dry_run, found);
        } else if depth > 0 {
            look(mount, &path, depth - 1, dry_run, found);
        }
    }
}

/// The names of the cgroups straight below one.
fn children(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn clear_common(mount: &Path, common: &Path, dry_run: bool, found: &mut Vec<Remnant>) {
    let all = children(common);
    for name in &all {
        let path = common.join(name);
        let Some(vm) = vm_of(name) else { continue };
        let Some(_lock) = left_behind(mount, &path) else {
            continue;
        };
        found.push(Remnant {
            kind: Kind::Cgroup,
            vm: Some(vm.to_owned()),
            fate: Fate::by(dry_run, || remove(&path)),
            path,
        });
    }
    // Left by whoever was killed just after it had removed the last one in it; a VM that starts makes it anew.
    if all.is_empty() && (dry_run || fs::remove_dir(common).is_ok()) {
        found.push(Remnant {
            kind: Kind::Cgroup,
            vm: None,
            path: common.to_owned(),
            fate: Fate::by(dry_run, || Ok::<_, String>(())),
        });
    }
}

/// The VM's name in a cgroup's: before its warden's process id, which may have the number of its PID namespace behind it.
fn vm_of(cgroup: &str) -> Option<&str> {
    let (name, number) = cgroup.rsplit_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_wardens = number.splitn(2, '@').all(is_number);
    (is_wardens && !name.is_empty()).then_some(name)
}

/// A cgroup that nobody watches over, locked: until it is dropped nobody takes it for one that is watched.
fn left_behind(mount: &Path, path: &Path) -> Option<Cgroup> {
    let below = path.strip_prefix(mount).ok()?;
    let cgroup = Cgroup::root(mount).ok()?.below(below).ok()??;
    cgroup.is_held().then_some(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitors_cgroup_has_a_name_and_a_number() {
        assert_eq!(vm_of("web.17"), Some("web"));
        assert_eq!(vm_of("a.b.17"), Some("a.b"));
        assert_eq!(vm_of("web.17@4026532567"), Some("web"));
        for other in ["web", "web.", ".17", "web.17a", "web.-1", "init.scope"] {
            assert_eq!(vm_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_watched_over_stays_and_what_is_not_goes() {
        // Any file system has directories and locks.
        let mount = tempfile::tempdir().unwrap();
        let common = mount.path().join("a").join(COMMON);
        for name in ["live.1", "dead.2", "other"] {
            fs::create_dir_all(common.join(name)).unwrap();
        }
        let live = left_behind(mount.path(), &common.join("live.1")).unwrap();
        let clear = |dry_run| {
            let mut found = Vec::new();
            look(mount.path(), mount.path(), DEPTH, dry_run, &mut found);
            found
        };
        let only = |fate| {
            vec![Remnant {
                kind: Kind::Cgroup,
                vm: Some("dead".to_owned()),
                path: common.join("dead.2"),
                fate,
            }]
        };
        assert_eq!(clear(true), only(Fate::Found));
        assert!(common.join("dead.2").exists());
        assert_eq!(clear(false), only(Fate::Removed));
        assert_eq!(clear(false), []);
        drop(live);
        assert!(common.join("other").exists() && common.join("live.1").exists());
        assert_eq!(clear(false).len(), 1);
    }

    #[test]
    fn an_empty_common_cgroup_goes_too() {
        let mount = tempfile::tempdir().unwrap();
        let common = mount.path().join(COMMON);
        fs::create_dir(&common).unwrap();
        let mut found = Vec::new();
        look(mount.path(), mount.path(), DEPTH, false, &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!common.exists());
    }
}
