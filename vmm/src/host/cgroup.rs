//! The row about control groups: which version, and whether this process may make groups of its own.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::read;
use super::report::Finding;

/// Looks at the mounts and at the group of this process.
pub(super) fn look() -> Finding {
    let mounts = read::text("/proc/self/mountinfo");
    let own = read::text("/proc/self/cgroup");
    let (Ok(mounts), Ok(own)) = (mounts, own) else {
        return Finding::unknown("/proc/self does not tell the control groups", "mount /proc");
    };
    let hierarchies = hierarchies(&mounts);
    let unified = hierarchies
        .iter()
        .find(|hierarchy| hierarchy.controllers.is_none());
    let controllers = match unified {
        Some(hierarchy) => {
            let group = hierarchy.own_group(&own);
            match group.and_then(|group| read::text(group.join("cgroup.controllers")).ok()) {
                Some(controllers) => Some(controllers),
                None => return invisible("version 2"),
            }
        }
        None => None,
    };
    let groups: Vec<_> = hierarchies
        .iter()
        .filter(|hierarchy| hierarchy.limits())
        .filter_map(|hierarchy| hierarchy.own_group(&own))
        .collect();
    let shut: Vec<_> = groups
        .iter()
        .filter(|group| access(group.as_path(), Access::WRITE_OK).is_err())
        .collect();
    let version = version(&hierarchies, controllers.as_deref());
    finding(&version, groups.len(), &shut)
}

fn invisible(version: &str) -> Finding {
    Finding::unknown(
        format!("{version}; the group of this process is not visible"),
        "look from outside the container, or mount /sys/fs/cgroup",
    )
}

/// A mounted hierarchy of control groups (cgroups(7)).
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    mount: PathBuf,
    /// The directory of the hierarchy that stands at the mount.
    root: PathBuf,
    /// Its controllers in version 1; `None` for version 2.
    controllers: Option<Vec<String>>,
}

/// The hierarchies in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo.lines().filter_map(hierarchy).collect()
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (place, file_system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let root = PathBuf::from(place.next()?);
    let mount = PathBuf::from(place.next()?);
    let mut file_system = file_system.split(' ');
    let controllers = match file_system.next()? {
        "cgroup2" => None,
        "cgroup" => Some(
            file_system
                .nth(1)?
                .split(',')
                .filter(|option| !matches!(*option, "rw" | "ro" | "xattr"))
                .map(str::to_owned)
                .collect(),
        ),
        _ => return None,
    };
    Some(Hierarchy {
        mount,
        root,
        controllers,
    })
}

impl Hierarchy {
    /// The names of its controllers in version 1; `None` for version 2.
    pub fn controllers(&self) -> Option<&[String]> {
        self.controllers.as_deref()
    }

    /// The directory of a process's group, from the text of its `/proc/PID/cgroup` (cgroups(7)): lines
    /// `9:memory:/path`, and `0::/path` for version 2.
    pub fn own_group(&self, own: &str) -> Option<PathBuf> {
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            self.holds(controllers).then(|| fields.next())?
        })?;
        let path = Path::new(path);
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let below = below.strip_prefix("/").unwrap_or(below);
        Some(self.mount.components().chain(below.components()).collect())
    }

    /// Whether it is the one that `/proc/self/cgroup` calls `controllers`.
    fn holds(&self, controllers: &str) -> bool {
        match &self.controllers {
            None => controllers.is_empty(),
            Some(own) => controllers
                .split(',')
                .all(|controller| own.iter().any(|name| name == controller)),
        }
    }

    /// Whether limits for a machine can be set in it.
    fn limits(&self) -> bool {
        match &self.controllers {
            None => true,
            Some(own) => own.iter().any(|name| WANTED.contains(&name.as_str())),
        }
    }
}

/// Which versions carry controllers.
#[derive(Debug, PartialEq, Eq)]
enum Version {
    None,
    One(Vec<String>),
    Two(Vec<String>),
    Hybrid { one: Vec<String>, two: Vec<String> },
}

/// `unified_controllers` are those that version 2 gives to this process's group.
fn version(hierarchies: &[Hierarchy], unified_controllers: Option<&str>) -> Version {
    let one: Vec<_> = hierarchies
        .iter()
        .filter_map(|hierarchy| hierarchy.controllers.as_deref())
        .flatten()
        .filter(|name| !name.starts_with("name="))
        .cloned()
        .collect();
    let two: Option<Vec<_>> =
        unified_controllers.map(|text| text.split_whitespace().map(str::to_owned).collect());
    match two {
        Some(two) if one.is_empty() => Version::Two(two),
        None if one.is_empty() => Version::None,
        Some(two) if !two.is_empty() => Version::Hybrid { one, two },
        _ => Version::One(one),
    }
}

