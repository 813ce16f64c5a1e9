//! `ravelin doctor`: what this host offers to guests, as text or JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use vmm::host::{Level, Report, Row, Section, Verdict, examine};

use super::style::{Style, capitalised, indented};
use crate::failure::FAILED;

const AFTER_HELP: &str = "\
Rows are `ok`, `warning` (guests run, but slower, with fewer features or weaker isolation), `FAILING` or `unknown` \
(the host did not say). A row that is not ok says what to do. The verdict rests on the rows of the first two \
sections. The row `probe guest` runs one privileged instruction in a tiny guest, because only that shows whether \
this KVM can boot Linux.

Examples:
  ravelin doctor                                    look, and read what to do
  ravelin doctor --quiet && ravelin run --kernel K  act on the exit status alone
  ravelin doctor --json | jq '.rows[] | select(.level != \"ok\")'

Exit status: 0 guests can run here, 1 they cannot or it could not be found out, 2 wrong usage.";

/// Say whether this host can run guests, and how well
///
/// Looks at KVM, the rights of this user, what isolation the kernel offers, and the machine. Changes nothing.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Print one JSON object: {format, ravelin, can_run_guests: yes|no|unknown, summary, rows: [{id, title,
    /// section, required, level: ok|warning|failing|unknown, evidence, advice: text or null}]}
    #[arg(long)]
    json: bool,
    /// Print nothing: the exit status alone answers
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Looks, prints, and answers with the exit status.
#[inline(never)]
pub(crate) fn run(args: &Args) -> ExitCode {
    let report = examine();
    let text = if args.quiet {
        String::new()
    } else if args.json {
        json(&report)
    } else {
        text(&report, Style::of_stdout())
    };
    // Nobody reads any more (`ravelin doctor | head`): the exit status still answers.
    let _ = io::stdout().write_all(text.as_bytes());
    match report.can_run_guests {
        Verdict::Yes => ExitCode::SUCCESS,
        Verdict::No | Verdict::Unknown => ExitCode::from(FAILED),
    }
}

fn json(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("text, numbers and booleans only");
    text.push('\n');
    text
}

fn paint(style: Style, level: Level, text: &str) -> String {
    let code = match level {
        Level::Ok => "32",
        Level::Warning => "33",
        Level::Failing => "1;31",
        Level::Unknown => "35",
    };
    style.dress(code, text)
}

const SECTIONS: [(Section, &str); 5] = [
    (Section::Kvm, "KVM"),
    (Section::Capabilities, "KVM's capabilities"),
    (Section::Devices, "Devices"),
    (Section::Isolation, "Isolation"),
    (Section::Host, "Host"),
];

fn text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for (section, name) in SECTIONS {
        let rows = report.rows.iter().filter(|row| row.section == section);
        let title_width = rows.clone().map(|row| row.title.len()).max().unwrap_or(0);
        let _ = writeln!(out, "{}", style.bold(name));
        let mut rows = rows.peekable();
        while let Some(row) = rows.next() {
            write_row(&mut out, row, title_width, style);
            // Rows that share an advice show it once, below the last of them.
            let next = rows.peek().and_then(|next| next.finding.advice.as_deref());
            if let Some(advice) = row
                .finding
                .advice
                .as_deref()
                .filter(|own| next != Some(own))
            {
                write_advice(&mut out, advice, title_width, style);
            }
        }
        out.push('\n');
    }
    let level = match report.can_run_guests {
        Verdict::Yes => Level::Ok,
        Verdict::No => Level::Failing,
        Verdict::Unknown => Level::Unknown,
    };
    let summary = indented(&capitalised(&report.summary), 0, style.width);
    let _ = writeln!(out, "{}", paint(style, level, &summary));
    out
}

const LEVEL_WIDTH: usize = 7;

fn margin(title_width: usize) -> usize {
    2 + LEVEL_WIDTH + 2 + title_width + 2
}

fn write_row(out: &mut String, row: &Row, title_width: usize, style: Style) {
    let level = match row.finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Failing => "FAILING",
        Level::Unknown => "unknown",
    };
    let mark = paint(style, row.finding.level, &format!("{level:<LEVEL_WIDTH$}"));
    let evidence = indented(&row.finding.evidence, margin(title_width), style.width);
    let _ = writeln!(out, "  {mark}  {:<title_width$}  {evidence}", row.title);
}

fn write_advice(out: &mut String, advice: &str, title_width: usize, style: Style) {
    const ARROW: &str = "-> ";
    let margin = margin(title_width);
    let advice = indented(advice, margin + ARROW.len(), style.width);
    let _ = writeln!(out, "{:margin$}{ARROW}{advice}", "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm::host::Finding;

    fn report() -> Report {
        Report::new(vec![
            Row::required(Section::Kvm, "kvm-device", "device", Finding::ok("opens")),
            Row::new(Section::Kvm, "kvm-id", "id", Finding::ok("is 1")),
            Row::new(
                Section::Host,
                "swap",
                "swap",
                Finding::warning("one in use", "encrypt it"),
            ),
        ])
    }

    #[test]
    fn rows_are_aligned_and_advice_stands_below_them() {
        let text = text(&report(), Style::PLAIN);
        assert!(text.contains("  ok       device  opens\n"), "{text}");
        assert!(text.contains("  ok       id      is 1\n"), "{text}");
        let warning = "  warning  swap  one in use\n                 -> encrypt it\n";
        assert!(text.contains(warning), "{text}");
        assert!(
            text.ends_with("\nGuests can run here; one row has a remark.\n"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn colours_wrap_the_level_only() {
        let style = Style {
            colours: true,
            ..Style::PLAIN
        };
        let text = text(&report(), style);
        assert!(text.contains("  \x1b[33mwarning\x1b[0m  swap"), "{text}");
    }
}
