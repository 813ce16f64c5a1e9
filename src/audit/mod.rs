//! Which walls stand around a running monitor: the checks of `ravelin audit`.
//!
//! Each check is a function from text, bytes or numbers to a [`Finding`], with a thin reader around it. Which
//! walls there are and which must stand is one table ([`policy`]). **Absence of data is never green.** The
//! process is only looked at; to read its filters each thread stands still for a moment ([`filter`]).

mod cgroup;
mod descriptors;
mod filter;
mod identity;
mod memory;
mod namespaces;
mod policy;
mod proc;
mod report;
mod rlimits;
mod shared;
mod threads;

use std::io;
use std::path::PathBuf;

pub(crate) use self::policy::Policy;
use self::policy::{Section, Wall};
use self::proc::Process;
use self::report::Seen;
pub(crate) use self::report::{Finding, Report, Row, State, Subject, Verdict};
use self::threads::Depth;
pub(crate) use self::threads::Thread;

/// How often it is looked again at a process that has started a thread meanwhile.
const TRIES: u32 = 5;

/// Looks at the host, and at a process if one is named.
///
/// # Errors
/// When the process is gone, its threads cannot be listed, or it starts threads faster than they can be looked
/// at.
pub(crate) fn examine(target: Option<Subject>, policy: &Policy) -> io::Result<Report> {
    let mut seen = Seen::default();
    let mut files = Vec::new();
    if let Some(target) = &target {
        let process = Process::new(target.pid);
        seen = look_at(&process, policy)?;
        // Whose disks they are only the host's rows tell.
        if policy.shows(Section::Host) {
            files = descriptors::storage(&process, &seen.descriptors);
        }
    }
    if policy.shows(Section::Host) {
        seen.findings.extend(host(&files));
    }
    Ok(Report::new(target, seen, policy))
}

/// The numbers of a process's descriptors.
///
/// # Errors
/// When they cannot be listed: by who is not root, or because the process is gone.
pub(crate) fn descriptor_numbers(pid: u32) -> io::Result<Vec<u32>> {
    Process::new(pid).numbers("fd")
}

/// Looks until no thread is there that was not looked at: one that was missed could be the hole.
fn look_at(process: &Process, policy: &Policy) -> io::Result<Seen> {
    for _ in 0..TRIES {
        let seen = look_once(process, policy)?;
        let is_known = |tid: &u32| {
            seen.threads.iter().any(|known| known.tid == *tid) || threads::in_kernel(process, *tid)
        };
        if process.numbers("task")?.iter().all(is_known) {
            return Ok(seen);
        }
    }
    Err(io::Error::other(
        "it starts threads faster than they can be looked at",
    ))
}

/// Looks at what is to be shown, and at little else: a guest waits for the self-check.
fn look_once(process: &Process, policy: &Policy) -> io::Result<Seen> {
    let shows = |ids: fn(&Wall) -> bool| policy.shown().any(ids);
    let reads_filters = shows(|wall| wall.section == Section::Syscalls && wall.id != filter::WALL);
    let needs_status =
        |wall: &Wall| wall.section != Section::Holdings && wall.id != identity::ENVIRONMENT;
    let depth = match reads_filters {
        true => Depth::Kind,
        false if policy.tells_of_threads() || shows(needs_status) => Depth::Status,
        false => Depth::Number,
    };
    let mut threads = threads::read(process, depth)?;
    let mut findings = Vec::new();
    if policy.shows(Section::Identity) {
        findings.extend(identity::look(process, &threads));
    }
    if shows(|wall| wall.id == identity::LABEL) {
        findings.push((identity::LABEL, identity::look_at_label(process, &threads)));
    }
    if policy.shows(Section::Namespaces) {
        findings.extend(namespaces::look(process, &threads));
    }
    findings.push((filter::WALL, filter::look(&threads)));
    // No thread stands still for what nobody asked.
    if reads_filters {
        findings.extend(filter::read_back(process.number(), &mut threads));
    }
    let mut found = Ok(Vec::new());
    if policy.shows(Section::Holdings) || policy.shows(Section::Host) {
        found = descriptors::read(process, &threads);
        findings.push(("descriptors", descriptors::judge(&found)));
        findings.extend(memory::look(process));
    }
    // Every cgroup above counts.
    if shows(|wall| wall.id.starts_with("cgroup")) {
        findings.extend(cgroup::look(process, &threads));
    }
    if shows(|wall| wall.id.starts_with("rlimit")) {
        findings.extend(rlimits::look(process));
    }
    Ok(Seen {
        findings,
        threads,
        descriptors: found.unwrap_or_default(),
    })
}

fn host(files: &[PathBuf]) -> Vec<(&'static str, Finding)> {
    let known = |id: &str| policy::WALLS.iter().find(|wall| wall.id == id);
    vmm::host::harden(files)
        .into_iter()
        .filter_map(|row| Some((known(&row.id)?.id, row.finding.into())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wall_of_the_table_is_looked_at() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let target = Subject {
            name: None,
            pid: child.id(),
        };
        let report = examine(Some(target), &Policy::standard());
        child.kill().unwrap();
        child.wait().unwrap();
        let report = report.unwrap();
        for wall in &policy::WALLS {
            let rows = report.rows.iter().filter(|row| row.id == wall.id);
            assert_eq!(rows.count(), 1, "{}", wall.id);
        }
    }

    #[test]
    fn without_a_process_only_the_host_is_looked_at() {
        let report = examine(None, &Policy::standard()).unwrap();
        assert!(report.rows.iter().all(|row| row.section == Section::Host));
        assert_eq!(report.required_walls_stand, Verdict::Unknown);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let gone = Some(Subject {
            name: None,
            pid: u32::MAX,
        });
        assert!(examine(gone, &Policy::standard()).is_err());
    }
}
