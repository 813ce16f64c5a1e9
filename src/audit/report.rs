//! What an audit found: rows, what was seen of each thread and descriptor, and the sentence that sums them up.

use std::io;

use serde::Serialize;
use vmm::host;

use super::descriptors::Descriptor;
use super::policy::{Policy, Section, Wall};
use super::threads::Thread;

/// Whether a wall stands. **Never [`State::InForce`] on absence of data.**
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It stands, and the evidence shows it.
    InForce,
    /// It does not stand.
    Absent,
    /// From here, by this user, on this kernel it cannot be seen.
    NotTestable,
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether the wall stands.
    pub(crate) state: State,
    /// What was seen.
    pub(crate) evidence: String,
    /// What to do about it, where somebody can.
    pub(crate) advice: Option<String>,
}

impl Finding {
    /// The wall stands, and `evidence` shows it.
    pub(crate) fn in_force(evidence: impl Into<String>) -> Self {
        Self::new(State::InForce, evidence)
    }

    /// The wall does not stand.
    pub(crate) fn absent(evidence: impl Into<String>) -> Self {
        Self::new(State::Absent, evidence)
    }

    /// It cannot be seen from here.
    pub(crate) fn not_testable(evidence: impl Into<String>) -> Self {
        Self::new(State::NotTestable, evidence)
    }

    /// A file of `/proc` that could not be read, or a call that was refused.
    pub(crate) fn unreadable(what: &str, error: &io::Error) -> Self {
        let found = Self::not_testable(format!("{what}: {error}"));
        match error.kind() {
            io::ErrorKind::PermissionDenied => found.advised("audit as root"),
            _ => found,
        }
    }

    /// The kernel's file was read and does not say.
    pub(crate) fn silent(what: &str) -> Self {
        Self::not_testable(format!("this kernel does not tell {what}"))
    }

