//! `ravelin audit`: which walls stand around a running monitor, as text or JSON.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::print;
use super::style::{Style, capitalised, indented, plain};
use crate::audit::{Policy, Report, Row, State, Subject, Thread, Verdict, examine};
use crate::failure::{FAILED, Failure};
use crate::registry::{Registry, process};

const AFTER_HELP: &str = "\
Rows are `in force`, `ABSENT` or `not testable` (from here, by this user, on this kernel), each with its evidence. A \
star marks a wall that must stand. The process is only looked at; to read its seccomp filters, each of its threads \
stands still for less than a millisecond, half a second at most. Run it as root, outside containers: others may not \
see enough. Only the walls around the monitor are looked at, not the guest.

Sections, which --only and --require take as well as ids: identity, namespaces, syscalls, holdings, limits, host.

Examples:
  ravelin audit                                   the one VM that runs
  ravelin audit web                               a VM by its name
  ravelin audit 4711                              any process, such as one behind Firecracker's jailer
  ravelin audit web --require namespaces,seccomp  act on these walls alone
  ravelin audit --only host                       what to do about the host
  ravelin audit web --json | jq '.threads[] | {name, syscalls}'

Exit status: 0 all required walls stand, 1 one does not or could not be looked at, 2 wrong usage.";

/// Say which walls stand around a running VM's process
///
/// Looks at every thread, its namespaces, capabilities and filters, at what the process holds and how much it
/// may use, and at the host.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A VM's name as `ravelin ps` shows it, or a process; the VM that runs if there is one
    #[arg(value_name = "NAME|PID")]
    target: Option<String>,
    /// Require these walls and no others: ids or sections, separated by commas
    #[arg(long, value_name = "WALL", value_delimiter = ',')]
    require: Option<Vec<String>>,
    /// Look at these walls and no others: ids or sections, separated by commas
    #[arg(long, value_name = "WALL", value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// Print one JSON object: {format, ravelin, target: {name, pid} or null, required_walls_stand:
    /// yes|no|unknown, summary, rows: [{id, title, section, required, state: in-force|absent|not-testable,
    /// evidence, advice: text or null}], threads: [...], descriptors: [...]}
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("{0} VMs run: name one of {1}")]
    Several(usize, String),
    #[error("{0}; a process has no such number either: name a VM of `ravelin ps`, or a process")]
    Nobody(String),
    #[error("process {0} ended while it was looked at")]
    Ended(u32),
    #[error("process {0} cannot be looked at")]
    Hidden(u32, #[source] std::io::Error),
}

/// Looks, prints, and answers with the exit status.
///
/// # Errors
/// When there is no such process, several could be meant, or a wall is not known.
#[inline(never)]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let policy = policy(args)?;
    let target = match policy.needs_a_process() || args.target.is_some() {
        true => target(args.target.as_deref())?,
        false => None,
    };
    let report = look(target, &policy)?;
    print(&match args.json {
        true => json(&report),
        false => text(&report, Style::of_stdout()),
    });
    Ok(match report.required_walls_stand {
        Verdict::Yes => ExitCode::SUCCESS,
        Verdict::No | Verdict::Unknown => ExitCode::from(FAILED),
    })
}

fn policy(args: &Args) -> Result<Policy, Failure> {
    let mut policy = Policy::standard();
    if let Some(words) = &args.require {
        policy = policy.require(words).map_err(Failure::usage)?;
    }
    if let Some(words) = &args.only {
        policy = policy.only(words).map_err(Failure::usage)?;
    }
    Ok(policy)
}

/// The process that was named; the one VM that runs when none was.
fn target(named: Option<&str>) -> Result<Option<Subject>, Failure> {
    let vms = Registry::of_this_user().list().map_err(Failure::run)?;
    let subject = |vm: &crate::registry::Vm| Subject {
        name: Some(vm.name.clone()),
        pid: vm.pid,
    };
    let Some(named) = named else {
        return match vms.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(subject(only))),
            several => {
                let names: Vec<_> = several.iter().map(|vm| vm.name.as_str()).collect();
                let error = AuditError::Several(several.len(), names.join(", "));
                Err(Failure::usage(error))
            }
        };
    };
    let pid = named.parse::<u32>().ok();
    let vm = vms.iter().find(|vm| vm.name == named);
    // A process of a VM has its name, however it was asked for.
    if let Some(vm) = vm.or_else(|| vms.iter().find(|vm| Some(vm.pid) == pid)) {
        return Ok(Some(subject(vm)));
    }
    match pid.filter(|pid| process::start_time(*pid).is_some()) {
        Some(pid) => Ok(Some(Subject { name: None, pid })),
        None => {
            let missing = Registry::of_this_user().find(named).err();
            let missing = missing.map(|error| error.to_string()).unwrap_or_default();
            Err(Failure::run(AuditError::Nobody(missing)))
        }
    }
}

