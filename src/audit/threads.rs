//! What `/proc/PID/task/TID/status` tells of each thread (proc_pid_status(5)).

use std::collections::BTreeMap;
use std::io;

use serde::{Serialize, Serializer};

use super::filter::Calls;
use super::proc::Process;
use super::report::{Finding, State};

/// A thread of the process.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Thread {
    /// Its number.
    pub(crate) tid: u32,
    /// Its name, which it chose itself.
    pub(crate) name: String,
    /// What the kernel tells of it.
    #[serde(flatten)]
    pub(crate) status: Status,
    /// What its seccomp filters let through; none when there are none or they could not be read.
    pub(crate) syscalls: Option<Calls>,
    /// Whether it is the kernel's (a worker of io_uring or vhost), and never runs code of the process.
    pub(crate) in_kernel: bool,
}

/// What was found in a status file; nothing where a line is missing or unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    /// Users: real, effective, saved, file system.
    pub(crate) uid: Option<[u32; 4]>,
    /// Groups: real, effective, saved, file system.
    pub(crate) gid: Option<[u32; 4]>,
    /// Further groups.
    pub(crate) groups: Option<Vec<u32>>,
    /// Capability sets.
    pub(crate) capabilities: Option<Capabilities>,
    /// Whether the thread can never gain privileges by exec.
    pub(crate) no_new_privs: Option<bool>,
    /// 0 none, 1 strict, 2 filters.
    pub(crate) seccomp: Option<u8>,
    /// How many filters.
    pub(crate) seccomp_filters: Option<u32>,
    /// Who traces it; 0 is nobody.
    pub(crate) tracer: Option<u32>,
}

/// Capability sets, a bit each (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Capabilities {
    /// Kept by an exec, with the file's own.
    #[serde(serialize_with = "hexadecimal")]
    pub(crate) inheritable: u64,
    /// May be made effective.
    #[serde(serialize_with = "hexadecimal")]
    pub(crate) permitted: u64,
    /// In use.
    #[serde(serialize_with = "hexadecimal")]
    pub(crate) effective: u64,
    /// The most that an exec can give.
    #[serde(serialize_with = "hexadecimal")]
    pub(crate) bounding: u64,
    /// Given by an exec of any file.
    #[serde(serialize_with = "hexadecimal")]
    pub(crate) ambient: u64,
}

/// A set as the kernel writes it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn hexadecimal<S: Serializer>(set: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{set:016x}"))
}

impl Status {
    /// Reads the text of a status file.
    pub(crate) fn parse(text: &str) -> Self {
        let fields: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let field = |name| fields.get(name).copied();
        Self {
            uid: field("Uid").and_then(four),
            gid: field("Gid").and_then(four),
            groups: field("Groups").and_then(numbers),
            capabilities: capabilities(&fields),
            no_new_privs: match field("NoNewPrivs") {
                Some("0") => Some(false),
                Some("1") => Some(true),
                _ => None,
            },
            seccomp: field("Seccomp").and_then(|value| value.parse().ok()),
            seccomp_filters: field("Seccomp_filters").and_then(|value| value.parse().ok()),
            tracer: field("TracerPid").and_then(|value| value.parse().ok()),
        }
    }
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split_whitespace()
        .map(|word| word.parse().ok())
        .collect()
}

fn four(text: &str) -> Option<[u32; 4]> {
    numbers(text)?.try_into().ok()
}

fn capabilities(fields: &BTreeMap<&str, &str>) -> Option<Capabilities> {
    let set = |name| u64::from_str_radix(fields.get(name)?, 16).ok();
    Some(Capabilities {
        inheritable: set("CapInh")?,
        permitted: set("CapPrm")?,
        effective: set("CapEff")?,
        bounding: set("CapBnd")?,
        ambient: set("CapAmb")?,
    })
}

/// Flags of a thread that the kernel runs for the process: `PF_IO_WORKER`, `PF_USER_WORKER` (Linux `sched.h`).
const IN_KERNEL: u64 = 0x10 | 0x4000;

/// Whether a thread is the kernel's; one that has ended is nobody's, and as good as that.
pub(super) fn in_kernel(process: &Process, tid: u32) -> bool {
    match process.thread(tid).text("stat") {
        Ok(stat) => is_of_kernel(&stat),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether the text of `/proc/PID/task/TID/stat` (flags: field 9) is that of a thread of the kernel's.
fn is_of_kernel(stat: &str) -> bool {
    // The name before the parenthesis may itself hold any character; after it comes field 3.
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest);
    let flags = after_name.and_then(|rest| rest.split_ascii_whitespace().nth(9 - 3));
    flags
        .and_then(|flags| flags.parse::<u64>().ok())
        .is_some_and(|flags| flags & IN_KERNEL != 0)
}

/// What is read of each thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// That it is there.
    Number,
    /// Its status; and of one without a filter, whose it is.
    Status,
    /// Of one with a filter too: where it is read back, the kernel's own threads have none to read.
    Kind,
}

/// Reads every thread of a process. One that ends meanwhile is left out.
///
/// # Errors
/// When the process is gone, or its threads cannot be listed.
pub(super) fn read(process: &Process, depth: Depth) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for tid in process.numbers("task")? {
        let known = match depth {
            Depth::Number => Some(Thread::default()),
            Depth::Status | Depth::Kind => known(&process.thread(tid), depth),
        };
        threads.extend(known.map(|known| Thread { tid, ..known }));
    }
    Ok(threads)
}

