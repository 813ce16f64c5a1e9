//! The cgroups of a jail: found before anything is made, then made, limited and entered.

mod bpf;
mod device_list;
mod home;
mod leftover;
mod tree;
mod v1;
mod v2;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use self::device_list::denied_by;
pub(crate) use self::home::{Home, Site, are_born_in, remove};
pub(crate) use self::leftover::clear;
use self::tree::Mount;
use super::error::JailError;
use super::plan::{CgroupVersion, Cgroups, Setting};

const MOUNTS: &str = "/proc/mounts";

/// What will be made and entered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// A leaf in the hierarchy of each controller that is set, in the order of the command line.
    V1(Vec<Leaf>),
    /// A leaf in the one hierarchy.
    V2(Leaf),
    /// A cgroup of somebody else's, which is entered if it is there.
    Join {
        /// Where the hierarchy is mounted.
        mount: PathBuf,
        /// The cgroup in it.
        path: PathBuf,
    },
    /// Nothing was asked for.
    Stay,
}

/// A cgroup of the jail's own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Where its hierarchy is mounted.
    mount: PathBuf,
    /// Its path in it: `<parent>/<id>`.
    path: PathBuf,
    /// What is written to its files.
    settings: Vec<Setting>,
}

/// Finds the places of what was asked for.
///
/// # Errors
/// When there is no such hierarchy or controller here.
pub(super) fn find(cgroups: &Cgroups, exec_file: &str, id: &str) -> Result<Places, JailError> {
    if cgroups.settings.is_empty() && cgroups.version == CgroupVersion::V1 {
        return Ok(Places::Stay);
    }
    let mounts = fs::read_to_string(MOUNTS);
    let mounts = mounts.map_err(|e| JailError::ReadToString(MOUNTS.into(), e))?;
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::read).collect();
    places(cgroups, Path::new(exec_file), id, &mounts)
}

fn places(
    cgroups: &Cgroups,
    exec_file: &Path,
    id: &str,
    mounts: &[Mount],
) -> Result<Places, JailError> {
    let mounts = mounts.iter().filter(|m| m.version == cgroups.version);
    let parent = cgroups.parent.as_deref().unwrap_or(exec_file);
    let first = mounts
        .clone()
        .next()
        .ok_or(JailError::CgroupHierarchyMissing)?;
    if cgroups.settings.is_empty() {
        return Ok(Places::Join {
            mount: first.directory.clone(),
            path: parent.to_owned(),
        });
    }
    let mut leaves: Vec<Leaf> = Vec::new();
    for setting in &cgroups.settings {
        let controller = controller(&setting.file)?;
        let mount = match cgroups.version {
            CgroupVersion::V2 => Some(first),
            CgroupVersion::V1 => mounts.clone().find(|m| m.has(controller)),
        };
        let unavailable = || JailError::CgroupControllerUnavailable(controller.to_owned());
        let mount = &mount.ok_or_else(unavailable)?.directory;
        match leaves.iter_mut().find(|leaf| leaf.mount == *mount) {
            Some(leaf) => leaf.settings.push(setting.clone()),
            None => leaves.push(Leaf {
                mount: mount.clone(),
                path: parent.join(id),
                settings: vec![setting.clone()],
            }),
        }
    }
    Ok(match cgroups.version {
        CgroupVersion::V1 => Places::V1(leaves),
        CgroupVersion::V2 => leaves.pop().map_or(Places::Stay, Places::V2),
    })
}

/// The controller of a file `<controller>.<property>`.
fn controller(file: &str) -> Result<&str, JailError> {
    match file.split_once('.') {
        Some((controller, property)) if !controller.is_empty() && !property.is_empty() => {
            Ok(controller)
        }
        _ => Err(JailError::CgroupInvalidFile(file.to_owned())),
    }
}

impl Places {
    /// Makes the cgroups, writes their files, and only then enters them: a cpuset without processors and memory
    /// cannot be entered, and no process is ever there without its limits.
    pub(super) fn enter(&self) -> Result<(), JailError> {
        match self {
            Self::V1(leaves) => v1::enter(leaves),
            Self::V2(leaf) => v2::enter(leaf),
            Self::Join { mount, path } => v2::join(mount, path),
            Self::Stay => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: [&str; 5] = [
        "proc /proc proc rw 0 0",
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0",
        "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0",
        "cgroup2 /sys/fs/cgroup/uni\\040fied cgroup2 rw,nsdelegate 0 0",
        "cgroup /mnt/memory cgroup rw,memory 0 0",
    ];

    fn on_this_host(version: CgroupVersion, lines: &[&str]) -> Result<Places, JailError> {
        let setting = |line: &&str| {
            let (file, value) = line.split_once('=').unwrap();
            Setting {
                file: file.to_owned(),
                value: value.to_owned(),
            }
        };
        let cgroups = Cgroups {
            version,
            parent: None,
            settings: lines.iter().map(setting).collect(),
        };
        let mounts: Vec<Mount> = HOST.iter().filter_map(|line| Mount::read(line)).collect();
        places(&cgroups, Path::new("firecracker"), "web", &mounts)
    }

    #[test]
    fn settings_go_to_the_hierarchy_of_their_controller() {
        let lines = ["cpuset.cpus=0", "cpu.shares=10", "cpuset.mems=0"];
        let Places::V1(leaves) = on_this_host(CgroupVersion::V1, &lines).unwrap() else {
            panic!("no v1");
        };
        let found: Vec<_> = leaves
            .iter()
            .map(|leaf| (leaf.mount.to_str().unwrap(), leaf.settings.len()))
            .collect();
        assert_eq!(
            found,
            [
                ("/sys/fs/cgroup/cpuset", 2),
                ("/sys/fs/cgroup/cpu,cpuacct", 1)
            ]
        );
        assert_eq!(leaves[0].path, Path::new("firecracker/web"));
    }

    #[test]
    fn the_one_hierarchy_has_one_leaf() {
        let lines = ["cpu.max=1 2", "pids.max=9"];
        let Places::V2(leaf) = on_this_host(CgroupVersion::V2, &lines).unwrap() else {
            panic!("no v2");
        };
        assert_eq!(leaf.mount, Path::new("/sys/fs/cgroup/uni fied"));
        assert_eq!(leaf.settings.len(), 2);
    }

    #[test]
    fn without_settings_a_parent_is_joined_in_the_one_hierarchy_only() {
        let joined = on_this_host(CgroupVersion::V2, &[]).unwrap();
        assert!(matches!(joined, Places::Join { path, .. } if path == Path::new("firecracker")));
    }

    #[test]
    fn what_is_not_here_is_refused_by_name() {
        let refused = |line| {
            on_this_host(CgroupVersion::V1, &[line])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused("pids.max=1"), "Controller pids is unavailable");
        assert_eq!(refused("cpusetcpus=1"), "Cgroup invalid file: cpusetcpus");
        assert_eq!(refused(".cpus=1"), "Cgroup invalid file: .cpus");
    }
}
