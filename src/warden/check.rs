//! The look at the walls before the guest's first instruction, by the audit's own eyes.
//!
//! It is taken in three parts. What stands around the process as a whole, and every thread inherits, is looked at while the
//! monitor builds its machine; what the process holds, when everything is open and every thread there, while they put on
//! their filters; what each thread has for itself, when the guest is to run. A descriptor that came after its part has the
//! process looked at once more.

use rustix::process::{Pid, geteuid};

use super::rights::is_host_root;
use crate::audit::{Policy, Subject, Verdict, descriptor_numbers, examine};
use crate::jail::cell::{Wall, WallSet};
use crate::jail::label::Label;

/// What stands around every monitor in a cell.
const ALWAYS: [&str; 1] = ["dumpable"];

/// A part of the look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What the cell is made of, while the machine is being built.
    Cell,
    /// What it holds, when everything is open.
    Holdings,
    /// What its threads have, when all of them are confined.
    Threads,
}

/// What it holds, and only root can look at: the kernel shows it to nobody else once a process is not dumpable.
const SEEN_BY_ROOT: [&str; 2] = ["environment", DESCRIPTORS];
/// Of a monitor whose calls are watched they are more than a VM's.
const DESCRIPTORS: &str = "descriptors";
/// What is told by the monitor's being another user than root.
const TOLD_BY_USER: [&str; 3] = ["user-map", "group-map", "dumpable"];
/// What the audit calls what a wall is made of.
const WALLS: [(Part, Wall, &[&str]); 13] = [
    (Part::Cell, Wall::Root, &["ns-mount", "root"]),
    (Part::Cell, Wall::Pid, &["ns-pid"]),
    (Part::Cell, Wall::Net, &["ns-net"]),
    (
        Part::Cell,
        Wall::User,
        &["ns-user", "user-map", "group-map"],
    ),
    (Part::Cell, Wall::Ipc, &["ns-ipc"]),
    (Part::Cell, Wall::Uts, &["ns-uts"]),
    (Part::Cell, Wall::CgroupNamespace, &["ns-cgroup"]),
    (Part::Cell, Wall::Rlimits, &["rlimit-core", "rlimit-nofile"]),
    (Part::Threads, Wall::Capabilities, &["capabilities"]),
    (Part::Threads, Wall::NoNewPrivileges, &["no-new-privs"]),
    (Part::Holdings, Wall::Memory, &["memory"]),
    (Part::Threads, Wall::Rlimits, &["rlimit-as"]),
    (Part::Threads, Wall::Seccomp, &["seccomp"]),
];

/// What is to stand around a monitor.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) walls: WallSet,
    /// Whether its system calls are told and done.
    pub(super) is_watched: bool,
    /// What its exec was to give it.
    pub(super) label: Option<Label>,
}

/// What was looked at before the guest is to run.
#[derive(Debug, Default)]
pub(super) struct Look {
    cell: Option<Result<(), String>>,
    /// The descriptors that there were just before, and what was found.
    holdings: Option<(Vec<u32>, Result<(), String>)>,
}

impl Look {
    /// Looks at the cell, once.
    pub(super) fn at_cell(&mut self, monitor: Pid, expected: &Expected) {
        if self.cell.is_none() {
            self.cell = Some(stand(Part::Cell, monitor, expected));
        }
    }

    /// Looks at what the monitor holds.
    pub(super) fn at_holdings(&mut self, monitor: Pid, expected: &Expected) {
        let before = descriptors(monitor);
        self.holdings = Some((before, stand(Part::Holdings, monitor, expected)));
    }

    /// Looks at the rest, and says whether all walls stand.
    ///
    /// # Errors
    /// A sentence: which does not, as the audit says it.
    pub(super) fn stands(&mut self, monitor: Pid, expected: &Expected) -> Result<(), String> {
        self.at_cell(monitor, expected);
        let now = descriptors(monitor);
        let is_known = |(before, _): &(Vec<u32>, _)| now.iter().all(|fd| before.contains(fd));
        if !self.holdings.as_ref().is_some_and(is_known) {
            self.at_holdings(monitor, expected);
        }
        self.cell.take().transpose()?;
        self.holdings.take().map_or(Ok(()), |(_, found)| found)?;
        stand(Part::Threads, monitor, expected)
    }
}

/// The numbers of a monitor's descriptors; none where only root sees them.
fn descriptors(monitor: Pid) -> Vec<u32> {
    descriptor_numbers(number(monitor)).unwrap_or_default()
}

fn number(monitor: Pid) -> u32 {
    monitor.as_raw_nonzero().get().unsigned_abs()
}

/// Looks whether the walls of a part stand around the monitor, unless nobody is to look.
///
/// # Errors
/// A sentence: which does not, as the audit says it.
fn stand(part: Part, monitor: Pid, expected: &Expected) -> Result<(), String> {
    let (walls, is_watched) = (expected.walls, expected.is_watched);
    if !walls.has(Wall::Audit) {
        return Ok(());
    }
    if let (Part::Cell, Some(label)) = (part, &expected.label) {
        label.stands(monitor).map_err(|error| error.to_string())?;
    }
    let wanted = WALLS
        .iter()
        .filter(|(of, wall, _)| *of == part && walls.has(*wall));
    // Root of a user namespace maps its monitor to the one user that it has, which is root in its own eyes.
    let has_another = is_host_root() || !geteuid().is_root();
    let seen_by_root = SEEN_BY_ROOT
        .iter()
        .filter(|id| is_host_root() && !(is_watched && **id == DESCRIPTORS));
    let always = ALWAYS.iter().filter(|_| part == Part::Threads);
    let always = always.chain(seen_by_root.filter(|_| part == Part::Holdings));
    let ids = wanted.flat_map(|(_, _, ids)| ids.iter()).chain(always);
    let ids = ids.filter(|id| has_another || !TOLD_BY_USER.contains(id));
    let ids: Vec<String> = ids.map(|id| (*id).to_owned()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let policy = Policy::standard()
        .require(&ids)
        .and_then(|policy| policy.only(&ids))
        .map_err(|error| error.to_string())?
        .briefly();
    let subject = Subject {
        name: None,
        pid: number(monitor),
    };
    let report = examine(Some(subject), &policy);
    let report = report.map_err(|error| format!("the walls cannot be looked at: {error}"))?;
    match report.required_walls_stand {
        Verdict::Yes => Ok(()),
        _ => Err(format!(
            "the guest does not run, since a wall around its monitor does not stand: {}; relax it by its name with \
             --jail-without if this host cannot have it",
            report.summary
        )),
    }
}