    /// The same with what to do about it.
    pub(crate) fn advised(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn new(state: State, evidence: impl Into<String>) -> Self {
        Self {
            state,
            evidence: evidence.into(),
            advice: None,
        }
    }
}

/// A check of the host: a warning is a wall that does not stand.
impl From<host::Finding> for Finding {
    fn from(found: host::Finding) -> Self {
        let state = match found.level {
            host::Level::Ok => State::InForce,
            host::Level::Warning | host::Level::Failing => State::Absent,
            host::Level::Unknown => State::NotTestable,
        };
        Self {
            state,
            evidence: found.evidence,
            advice: found.advice,
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// A name that stays the same from release to release.
    pub(crate) id: &'static str,
    /// A name for people.
    pub(crate) title: &'static str,
    /// Where the row stands.
    pub(crate) section: Section,
    /// Whether the verdict rests on it.
    pub(crate) required: bool,
    /// What was found.
    #[serde(flatten)]
    pub(crate) finding: Finding,
}

/// Whether the required walls stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// All of them.
    Yes,
    /// At least one does not.
    No,
    /// None is seen to be down, but at least one could not be looked at.
    Unknown,
}

/// The process that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Subject {
    /// Its VM's name, where it is known.
    pub(crate) name: Option<String>,
    /// Its number, as the caller sees it.
    pub(crate) pid: u32,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By the walls' ids.
    pub(crate) findings: Vec<(&'static str, Finding)>,
    /// Each thread.
    pub(crate) threads: Vec<Thread>,
    /// Each descriptor.
    pub(crate) descriptors: Vec<Descriptor>,
}

/// The whole audit.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The version of this shape: 1. Fields and rows may be added within a version.
    pub(crate) format: u32,
    /// The version of ravelin that looked.
    pub(crate) ravelin: &'static str,
    /// The process; none when only the host was looked at.
    pub(crate) target: Option<Subject>,
    /// Whether the required walls stand.
    pub(crate) required_walls_stand: Verdict,
    /// The verdict and its reason in one sentence.
    pub(crate) summary: String,
    /// Every row, in the order of the text form.
    pub(crate) rows: Vec<Row>,
    /// The process's threads.
    pub(crate) threads: Vec<Thread>,
    /// The process's descriptors.
    pub(crate) descriptors: Vec<Descriptor>,
}

impl Report {
    /// Judges what was seen by a policy.
    pub(crate) fn new(target: Option<Subject>, seen: Seen, policy: &Policy) -> Self {
        let rows: Vec<_> = policy
            .shown()
            .filter_map(|wall| row(wall, &seen, policy))
            .collect();
        let missing = policy
            .shown()
            .find(|wall| policy.requires(wall.id) && !rows.iter().any(|row| row.id == wall.id));
        let (required_walls_stand, summary) = judge(&rows, missing);
        Self {
            format: 1,
            ravelin: env!("CARGO_PKG_VERSION"),
            target,
            required_walls_stand,
            summary,
            rows,
            threads: seen.threads,
            descriptors: seen.descriptors,
        }
    }
}

fn row(wall: &Wall, seen: &Seen, policy: &Policy) -> Option<Row> {
    let (_, finding) = seen.findings.iter().find(|(id, _)| *id == wall.id)?;
    Some(Row {
        id: wall.id,
        title: wall.title,
        section: wall.section,
        required: policy.requires(wall.id),
        finding: finding.clone(),
    })
}

/// `missing` is a required wall that nothing was seen of.
fn judge(rows: &[Row], missing: Option<&Wall>) -> (Verdict, String) {
    let required: Vec<_> = rows.iter().filter(|row| row.required).collect();
    let named = |state| {
        let rows = required.iter().filter(|row| row.finding.state == state);
        rows.map(|row| row.id).collect::<Vec<_>>()
    };
    let (down, dark) = (named(State::Absent), named(State::NotTestable));
    if !down.is_empty() {
        let verb = if down.len() == 1 { "does" } else { "do" };
        let text = format!(
            "{} of {} required walls {verb} not stand: {}",
            down.len(),
            required.len(),
            down.join(", ")
        );
        (Verdict::No, text)
    } else if !dark.is_empty() {
        let text = format!("required and not testable here: {}", dark.join(", "));
        (Verdict::Unknown, text)
    } else if missing.is_some() {
        let text = "no VM runs here: only the host was looked at; name a process, or ask for the host with --only host";
        (Verdict::Unknown, text.to_owned())
    } else if required.is_empty() {
        let text = "nothing that was looked at is required";
        (Verdict::Yes, text.to_owned())
    } else {
        let text = match required.len() {
            1 => "the required wall stands".to_owned(),
            count => format!("all {count} required walls stand"),
        };
        (Verdict::Yes, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: &[(&'static str, Finding)], required: &[&str]) -> Report {
        let required: Vec<_> = required.iter().map(|&word| word.to_owned()).collect();
        let policy = Policy::standard()
            .only(&required)
            .and_then(|policy| policy.require(&required))
            .unwrap();
        let seen = Seen {
            findings: findings.to_vec(),
            ..Seen::default()
        };
        Report::new(None, seen, &policy)
    }

    #[test]
    fn a_wall_that_is_down_is_named() {
        let findings = [
            ("ns-net", Finding::absent("the host's")),
            ("ns-pid", Finding::in_force("own")),
        ];
        let report = report(&findings, &["ns-net", "ns-pid"]);
        assert_eq!(report.required_walls_stand, Verdict::No);
        let expected = "1 of 2 required walls does not stand: ns-net";
        assert_eq!(report.summary, expected);
    }

    #[test]
    fn a_wall_that_could_not_be_seen_is_not_green() {
        let findings = [("ns-net", Finding::not_testable("dark"))];
        let report = report(&findings, &["ns-net"]);
        assert_eq!(report.required_walls_stand, Verdict::Unknown);
        assert!(report.summary.ends_with("ns-net"), "{}", report.summary);
    }

    #[test]
    fn a_required_wall_without_a_row_is_not_green() {
        let report = report(&[], &["ns-net"]);
        assert_eq!(report.required_walls_stand, Verdict::Unknown);
    }

    #[test]
    fn all_required_walls_in_force_are_a_yes() {
        let report = report(&[("ns-net", Finding::in_force("own"))], &["ns-net"]);
        assert_eq!(report.required_walls_stand, Verdict::Yes);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["required_walls_stand"], "yes");
        assert_eq!(
            json["rows"][0],
            serde_json::json!({
                "id": "ns-net", "title": "network namespace", "section": "namespaces", "required": true,
                "state": "in-force", "evidence": "own", "advice": null,
            })
        );
    }
}