/// Looks, and makes sure that the number meant one process from the first look to the last.
fn look(target: Option<Subject>, policy: &Policy) -> Result<Report, Failure> {
    let pid = target.as_ref().map(|target| target.pid);
    let start = pid.map(process::start_time);
    let report = examine(target, policy);
    match (pid, start) {
        (Some(pid), Some(start)) if start.is_none() || process::start_time(pid) != start => {
            Err(Failure::run(AuditError::Ended(pid)))
        }
        _ => {
            report.map_err(|error| Failure::run(AuditError::Hidden(pid.unwrap_or_default(), error)))
        }
    }
}

fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("text, numbers and booleans only");
    text.push('\n');
    text
}

const STATE_WIDTH: usize = "not testable".len();

/// The sections' words and what they are called.
const SECTIONS: [(&str, &str); 6] = [
    ("identity", "Identity"),
    ("namespaces", "Namespaces and files"),
    ("syscalls", "System calls"),
    ("holdings", "What it holds"),
    ("limits", "Limits"),
    ("host", "Host"),
];

fn text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    if let Some(target) = &report.target {
        let name = target.name.as_deref().unwrap_or("a process");
        let threads = match report.threads.len() {
            1 => "1 thread".to_owned(),
            count => format!("{count} threads"),
        };
        let line = format!("{name} (process {}, {threads})", target.pid);
        let _ = writeln!(out, "{}\n", style.bold(&line));
    }
    let width = report.rows.iter().map(|row| row.title.len()).max();
    let width = width.unwrap_or(0);
    for (word, name) in SECTIONS {
        let rows = report.rows.iter().filter(|row| row.section.word() == word);
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            continue;
        }
        let _ = writeln!(out, "{}", style.bold(name));
        for row in rows {
            write_row(&mut out, row, width, style);
        }
        if word == "syscalls" {
            write_lists(&mut out, &report.threads, style);
        }
        out.push('\n');
    }
    let state = match report.required_walls_stand {
        Verdict::Yes => State::InForce,
        Verdict::No => State::Absent,
        Verdict::Unknown => State::NotTestable,
    };
    let summary = indented(&capitalised(&report.summary), 0, style.width);
    let _ = writeln!(out, "{}", paint(style, state, &summary));
    out
}

fn paint(style: Style, state: State, text: &str) -> String {
    let code = match state {
        State::InForce => "32",
        State::Absent => "1;31",
        State::NotTestable => "35",
    };
    style.dress(code, text)
}

fn write_row(out: &mut String, row: &Row, title_width: usize, style: Style) {
    const ARROW: &str = "-> ";
    let margin = 2 + STATE_WIDTH + 2 + title_width + 3;
    let state = match row.finding.state {
        State::InForce => "in force",
        State::Absent => "ABSENT",
        State::NotTestable => "not testable",
    };
    let state = paint(style, row.finding.state, &format!("{state:<STATE_WIDTH$}"));
    let star = if row.required { '*' } else { ' ' };
    let evidence = indented(&plain(&row.finding.evidence), margin, style.width);
    let _ = writeln!(
        out,
        "  {state}  {:<title_width$}{star}  {evidence}",
        row.title
    );
    if let Some(advice) = &row.finding.advice {
        let advice = indented(&plain(advice), margin + ARROW.len(), style.width);
        let _ = writeln!(out, "{:margin$}{ARROW}{advice}", "");
    }
}

/// What the threads may call, those with the same list together.
fn write_lists(out: &mut String, threads: &[Thread], style: Style) {
    const MARGIN: usize = 4;
    let mut lists: Vec<(String, Vec<&str>)> = Vec::new();
    for thread in threads {
        let Some(calls) = &thread.syscalls else {
            continue;
        };
        let by_argument = calls.by_argument.iter().map(|call| format!("{call}(...)"));
        let named: Vec<_> = calls.allowed.iter().cloned().chain(by_argument).collect();
        let list = format!(
            "{} calls, the rest: {}: {}",
            calls.count,
            calls.rest.join(" or "),
            named.join(" ")
        );
        match lists.iter_mut().find(|(known, _)| *known == list) {
            Some((_, names)) => names.push(&thread.name),
            None => lists.push((list, vec![&thread.name])),
        }
    }
    for (list, names) in lists {
        let line = format!("{}: {list}", plain(&names.join(", ")));
        let _ = writeln!(out, "  {}", indented(&line, MARGIN, style.width));
    }
}
