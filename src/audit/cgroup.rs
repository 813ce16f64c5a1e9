//! The process's control group and its limits, in version 1 and 2 (cgroups(7)).

use std::io;
use std::path::{Path, PathBuf};

use vmm::host::{Hierarchy, hierarchies};

use super::proc::{self, Process};
use super::report::Finding;
use super::threads::{Thread, over};
use crate::jail::cgroup::denied_by;

/// Values from here on are version 1's way to say that there is no limit: pages times their size, nearly
/// 2^63 (Linux `mm/page_counter.c`).
const NO_LIMIT: u64 = 1 << 60;

/// A limit: its wall, its controller, and the files that hold it in version 1 and in version 2.
struct Limit {
    id: &'static str,
    controller: &'static str,
    file_1: &'static str,
    file_2: &'static str,
}

const LIMITS: [Limit; 3] = [
    Limit {
        id: "cgroup-memory",
        controller: "memory",
        file_1: "memory.limit_in_bytes",
        file_2: "memory.max",
    },
    Limit {
        id: "cgroup-pids",
        controller: "pids",
        file_1: "pids.max",
        file_2: "pids.max",
    },
    Limit {
        id: "cgroup-cpu",
        controller: "cpu",
        file_1: "cpu.cfs_quota_us",
        file_2: "cpu.max",
    },
];

/// Each wall about control groups, looked at. In version 1, and in threaded groups of version 2, each thread
/// has groups of its own.
pub(super) fn look(process: &Process, threads: &[Thread]) -> Vec<(&'static str, Finding)> {
    let mounts = proc::text("/proc/self/mountinfo".as_ref());
    let hierarchies = mounts.as_deref().map(hierarchies);
    let caller = proc::text("/proc/self/cgroup".as_ref()).ok();
    let wall = |judge: &dyn Fn(&[Hierarchy], &str) -> Finding| {
        over(threads, |thread| {
            let own = process.thread(thread.tid).text("cgroup");
            match (&hierarchies, &own) {
                (Ok(hierarchies), Ok(own)) => judge(hierarchies, own),
                _ => Finding::not_testable("/proc does not tell its control groups"),
            }
        })
    };
    let mut found = vec![
        ("cgroup", wall(&|_, own| group(own, caller.as_deref()))),
        ("cgroup-devices", wall(&devices)),
    ];
    for limit in &LIMITS {
        let judge = |hierarchies: &[Hierarchy], own: &str| judge(limit, hierarchies, own);
        found.push((limit.id, wall(&judge)));
    }
    found
}

/// The groups in the text of `/proc/PID/cgroup`: controllers and path of each.
fn groups(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    })
}

/// Whether the process has a group that is not the root, and in which who asks is not.
fn group(own: &str, caller: Option<&str>) -> Finding {
    let is_callers = |group| caller.is_some_and(|text| groups(text).any(|other| other == group));
    let its: Vec<_> = groups(own)
        .filter(|&(controllers, path)| {
            path != "/" && !is_callers((controllers, path)) && !controllers.starts_with("name=")
        })
        .map(|(controllers, path)| match controllers {
            "" => path.to_owned(),
            _ => format!("{controllers}:{path}"),
        })
        .collect();
    if groups(own).next().is_none() {
        Finding::silent("its control groups")
    } else if its.is_empty() {
        Finding::absent("it is in the root group, or in that of who asks")
    } else {
        Finding::in_force(its.join(", "))
    }
}

/// The directories of a controller's group, from the process's up to the mount: a limit above holds as well.
fn directories(hierarchy: &Hierarchy, own: &str, top: &[PathBuf]) -> Vec<PathBuf> {
    let Some(group) = hierarchy.own_group(own) else {
        return Vec::new();
    };
    group
        .ancestors()
        .take_while(|place| !top.iter().any(|top| top == place))
        .map(Path::to_owned)
        .collect()
}

/// The hierarchy that carries a controller: its own of version 1, else version 2.
fn carrier<'a>(hierarchies: &'a [Hierarchy], controller: &str) -> Option<(&'a Hierarchy, bool)> {
    let one = hierarchies.iter().find(|hierarchy| {
        let controllers = hierarchy.controllers().unwrap_or_default();
        controllers.iter().any(|name| name == controller)
    });
    one.map(|hierarchy| (hierarchy, true)).or_else(|| {
        let two = hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers().is_none());
        two.map(|hierarchy| (hierarchy, false))
    })
}

fn judge(limit: &Limit, hierarchies: &[Hierarchy], own: &str) -> Finding {
    let Some((hierarchy, is_one)) = carrier(hierarchies, limit.controller) else {
        return Finding::absent(format!(
            "the controller {} is mounted nowhere",
            limit.controller
        ));
    };
    let file = if is_one { limit.file_1 } else { limit.file_2 };
    let top = [PathBuf::from("/sys/fs"), PathBuf::from("/")];
    let values: Vec<_> = directories(hierarchy, own, &top)
        .into_iter()
        .map(|place| (proc::text(&place.join(file)), place.join(file)))
        .collect();
    limited(&values)
}

