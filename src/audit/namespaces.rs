//! What of the system the process sees: seven namespaces, their users and groups, and its file system.

use std::io;

use super::proc::Process;
use super::report::Finding;
use super::shared::{Shared, share};
use super::threads::{Thread, over};

/// The walls and the kernel's names (namespaces(7)).
const KINDS: [(&str, &str); 7] = [
    ("ns-mount", "mnt"),
    ("ns-pid", "pid"),
    ("ns-net", "net"),
    ("ns-user", "user"),
    ("ns-ipc", "ipc"),
    ("ns-uts", "uts"),
    ("ns-cgroup", "cgroup"),
];

/// The first process: what it is in is the host's, or the container's.
const FIRST: u32 = 1;

/// Each wall of the section, looked at.
pub(super) fn look(process: &Process, threads: &[Thread]) -> Vec<(&'static str, Finding)> {
    let (first, caller) = (Process::new(FIRST), Process::new(std::process::id()));
    let mut found: Vec<_> = KINDS
        .into_iter()
        .map(|(id, kind)| {
            let (first, caller) = (first.namespace(kind), caller.namespace(kind));
            let judge = |thread: &Thread| {
                let own = process.thread(thread.tid).namespace(kind);
                namespace(&own, &first, &caller)
            };
            (id, over(threads, judge))
        })
        .collect();
    found.push(("user-map", map(&process.text("uid_map"))));
    found.push(("group-map", map(&process.text("gid_map"))));
    let first = root(&process.text("mountinfo"));
    // What shares root and working directory has its mounts as well.
    let judge = |thread: &Thread| match share(Shared::Places, process.number(), thread.tid) {
        true => first.clone(),
        false => root(&process.thread(thread.tid).text("mountinfo")),
    };
    found.push(("root", over(threads, judge)));
    found
}

/// Whether a thread has a namespace of its own: not the first process's, and not the caller's.
fn namespace(own: &io::Result<u64>, first: &io::Result<u64>, caller: &io::Result<u64>) -> Finding {
    let own = match own {
        Ok(own) => *own,
        Err(error) => return Finding::unreadable("/proc/PID/ns", error),
    };
    match (first, caller) {
        (Ok(first), _) if *first == own => {
            Finding::absent(format!("{own}, that of the first process"))
        }
        (_, Ok(caller)) if *caller == own => Finding::absent(format!("{own}, that of who asks")),
        (Ok(first), _) => Finding::in_force(format!("{own}; the first process has {first}")),
        (Err(_), Ok(caller)) => Finding::in_force(format!("{own}; who asks has {caller}")),
        (Err(error), Err(_)) => Finding::unreadable("/proc/1/ns", error),
    }
}

/// The ids of the user namespace (user_namespaces(7)): one, that is not root outside.
fn map(text: &io::Result<String>) -> Finding {
    let text = match text {
        Ok(text) => text,
        Err(error) => return Finding::unreadable("/proc/PID/uid_map and gid_map", error),
    };
    let lines: Option<Vec<[u64; 3]>> = text.lines().map(line).collect();
    match lines.as_deref() {
        None => Finding::silent("the ids of its user namespace"),
        Some([]) => Finding::absent("no id is mapped: the namespace was never set up"),
        Some([[inside, outside, 1]]) if *outside != 0 => {
            Finding::in_force(format!("{inside} is {outside} outside, and no other"))
        }
        Some([[_, 0, 1]]) => Finding::absent("its one id is root outside"),
        Some(lines) => {
            let count: u64 = lines.iter().map(|[.., count]| count).sum();
            Finding::absent(format!("{count} ids are mapped"))
        }
    }
}

fn line(text: &str) -> Option<[u64; 3]> {
    let numbers: Option<Vec<_>> = text
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    numbers?.try_into().ok()
}

