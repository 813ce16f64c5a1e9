//! The user guide keeps its word: its examples print what stands there, and it names every flag.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/examples.rs"]
mod examples;

use std::process::Command;

use examples::{examples, page, path_with_ravelin};

const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");

#[test]
fn the_examples_of_the_guide_print_what_stands_there() {
    let directory = tempfile::tempdir().unwrap();
    let pages = ["run.md", "audit.md", "vsock.md"].map(|name| examples(&page(name)));
    for page in &pages {
        assert!(page.len() >= 3, "{page:?}");
    }
    for example in pages.iter().flatten() {
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {}", example.command)])
            .current_dir(directory.path())
            .env("PATH", path_with_ravelin())
            .env("RAVELIN_RUNTIME_DIR", directory.path())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, example.prints, "$ {}", example.command);
    }
}

/// The flags in the help of a subcommand.
fn flags(subcommand: &[&str]) -> Vec<String> {
    let mut command = Command::new(RAVELIN);
    let output = command.args(subcommand).arg("--help").output();
    let help = String::from_utf8(output.unwrap().stdout).unwrap();
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")))
        .map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
        .map(str::to_owned)
        .collect()
}

fn names(page: &str, flag: &str) -> bool {
    page.contains(&format!("`{flag}")) || page.contains(&format!(" {flag}"))
}

#[test]
fn the_guide_names_every_flag_of_the_help() {
    let (guide, flags) = (page("run.md"), flags(&["run"]));
    assert!(flags.len() > 15, "{flags:?}");
    for flag in flags {
        assert!(names(&guide, &flag), "{flag}");
    }
}

#[test]
fn the_page_of_the_audit_names_every_flag_and_wall() {
    let page = page("audit.md");
    for flag in flags(&["audit"]) {
        assert!(names(&page, &flag), "{flag}");
    }
    let output = Command::new("sh")
        .args(["-c", "\"$0\" audit $$ --json; :", RAVELIN])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() > 40, "{report:#}");
    for row in rows {
        let star = if row["required"] == true { "\\*" } else { "" };
        let id = row["id"].as_str().unwrap();
        let named = page.contains(&format!("| `{id}`{star} |"));
        assert!(named, "{id}{star}");
    }
}

#[test]
fn the_page_of_vms_names_every_flag_of_their_commands() {
    let page = page("vms.md");
    let ctl = [
        "info", "start", "pause", "resume", "stop", "metrics", "config", "drive", "net", "events",
        "mmds",
    ];
    let ctl = ctl.map(|verb| vec!["ctl", verb]);
    for subcommand in [vec!["api"], vec!["ps"], vec!["ctl"], vec!["gc"]]
        .into_iter()
        .chain(ctl)
    {
        let flags = flags(&subcommand);
        assert!(!flags.is_empty(), "{subcommand:?}");
        for flag in flags {
            assert!(names(&page, &flag), "{subcommand:?} {flag}");
        }
        assert!(
            page.contains(&format!("`{}", subcommand.last().unwrap())),
            "{subcommand:?}"
        );
    }
}

#[test]
fn the_guide_names_every_exit_status_of_the_help() {
    let output = Command::new(RAVELIN).args(["run", "--help"]).output();
    let help = String::from_utf8(output.unwrap().stdout).unwrap();
    let (_, statuses) = help.split_once("Exit status:\n").unwrap();
    let guide = page("run.md");
    for line in statuses.lines().take_while(|line| !line.is_empty()) {
        let status = line.split_whitespace().next().unwrap();
        let row = format!("| {status}");
        assert!(guide.lines().any(|line| line.starts_with(&row)), "{line}");
    }
}