/// The first limit on the way up; in the root group there is no file.
fn limited(values: &[(io::Result<String>, PathBuf)]) -> Finding {
    let mut seen = 0;
    for (value, path) in values {
        match value {
            Ok(value) => {
                seen += 1;
                if let Some(bound) = bound(value) {
                    return Finding::in_force(format!("{bound} ({})", path.display()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Finding::unreadable(&path.display().to_string(), error),
        }
    }
    match values.first() {
        None => Finding::not_testable("its group is not visible from here"),
        Some(_) if seen == 0 => Finding::absent("in its group the controller is not switched on"),
        Some((_, path)) => Finding::absent(format!("none ({})", path.display())),
    }
}

/// A limit, if the text of its file is one: `max` and -1 are none, and `max 100000` of version 2's cpu.max.
fn bound(text: &str) -> Option<String> {
    let first = text.split_whitespace().next()?;
    let value: u64 = first.parse().ok()?;
    (value < NO_LIMIT).then(|| text.to_owned())
}

fn devices(hierarchies: &[Hierarchy], own: &str) -> Finding {
    match carrier(hierarchies, "devices") {
        Some((hierarchy, true)) => match hierarchy.own_group(own) {
            Some(group) => device_list(&proc::text(&group.join("devices.list"))),
            None => Finding::not_testable("its group is not visible from here"),
        },
        Some((hierarchy, false)) => match hierarchy.own_group(own) {
            Some(group) => device_programs(&denied_by(&group)),
            None => Finding::not_testable("its group is not visible from here"),
        },
        None => Finding::absent("no control groups are mounted"),
    }
}

/// The programs of version 2: the one that denies all, or how many others there are.
fn device_programs(found: &io::Result<(Option<u32>, usize)>) -> Finding {
    match found {
        Ok((Some(id), _)) => Finding::in_force(format!("no device (BPF program {id})")),
        Ok((None, 0)) => Finding::absent("no BPF program at its group decides on devices"),
        Ok((None, count)) => Finding::not_testable(format!(
            "what {count} BPF programs at its group allow is not known"
        )),
        Err(error) => Finding::unreadable("the BPF programs at its group", error),
    }
}

/// The text of `devices.list` (Linux `Documentation/admin-guide/cgroup-v1/devices.rst`).
fn device_list(text: &io::Result<String>) -> Finding {
    match text.as_deref() {
        Ok(text) if text.lines().any(|line| line.starts_with("a *:*")) => {
            Finding::absent("all devices")
        }
        Ok("") => Finding::in_force("no device"),
        Ok(text) => {
            let lines: Vec<_> = text.lines().collect();
            Finding::in_force(lines.join(", "))
        }
        Err(error) => Finding::unreadable("devices.list", error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn value(text: &str) -> (io::Result<String>, PathBuf) {
        (Ok(text.to_owned()), PathBuf::from("/x/memory.max"))
    }

    fn missing() -> (io::Result<String>, PathBuf) {
        (Err(io::ErrorKind::NotFound.into()), PathBuf::from("/x"))
    }

    #[test]
    fn a_limit_of_the_group_or_of_one_above_holds() {
        let own = limited(&[value("134217728"), value("max")]);
        assert_eq!(own, Finding::in_force("134217728 (/x/memory.max)"));
        let above = limited(&[value("max"), value("50000 100000")]);
        assert_eq!(above.state, State::InForce);
        // The same in the words of version 1.
        for text in ["9223372036854771712", "-1", "max 100000"] {
            assert_eq!(limited(&[value(text), missing()]).state, State::Absent);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_green() {
        assert_eq!(limited(&[]).state, State::NotTestable);
        assert_eq!(limited(&[missing()]).state, State::Absent);
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        let refused = limited(&[(refused, PathBuf::from("/x"))]);
        assert_eq!(refused.state, State::NotTestable);
    }

    #[test]
    fn a_group_is_its_own_when_it_is_not_the_root_or_the_callers() {
        let found = |own: &str, caller: &str| group(own, Some(caller)).state;
        assert_eq!(found("0::/ravelin/web\n", "0::/user\n"), State::InForce);
        assert_eq!(found("0::/user\n", "0::/user\n"), State::Absent);
        assert_eq!(found("4:memory:/\n0::/\n", "0::/user\n"), State::Absent);
        assert_eq!(found("", "0::/user\n"), State::NotTestable);
        let named = group("4:memory:/web\n0::/\n", None);
        assert_eq!(named.evidence, "memory:/web");
    }

    #[test]
    fn the_hierarchy_of_version_1_has_its_controller_before_version_2() {
        let mounts = "1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      2 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let hierarchies = hierarchies(mounts);
        assert!(carrier(&hierarchies, "memory").unwrap().1);
        assert!(!carrier(&hierarchies, "pids").unwrap().1);
        let places = directories(
            &hierarchies[0],
            "4:memory:/a/b\n",
            &[PathBuf::from("/sys/fs")],
        );
        let expected = ["memory/a/b", "memory/a", "memory", ""];
        assert_eq!(
            places,
            expected.map(|place| Path::new("/sys/fs/cgroup").join(place))
        );
    }

    #[test]
    fn a_list_of_devices_is_one_unless_it_has_all() {
        let found = |text: &str| device_list(&Ok(text.to_owned())).state;
        assert_eq!(found("a *:* rwm"), State::Absent);
        assert_eq!(found("c 10:232 rwm\nc 10:200 rw"), State::InForce);
        assert_eq!(found(""), State::InForce);
        let refused = device_list(&Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.state, State::NotTestable);
    }

    #[test]
    fn programs_are_a_list_of_devices_when_one_denies_all() {
        let found = |found| device_programs(&found).state;
        assert_eq!(found(Ok((Some(7), 2))), State::InForce);
        assert_eq!(found(Ok((None, 0))), State::Absent);
        assert_eq!(found(Ok((None, 1))), State::NotTestable);
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(found(refused), State::NotTestable);
    }
}