/// Limits for a machine's process want these.
const WANTED: [&str; 3] = ["cpu", "memory", "pids"];

/// `groups` directories were looked at, and `shut` of them may not be written.
fn finding(version: &Version, groups: usize, shut: &[&PathBuf]) -> Finding {
    let (evidence, controllers) = match version {
        Version::None => {
            return Finding::warning(
                "no control groups are mounted",
                "mount them (mount -t cgroup2 none /sys/fs/cgroup) for limits on each machine",
            );
        }
        Version::One(one) => (format!("version 1 ({})", one.join(" ")), one.clone()),
        Version::Two(two) => (format!("version 2 ({})", two.join(" ")), two.clone()),
        Version::Hybrid { one, two } => (
            format!(
                "version 1 ({}) beside version 2 ({})",
                one.join(" "),
                two.join(" ")
            ),
            one.iter().chain(two).cloned().collect(),
        ),
    };
    if let Some(missing) = WANTED
        .into_iter()
        .find(|name| !controllers.iter().any(|has| has == name))
    {
        return Finding::warning(
            format!("{evidence}, without the controller {missing}"),
            format!("enable {missing} in the parent group for limits on each machine"),
        );
    }
    match shut.first() {
        _ if groups == 0 => invisible(&evidence),
        None => Finding::ok(format!("{evidence}, writable")),
        Some(group) => Finding::warning(
            format!(
                "{evidence}; {} is not delegated to this user",
                group.display()
            ),
            match version {
                Version::Two(_) => {
                    "for limits on each machine run as root, or in a delegated group (systemd-run --user --scope \
                     -p Delegate=yes)"
                }
                _ => "for limits on each machine run as root",
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const V2: &str =
        "26 22 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_unified_mount_alone_is_version_2() {
        assert_eq!(
            version(&hierarchies(V2), Some("cpu memory pids")),
            Version::Two(names(&["cpu", "memory", "pids"]))
        );
    }

    #[test]
    fn controllers_decide_between_version_1_and_hybrid() {
        let hierarchies = hierarchies(V1);
        let one = names(&["cpu", "cpuacct", "memory", "pids"]);
        assert_eq!(version(&hierarchies, Some("")), Version::One(one.clone()));
        let two = names(&["hugetlb"]);
        assert_eq!(
            version(&hierarchies, Some("hugetlb")),
            Version::Hybrid { one, two }
        );
    }

    #[test]
    fn no_mount_is_no_version() {
        assert_eq!(version(&[], None), Version::None);
        assert_eq!(finding(&Version::None, 0, &[]).level, Level::Warning);
    }

    #[test]
    fn own_groups_lie_below_their_mounts() {
        let own = "8:pids:/\n4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/d\n9:name=systemd:/\n";
        let groups: Vec<_> = hierarchies(V1)
            .iter()
            .filter(|hierarchy| hierarchy.limits())
            .filter_map(|hierarchy| hierarchy.own_group(own))
            .collect();
        let expected = ["cpu/c", "memory/a/b", "pids", "unified/d"];
        let expected = expected.map(|group| Path::new("/sys/fs/cgroup").join(group));
        assert_eq!(groups, expected);
    }

    #[test]
    fn a_mount_of_a_subtree_is_not_counted_twice() {
        let mount = hierarchies("26 22 0:25 /box /sys/fs/cgroup ro - cgroup2 cgroup ro\n");
        let group = mount[0].own_group("0::/box/inner\n");
        assert_eq!(group.as_deref(), Some(Path::new("/sys/fs/cgroup/inner")));
    }

    #[test]
    fn a_group_that_is_not_writable_is_not_delegated() {
        let two = Version::Two(names(&WANTED));
        let group = PathBuf::from("/sys/fs/cgroup/user.slice");
        assert_eq!(finding(&two, 1, &[]).level, Level::Ok);
        assert_eq!(finding(&two, 1, &[&group]).level, Level::Warning);
        assert_eq!(finding(&two, 0, &[]).level, Level::Unknown);
    }

    #[test]
    fn a_missing_controller_is_named() {
        let found = finding(&Version::Two(names(&["cpu", "pids"])), 1, &[]);
        assert_eq!(found.level, Level::Warning);
        assert!(found.evidence.contains("without the controller memory"));
    }
}
