//! What ravelin says of itself: help, quiet, verbose, the log file, the name.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::guest::Guest;
use crate::process::{Piped, boot, kvm, run, stderr, stdout};
use crate::support::RAVELIN;

fn guest() -> Guest {
    Guest::default().say("hello\n").power_off()
}

#[test]
fn quiet_says_nothing() {
    if !kvm() {
        return;
    }
    let output = boot(&guest(), &["--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(stdout(&output), "hello\n");
}

#[test]
fn quiet_still_tells_errors() {
    let output = run(["--quiet", "--kernel", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent"), "{output:?}");
}

#[test]
fn without_a_terminal_there_is_one_line_and_no_progress_or_colour() {
    if !kvm() {
        return;
    }
    let output = boot(&guest(), &[]);
    assert_eq!(stderr(&output), "ravelin: the guest powered off\n");
}

#[test]
fn verbose_says_what_is_opened_and_built() {
    if !kvm() {
        return;
    }
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    let path = format!("{},ro,id=data", disk.path().display());
    let output = boot(
        &guest(),
        &["-v", "--disk", &path, "--mem", "64M", "--cpus", "2"],
    );
    let text = stderr(&output);
    for words in [
        "ravelin: info: kernel /",
        "ravelin: info: kernel parameters: ",
        "console=ttyS0",
        "ravelin: info: disk `data`: /",
        ", read-only",
        "64 MiB of memory, vCPUs: 2",
        "virtio device `data`: registers at 0xc0001000, interrupt 5",
        "virtio device `entropy`: registers at 0xc0002000, interrupt 6",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert!(!text.contains("debug"), "{text}");
}

#[test]
fn twice_verbose_says_when() {
    if !kvm() {
        return;
    }
    let text = stderr(&boot(&guest(), &["-vv"]));
    let line = text
        .lines()
        .find(|line| line.ends_with("the guest runs"))
        .unwrap();
    let seconds = line
        .strip_prefix("ravelin: ")
        .and_then(|rest| rest.strip_suffix(" s debug: the guest runs"))
        .unwrap_or_else(|| panic!("{line}"));
    assert!(seconds.parse::<f64>().unwrap() < 60.0, "{line}");
}

#[test]
fn a_log_file_holds_the_lines_in_place_of_stderr_with_the_time_of_day() {
    if !kvm() {
        return;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    fs::write(log.path(), "what was there stays\n").unwrap();
    let path = log.path().to_str().unwrap();
    let output = boot(&guest(), &["-v", "--log-file", path, "--name", "web-1"]);
    assert_eq!(stderr(&output), "ravelin web-1: the guest powered off\n");
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("what was there stays"));
    for line in lines {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert!(rest.starts_with("ravelin web-1: "), "{line}");
    }
    assert!(text.contains("ravelin web-1: info: kernel /"), "{text}");
    assert!(
        text.ends_with("ravelin web-1: the guest powered off\n"),
        "{text}"
    );
}

#[test]
fn an_error_stands_in_the_log_file_too() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().to_str().unwrap();
    run(["--log-file", path, "--kernel", "/nonexistent"]);
    let text = fs::read_to_string(path).unwrap();
    assert!(
        text.contains("kernel /nonexistent: the file does not exist"),
        "{text}"
    );
}

#[test]
fn a_name_stands_before_every_message() {
    let output = run(["--name", "web-1", "--kernel", "/nonexistent"]);
    assert!(
        stderr(&output).starts_with("ravelin web-1: kernel "),
        "{output:?}"
    );
}

#[test]
fn a_silent_guest_on_a_host_that_boots_no_linux_is_explained() {
    let doctor = Command::new(RAVELIN).args(["doctor", "--json"]).output();
    let report: Value = serde_json::from_slice(&doctor.unwrap().stdout).unwrap();
    if !kvm() || report["can_run_guests"] != "no" {
        eprintln!("SKIPPED: guests can run here");
        return;
    }
    let mut ravelin = Piped::boot(&Guest::default().halt(), &[]);
    let message = ravelin.message();
    assert!(
        message.starts_with("ravelin: the guest has said nothing so far: "),
        "{message}"
    );
    let summary = report["summary"].as_str().unwrap();
    let (_, sentence) = message.split_once("so far: ").unwrap();
    assert!(summary.ends_with(sentence), "{message}: {summary}");
}

#[test]
fn help_teaches_in_lines_of_100_columns() {
    let text = stdout(&run(["--help"]));
    for words in [
        "Examples:",
        "ravelin run --kernel vmlinux --root disk.ext4",
        "Exit status:",
        "Ctrl-A x",
        "Signals:",
        "engine=sync|uring",
        "ravelin doctor",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let short = stdout(&run(["-h"]));
    assert!(short.lines().count() < 60, "{short}");
}

#[test]
fn the_list_of_commands_has_a_line_for_each() {
    let output = Command::new(RAVELIN).arg("--help").output().unwrap();
    let text = stdout(&output);
    for command in [
        "run",
        "api",
        "ps",
        "ctl",
        "doctor",
        "completions",
        "firecracker",
    ] {
        let start = format!("  {command} ");
        let line = text.lines().find(|line| line.starts_with(&start));
        assert!(line.is_some_and(|line| line.len() > 20), "{text}");
    }
}
