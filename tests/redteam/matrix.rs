//! Every attack from every thread behind the walls of one monitor, and whether each was stopped.

use std::collections::BTreeSet;
use std::path::Path;

use crate::arena::{Arena, User, has_write_or_run};
use crate::monitor::{Monitor, Role};
use crate::page::Outcome;
use crate::table::{MEETING, Row, TABLE, Wall, Without};

/// The walls' names on the command line.
const NAMES: &str = "root,ns-pid,ns-net,ns-user,ns-ipc,ns-uts,ns-cgroup,cgroup,rlimits,capabilities,no-new-privs,\
                     memory,label,landlock,seccomp,audit";
/// As whom a monitor attacks that has one wall alone.
const ROOT: [&str; 4] = ["--jail-uid", "0", "--jail-gid", "0"];

/// The flags for a monitor that has one wall alone. No-new-privs and rlimits bind nobody who is root: there the monitor
/// is another user, too.
pub(crate) fn alone(wall: Wall, name: &str) -> Vec<String> {
    let others = NAMES.split(',').filter(|other| *other != name);
    let others: Vec<_> = others.collect();
    let mut flags = vec!["--jail-without".to_owned(), others.join(",")];
    if !needs_ids(wall) {
        flags.extend(ROOT.map(ToOwned::to_owned));
    }
    flags
}

/// Whether a wall alone is measured with a change of ids.
pub(crate) fn needs_ids(wall: Wall) -> bool {
    matches!(wall, Wall::Ids | Wall::NoNewPrivileges | Wall::Rlimits)
}

/// What came of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Result {
    pub(crate) row: &'static Row,
    pub(crate) role: Role,
    pub(crate) outcome: Outcome,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.attack == other.attack
    }
}

impl Eq for Row {}

impl Result {
    pub(crate) fn is_stopped(&self) -> bool {
        !matches!(self.outcome, Outcome::Through(_))
    }
}

/// Whether it takes memory as the heap does: the filters let the threads have that whose input has no small bound.
pub(crate) fn is_heap(result: &Result) -> bool {
    result.row.attack == "much-memory" && matches!(result.role, Role::Vmm | Role::Api)
}

/// Makes every attack from every thread of one monitor. One that an attack has ended is started again.
pub(crate) fn attack(arena: &Arena, user: User, flags: &[String]) -> Vec<Result> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut victim = arena.victim(user);
    let files = arena.files();
    let mut monitor = Monitor::start(arena, user, &flags);
    assert_eq!(
        usize::try_from(monitor.attacks()).unwrap(),
        TABLE.len() + MEETING.len(),
        "the table and the monitor have the same attacks"
    );
    let mut results = Vec::new();
    for row in TABLE {
        // Where there is no warden the descriptor is another.
        if row.attack == "ask-warden" && flags.contains(&"--no-jail") {
            continue;
        }
        for role in Role::ALL {
            if monitor.has_ended() {
                monitor = Monitor::start(arena, user, &flags);
            }
            let outcome = monitor.attack(role, row.attack, victim.pid());
            results.push(Result { row, role, outcome });
        }
    }
    drop(monitor);
    assert!(victim.lives(), "the attacks are harmless");
    assert_eq!(files, arena.files(), "the attacks leave nothing behind");
    results
}

/// The same behind filters that kill: a monitor for every attack, since even one that a filter allows may be the
/// thread's last act; several at once.
pub(crate) fn attack_filters(arena: &Arena, user: User, flags: &[String]) -> Vec<Result> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut victim = arena.victim(user);
    let (files, pid) = (arena.files(), victim.pid());
    let all_of = |role| {
        TABLE.iter().map(move |row| (row, role)).map(|(row, role)| {
            let mut monitor = Monitor::start(arena, user, &flags);
            let outcome = monitor.attack(role, row.attack, pid);
            Result { row, role, outcome }
        })
    };
    let results = std::thread::scope(|scope| {
        let all = Role::ALL.map(|role| scope.spawn(move || all_of(role).collect::<Vec<_>>()));
        let all = all.map(|one| one.join().unwrap());
        all.concat()
    });
    assert!(victim.lives(), "the attacks are harmless");
    assert_eq!(files, arena.files(), "the attacks leave nothing behind");
    results
}

/// Settings of a host by which it depends who may make an attack, the values that the table is for, and those attacks.
const SETTINGS: [(&str, &[&str], &[&str]); 7] = [
    (
        "kernel/perf_event_paranoid",
        &["2"],
        &["perf", "perf-kernel"],
    ),
    ("kernel/unprivileged_bpf_disabled", &["1", "2"], &["bpf"]),
    ("vm/unprivileged_userfaultfd", &["0"], &["userfaultfd"]),
    ("kernel/io_uring_disabled", &["0"], &["io-uring"]),
    ("kernel/dmesg_restrict", &["1"], &["syslog"]),
    (
        "kernel/yama/ptrace_scope",
        &["0"],
        &["ptrace", "read-memory", "pidfd-getfd"],
    ),
    (
        "kernel/unprivileged_userns_clone",
        &["1"],
        &["new-user-namespace"],
    ),
];

/// The attacks that tell something here: those that get through without a wall, on a host with the table's settings.
pub(crate) fn baseline(results: &[Result]) -> BTreeSet<&'static str> {
    let through = results.iter().filter(|result| !result.is_stopped());
    let mut through: BTreeSet<_> = through.map(|result| result.row.attack).collect();
    let attacks = TABLE.iter().filter(|row| row.without != Without::Everybody);
    for row in attacks.filter(|row| !through.contains(row.attack)) {
        skipped(
            row.attack,
            "nobody can do it on this host, with walls or without",
        );
    }
    for (file, values, attacks) in SETTINGS {
        let value = std::fs::read_to_string(format!("/proc/sys/{file}"));
        if value.is_ok_and(|value| !values.contains(&value.trim_end())) {
            attacks.iter().for_each(|attack| skipped(attack, file));
            through.retain(|attack| !attacks.contains(attack));
        }
    }
    let walls = [
        (
            has_write_or_run(),
            ["write-and-run", "make-code"].as_slice(),
        ),
        // In version 2 they have no time of their own for such processes.
        (has_cgroup_v1(), &["realtime"]),
    ];
    for (_, attacks) in walls.into_iter().filter(|(has, _)| !has) {
        attacks
            .iter()
            .for_each(|attack| skipped(attack, "this kernel lacks what stops it"));
        through.retain(|attack| !attacks.contains(attack));
    }
    through
}

fn skipped(attack: &str, why: &str) {
    eprintln!("SKIPPED {attack}: {why}");
}

fn has_cgroup_v1() -> bool {
    Path::new("/sys/fs/cgroup/cpu").exists()
}

/// Compares with what is expected of a row; an attack that nobody can make here is left out.
pub(crate) fn check(
    what: &str,
    results: &[Result],
    possible: &BTreeSet<&'static str>,
    expected: impl Fn(&Row) -> bool,
) {
    let wrong: Vec<_> = results
        .iter()
        .filter(|result| {
            let told = possible.contains(result.row.attack);
            let closed = result.row.without == Without::Everybody;
            (told || closed) && result.is_stopped() != (closed || expected(result.row))
        })
        .map(|result| {
            format!(
                "{} by {:?}: {:?}",
                result.row.attack, result.role, result.outcome
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}: not as the table says: {wrong:#?}"
    );
}