/// What is known of a thread; nothing of one that has ended.
fn known(thread: &Process, depth: Depth) -> Option<Thread> {
    let text = thread.text("status").ok()?;
    let status = Status::parse(&text);
    let asks = depth == Depth::Kind || status.seccomp != Some(2);
    Some(Thread {
        name: name(&text),
        status,
        in_kernel: asks && thread.text("stat").is_ok_and(|stat| is_of_kernel(&stat)),
        ..Thread::default()
    })
}

/// The name on the first line of a status file.
fn name(status: &str) -> String {
    let first = status.lines().next().unwrap_or_default();
    first.strip_prefix("Name:\t").unwrap_or_default().to_owned()
}

/// One finding over all threads: **a hole in one is a hole in all, and one that is silent proves nothing**.
pub(super) fn over(threads: &[Thread], judge: impl Fn(&Thread) -> Finding) -> Finding {
    let found: Vec<_> = threads
        .iter()
        .map(|thread| (thread.name.as_str(), judge(thread)))
        .collect();
    for state in [State::Absent, State::NotTestable] {
        if let Some((_, first)) = found.iter().find(|(_, finding)| finding.state == state) {
            let evidence = grouped(found.iter().filter(|(_, finding)| finding.state == state));
            let is_everyone = found.iter().all(|(_, finding)| finding == first);
            return Finding {
                evidence: match is_everyone {
                    true => first.evidence.clone(),
                    false => evidence,
                },
                ..first.clone()
            };
        }
    }
    match found.first() {
        None => Finding::not_testable("no thread was seen"),
        Some((_, first)) if found.iter().all(|(_, finding)| finding == first) => first.clone(),
        Some(_) => Finding::in_force(grouped(found.iter())),
    }
}

/// `name, name: evidence; name: other evidence`.
fn grouped<'a>(found: impl Iterator<Item = &'a (&'a str, Finding)>) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, finding) in found {
        match groups
            .iter_mut()
            .find(|(evidence, _)| *evidence == finding.evidence)
        {
            Some((_, names)) => names.push(name),
            None => groups.push((&finding.evidence, vec![name])),
        }
    }
    let groups = groups
        .iter()
        .map(|(evidence, names)| format!("{}: {evidence}", names.join(", ")));
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A thread with the status of a text.
    pub(in crate::audit) fn thread(name: &str, status: &str) -> Thread {
        Thread {
            tid: 7,
            name: name.to_owned(),
            status: Status::parse(status),
            ..Thread::default()
        }
    }

    #[test]
    fn a_status_is_read_line_by_line() {
        let text = "Name:\tx\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\nGroups:\t7 8 \n\
                    CapInh:\t0\nCapPrm:\t1\nCapEff:\t2\nCapBnd:\t000001ffffffffff\nCapAmb:\t0\nNoNewPrivs:\t1\n\
                    Seccomp:\t2\nSeccomp_filters:\t3\n";
        let status = Status::parse(text);
        assert_eq!(name(text), "x");
        assert_eq!(status.uid, Some([1, 2, 3, 4]));
        assert_eq!(status.groups, Some(vec![7, 8]));
        assert_eq!(status.capabilities.unwrap().bounding, (1 << 41) - 1);
        assert_eq!(status.no_new_privs, Some(true));
        assert_eq!((status.seccomp, status.seccomp_filters), (Some(2), Some(3)));
        assert_eq!(status.tracer, Some(0));
    }

    #[test]
    fn what_is_missing_or_garbled_is_nothing() {
        assert_eq!(Status::parse(""), Status::default());
        let garbled = "Uid:\t1\t2\t3\nCapInh:\t0\nCapPrm:\tzz\nNoNewPrivs:\t2\nSeccomp:\tx\n";
        assert_eq!(Status::parse(garbled), Status::default());
    }

    #[test]
    fn a_worker_of_the_kernels_is_told_by_its_flags_and_not_by_its_name() {
        assert!(is_of_kernel("7 (iou-wrk-6) S 1 2 3 0 -1 4210768 0"));
        assert!(!is_of_kernel(
            "7 (iou-wrk) 1 2 3 4 5 16) S 1 2 3 0 -1 4194304 0"
        ));
        assert!(!is_of_kernel("7 (x"));
    }

    #[test]
    fn a_hole_in_one_thread_is_a_hole_in_all() {
        let threads = ["main", "io0", "vcpu0"].map(|name| thread(name, ""));
        let found = over(&threads, |thread| match thread.name.as_str() {
            "vcpu0" => Finding::absent("open"),
            "io0" => Finding::not_testable("dark"),
            _ => Finding::in_force("shut"),
        });
        assert_eq!(found, Finding::absent("vcpu0: open"));
        let found = over(&threads, |_| Finding::in_force("shut"));
        assert_eq!(found, Finding::in_force("shut"));
        let found = over(&threads, |thread| match thread.name.as_str() {
            "vcpu0" => Finding::in_force("2"),
            _ => Finding::in_force("1"),
        });
        assert_eq!(found, Finding::in_force("main, io0: 1; vcpu0: 2"));
        let found = over(&[], |_| Finding::in_force("shut"));
        assert_eq!(found.state, State::NotTestable);
    }
}