/// The mounts in the text of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): one tmpfs that nothing can be
/// written to, run from or be a device in.
fn root(mountinfo: &io::Result<String>) -> Finding {
    const WANTED: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];
    let text = match mountinfo {
        Ok(text) => text,
        Err(error) => return Finding::unreadable("/proc/PID/mountinfo", error),
    };
    let mounts: Vec<_> = text.lines().filter_map(Mount::parse).collect();
    match mounts.as_slice() {
        _ if mounts.len() != text.lines().count() => Finding::silent("its mounts in a known form"),
        // A chroot outside every mount sees none: nothing is said about what it holds.
        [] => Finding::not_testable("no mount is visible from its root directory"),
        [only] if only.kind == "tmpfs" && only.place == "/" => {
            let lacks: Vec<_> = WANTED
                .into_iter()
                .filter(|word| !only.options.split(',').any(|option| option == *word))
                .collect();
            match lacks.is_empty() {
                true => Finding::in_force(format!("one tmpfs ({})", only.options)),
                false => Finding::absent(format!("one tmpfs, without {}", lacks.join(", "))),
            }
        }
        several => {
            const FEW: usize = 3;
            let named = several.iter().take(FEW);
            let named: Vec<_> = named
                .map(|mount| format!("{} on {}", mount.kind, mount.place))
                .collect();
            let more = if several.len() > FEW { ", ..." } else { "" };
            Finding::absent(format!(
                "{} mounts: {}{more}",
                several.len(),
                named.join(", ")
            ))
        }
    }
}

struct Mount<'a> {
    place: &'a str,
    options: &'a str,
    kind: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, file_system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(4);
        Some(Self {
            place: place.next()?,
            options: place.next()?,
            kind: file_system.split(' ').next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    fn refused<T>() -> io::Result<T> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn text(text: &str) -> io::Result<String> {
        Ok(text.to_owned())
    }

    #[test]
    fn a_namespace_is_its_own_when_neither_the_first_process_nor_the_caller_has_it() {
        let found = |own, first, caller| namespace(&own, &first, &caller).state;
        assert_eq!(found(Ok(1), Ok(2), Ok(2)), State::InForce);
        assert_eq!(found(Ok(1), Ok(1), Ok(2)), State::Absent);
        assert_eq!(found(Ok(1), Ok(2), Ok(1)), State::Absent);
        assert_eq!(found(Ok(1), refused(), Ok(2)), State::InForce);
        assert_eq!(found(Ok(1), refused(), Ok(1)), State::Absent);
        assert_eq!(found(Ok(1), refused(), refused()), State::NotTestable);
        assert_eq!(found(refused(), Ok(1), Ok(1)), State::NotTestable);
    }

    #[test]
    fn one_id_that_is_not_root_outside_is_enough() {
        let found = |map_text: &str| map(&text(map_text)).state;
        assert_eq!(found("      65534     100000          1\n"), State::InForce);
        assert_eq!(found("          0          0          1\n"), State::Absent);
        assert_eq!(found("          0          0 4294967295\n"), State::Absent);
        assert_eq!(found("0 1000 1\n1 100000 65536\n"), State::Absent);
        assert_eq!(found(""), State::Absent);
        assert_eq!(found("what\n"), State::NotTestable);
        assert_eq!(map(&refused()).state, State::NotTestable);
    }

    #[test]
    fn a_root_is_one_read_only_tmpfs() {
        const GOOD: &str =
            "9 8 0:9 / / ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=1024k\n";
        let found = |mounts: &str| root(&text(mounts));
        assert_eq!(found(GOOD).state, State::InForce);
        let writable = found("9 8 0:9 / / rw,nodev - tmpfs tmpfs rw\n");
        assert_eq!(writable.evidence, "one tmpfs, without ro, nosuid, noexec");
        let second = format!("{GOOD}10 9 0:10 / /proc ro - proc proc rw\n");
        assert_eq!(
            found(&second).evidence,
            "2 mounts: tmpfs on /, proc on /proc"
        );
        assert_eq!(found(&second).state, State::Absent);
        assert_eq!(
            found("9 8 8:1 / / ro - ext4 /dev/sda1 ro\n").state,
            State::Absent
        );
    }

    #[test]
    fn no_mounts_are_not_green() {
        assert_eq!(root(&text("")).state, State::NotTestable);
        assert_eq!(root(&text("garbage\n")).state, State::NotTestable);
        assert_eq!(root(&refused()).state, State::NotTestable);
    }
}
