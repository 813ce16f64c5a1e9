//! What an examination found: rows, and the sentence that sums them up.

use serde::Serialize;

/// How a check ended. **Never [`Level::Ok`] on absence of data.**
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Guests run, but slower, with fewer features or with a weaker wall around them.
    Warning,
    /// Not as it must be.
    Failing,
    /// The host did not say.
    Unknown,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How the check ended.
    pub level: Level,
    /// What was seen.
    pub evidence: String,
    /// What to do about it; absent only where the level is [`Level::Ok`].
    pub advice: Option<String>,
}

impl Finding {
    /// All is well, and `evidence` shows it.
    pub fn ok(evidence: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            evidence: evidence.into(),
            advice: None,
        }
    }

    /// Guests run, but not as well as they could.
    pub fn warning(evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::advised(Level::Warning, evidence, advice)
    }

    /// Not as it must be.
    pub fn failing(evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::advised(Level::Failing, evidence, advice)
    }

    /// The host did not say.
    pub fn unknown(evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::advised(Level::Unknown, evidence, advice)
    }

    fn advised(level: Level, evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level,
            evidence: evidence.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Where a row stands in the text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// The hypervisor in the kernel.
    Kvm,
    /// What KVM must offer.
    Capabilities,
    /// What devices need.
    Devices,
    /// What a wall around the monitor's process is made of.
    Isolation,
    /// Processor, memory and kernel.
    Host,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// A name that stays the same from release to release.
    pub id: String,
    /// A name for people.
    pub title: String,
    /// Where the row stands.
    pub section: Section,
    /// Whether guests cannot run unless this row is [`Level::Ok`] or [`Level::Warning`].
    pub required: bool,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

impl Row {
    /// A row that makes guests better.
    pub fn new(section: Section, id: &str, title: &str, finding: Finding) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            section,
            required: false,
            finding,
        }
    }

    /// A row that guests cannot run without.
    pub fn required(section: Section, id: &str, title: &str, finding: Finding) -> Self {
        Self {
            required: true,
            ..Self::new(section, id, title, finding)
        }
    }
}

/// Whether guests can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every required row says so.
    Yes,
    /// A required row is failing.
    No,
    /// No required row is failing, but at least one is unknown.
    Unknown,
}

/// The whole examination.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this shape: 1. Fields and rows may be added within a version.
    pub format: u32,
    /// The version of ravelin that looked.
    pub ravelin: String,
    /// Whether guests can run.
    pub can_run_guests: Verdict,
    /// The verdict and its reason in one sentence.
    pub summary: String,
    /// Every check, in the order of the text form.
    pub rows: Vec<Row>,
}

impl Report {
    /// Sums up `rows`.
    pub fn new(rows: Vec<Row>) -> Self {
        let (can_run_guests, summary) = judge(&rows);
        Self {
            format: 1,
            ravelin: env!("CARGO_PKG_VERSION").to_owned(),
            can_run_guests,
            summary,
            rows,
        }
    }
}

/// The first required row that stands in the way: a failing one before an unknown one.
pub(super) fn obstacle(rows: &[Row]) -> Option<&Row> {
    let first = |level| {
        rows.iter()
            .find(|row| row.required && row.finding.level == level)
    };
    first(Level::Failing).or_else(|| first(Level::Unknown))
}

fn judge(rows: &[Row]) -> (Verdict, String) {
    let Some(row) = obstacle(rows) else {
        return (Verdict::Yes, praise(rows));
    };
    let because = sentence(&row.finding);
    match row.finding.level {
        Level::Failing => (Verdict::No, format!("guests cannot run here: {because}")),
        _ => (
            Verdict::Unknown,
            format!("it is not known whether guests can run here: {because}"),
        ),
    }
}

fn praise(rows: &[Row]) -> String {
    let remarks = rows
        .iter()
        .filter(|row| row.finding.level != Level::Ok)
        .count();
    match remarks {
        0 => "guests can run here".to_owned(),
        1 => "guests can run here; one row has a remark".to_owned(),
        n => format!("guests can run here; {n} rows have a remark"),
    }
}

/// Evidence and advice as one sentence.
pub(super) fn sentence(finding: &Finding) -> String {
    match &finding.advice {
        Some(advice) => format!("{}; {advice}", finding.evidence),
        None => finding.evidence.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(required: bool, finding: Finding) -> Row {
        Row {
            required,
            ..Row::new(Section::Host, "x", "x", finding)
        }
    }

    #[test]
    fn a_failing_row_that_is_not_required_does_not_stop_guests() {
        let report = Report::new(vec![
            row(true, Finding::ok("fine")),
            row(false, Finding::failing("bad", "mend it")),
        ]);
        assert_eq!(report.can_run_guests, Verdict::Yes);
        assert_eq!(report.summary, "guests can run here; one row has a remark");
    }

    #[test]
    fn a_failing_required_row_is_named_before_an_unknown_one() {
        let report = Report::new(vec![
            row(true, Finding::unknown("dark", "light a lamp")),
            row(true, Finding::failing("bad", "mend it")),
        ]);
        assert_eq!(report.can_run_guests, Verdict::No);
        assert_eq!(report.summary, "guests cannot run here: bad; mend it");
    }

    #[test]
    fn an_unknown_required_row_is_not_a_yes() {
        let report = Report::new(vec![row(true, Finding::unknown("dark", "light a lamp"))]);
        assert_eq!(report.can_run_guests, Verdict::Unknown);
    }

    #[test]
    fn the_json_shape_is_flat() {
        let report = Report::new(vec![row(true, Finding::warning("slow", "faster"))]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["format"], 1);
        assert_eq!(json["can_run_guests"], "yes");
        assert_eq!(
            json["rows"][0],
            serde_json::json!({
                "id": "x", "title": "x", "section": "host", "required": true,
                "level": "warning", "evidence": "slow", "advice": "faster",
            })
        );
    }
}
