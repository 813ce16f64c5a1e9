//! Called as Firecracker: its flags, messages and exit statuses.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::fake::{RAVELIN, stderr, stdout};

/// Firecracker's exit status for a wrong command line.
const ARGUMENTS: i32 = 153;
/// For a wrong configuration.
const CONFIGURATION: i32 = 152;

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn firecracker(line: &str) -> Output {
    let args: Vec<&str> = ["firecracker"]
        .into_iter()
        .chain(line.split_whitespace())
        .collect();
    run(Path::new(RAVELIN), &args)
}

/// Log lines without their times.
fn lines(output: &Output) -> Vec<String> {
    let untimed = |line: &str| match line.split_once(" [") {
        Some((time, rest)) if time.starts_with("20") => format!("[{rest}"),
        _ => line.to_owned(),
    };
    stdout(output).lines().map(untimed).collect()
}

#[test]
fn the_version_stands_alone_on_the_first_line() {
    let output = firecracker("--version");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        lines(&output),
        [
            "Firecracker v1.17.0-dev",
            "",
            "[anonymous-instance:main] Firecracker exiting successfully. exit_code=0",
        ]
    );
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_snapshot_version_is_printed() {
    let output = firecracker("--snapshot-version");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&output)[0], "v11.0.0");
}

#[test]
fn the_time_of_a_log_line_is_that_of_firecracker() {
    let output = stdout(&firecracker("--version"));
    let line = output.lines().last().unwrap();
    let (time, _) = line.split_once(' ').unwrap();
    let form: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(form, "0000-00-00T00:00:00.000000000");
}

#[test]
fn a_link_or_copy_with_that_name_is_firecracker() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("firecracker");
    symlink(RAVELIN, &program).unwrap();
    let linked = run(&program, &["--version"]);
    assert_eq!(lines(&linked)[0], "Firecracker v1.17.0-dev", "{linked:?}");
    fs::remove_file(&program).unwrap();
    // By another process: a child that a test beside this one starts would inherit the file open for writing,
    // and the kernel runs no such file.
    let copy = Command::new("cp").arg(RAVELIN).arg(&program).status();
    assert!(copy.unwrap().success());
    let copied = run(&program, &["--bogus"]);
    assert_eq!(copied.status.code(), Some(ARGUMENTS), "{copied:?}");
}

#[test]
fn under_another_name_it_is_ravelin() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("firecracker-ravelin");
    symlink(RAVELIN, &program).unwrap();
    let output = stdout(&run(&program, &["--version"]));
    assert!(output.starts_with("ravelin "), "{output}");
}

#[test]
fn the_help_names_every_flag_once() {
    let output = firecracker("--help");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let (version, help) = text.split_once("\n\noptional arguments:\n").unwrap();
    assert_eq!(version, "Firecracker v1.17.0-dev");
    for flag in [
        "api-sock",
        "boot-timer",
        "config-file",
        "describe-snapshot",
        "enable-pci",
        "http-api-max-payload-size",
        "id",
        "level",
        "log-path",
        "metadata",
        "metrics-path",
        "mmds-size-limit",
        "module",
        "no-api",
        "no-seccomp",
        "parent-cpu-time-us",
        "seccomp-filter",
        "show-level",
        "show-log-origin",
        "snapshot-version",
        "start-time-cpu-us",
        "start-time-us",
        "version",
        "help",
    ] {
        let start = format!("  --{flag} ");
        let found = help.lines().filter(|line| line.starts_with(&start));
        assert_eq!(found.count(), 1, "{flag}: {help}");
    }
}

#[test]
fn help_and_version_win_over_mistakes_before_and_after_them() {
    for line in [
        "--bogus --version",
        "--version --bogus",
        "--id --version --id",
    ] {
        let output = firecracker(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    }
    let behind = firecracker("--bogus -- --version");
    assert_eq!(behind.status.code(), Some(ARGUMENTS), "{behind:?}");
}

#[test]
fn each_mistake_has_its_message_and_exit_status() {
    let long = format!("--id {}", "a".repeat(65));
    for (line, message) in [
        (
            "--bogus",
            "Found argument 'bogus' which wasn't expected, or isn't valid in this context.",
        ),
        (
            "-h",
            "Found argument '-h' which wasn't expected, or isn't valid in this context.",
        ),
        (
            "web",
            "Found argument 'web' which wasn't expected, or isn't valid in this context.",
        ),
        (
            "--id=a",
            "Found argument 'id=a' which wasn't expected, or isn't valid in this context.",
        ),
        (
            "--no-api yes",
            "Found argument 'yes' which wasn't expected, or isn't valid in this context.",
        ),
        (
            "--api-sock",
            "The argument 'api-sock' requires a value, but none was supplied.",
        ),
        (
            "--api-sock --id a",
            "The argument 'api-sock' requires a value, but none was supplied.",
        ),
        (
            "--id a --id a",
            "The argument 'id' was provided more than once.",
        ),
        (
            "--no-api",
            "Argument 'config-file' required, but not found.",
        ),
        (
            "--no-seccomp --seccomp-filter f",
            "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.",
        ),
        (
            "--id a_b",
            "The argument 'id' has the value 'a_b': invalid char (_) at position 1.",
        ),
        (
            &long,
            "invalid len (65);  the length must be between 1 and 64.",
        ),
        (
            "--mmds-size-limit 1k",
            "The argument 'mmds-size-limit' has the value '1k': a number was expected.",
        ),
        (
            "--start-time-us -1",
            "The argument 'start-time-us' has the value '-1': a number was expected.",
        ),
    ] {
        let output = firecracker(line);
        assert_eq!(output.status.code(), Some(ARGUMENTS), "{line}: {output:?}");
        let log = lines(&output);
        let first = "[anonymous-instance:main] Arguments parsing error: ";
        assert!(
            log[0].starts_with(first) && log[0].contains(message),
            "{line}: {log:?}"
        );
        assert_eq!(log[2], "For more information try --help.", "{log:?}");
        assert_eq!(
            log[3],
            "[anonymous-instance:main] Firecracker exiting with error. exit_code=153"
        );
        assert!(stderr(&output).starts_with("Error: "), "{output:?}");
        assert!(stderr(&output).contains(message), "{output:?}");
    }
}

#[test]
fn a_wrong_level_is_a_wrong_configuration() {
    let output = firecracker("--level loud");
    assert_eq!(output.status.code(), Some(CONFIGURATION), "{output:?}");
    assert!(
        lines(&output)[0].ends_with(
            "Invalid value for logger level: Failed to parse string to level filter: loud.Possible values: \
             [Error, Warning, Info, Debug]"
        ),
        "{output:?}"
    );
}

#[test]
fn keys_that_firecracker_passes_over_are_passed_over_and_said_where_they_have_a_value() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vm");
    let boot = r#""boot-source": {"kernel_image_path": "/nonexistent"}"#;
    fs::write(
        &file,
        format!(r#"{{"balloon_device": null, "drive": [], {boot}}}"#),
    )
    .unwrap();
    let output = firecracker(&format!("--no-api --config-file {}", file.display()));
    // What is wrong comes after them.
    assert_eq!(output.status.code(), Some(CONFIGURATION), "{output:?}");
    assert!(stderr(&output).contains("/nonexistent"), "{output:?}");
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(
        log.contains("key `drive` means nothing and is passed over; did you mean `drives`?"),
        "{log}"
    );
    assert!(!log.contains("balloon_device"), "{log}");
}

#[test]
fn a_key_that_only_ravelins_file_has_is_refused_and_the_socket_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (directory.path().join("vm"), directory.path().join("api"));
    let drive =
        r#"{"drive_id": "a", "is_root_device": false, "path_on_host": "/x", "serial": "S"}"#;
    let boot = r#""boot-source": {"kernel_image_path": "/x"}"#;
    fs::write(&file, format!(r#"{{{boot}, "drives": [{drive}]}}"#)).unwrap();
    let line = format!(
        "--config-file {} --api-sock {}",
        file.display(),
        socket.display()
    );
    let output = firecracker(&line);
    assert_eq!(output.status.code(), Some(CONFIGURATION), "{output:?}");
    assert!(
        stderr(&output).contains("unknown field `serial`"),
        "{output:?}"
    );
    assert!(!socket.exists());
}

#[test]
fn filters_of_ones_own_are_refused_and_not_dropped() {
    let output = firecracker("--seccomp-filter filter.bpf");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("Seccomp error: the filter filter.bpf"),
        "{output:?}"
    );
}

#[test]
fn a_state_file_tells_its_version() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let header = [
        &[0; 8][..],
        &6_u64.to_le_bytes(),
        b"11.0.0 and what follows",
    ]
    .concat();
    fs::write(file.path(), header).unwrap();
    let path = file.path().to_str().unwrap();
    let output = firecracker(&format!("--describe-snapshot {path}"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(lines(&output)[0], "v11.0.0");
}

#[test]
fn a_state_file_that_is_none_is_refused() {
    for (path, message) in [
        (
            "/nonexistent",
            "Unable to open snapshot state file: No such file or directory",
        ),
        (
            "/dev/null",
            "Invalid data format version of snapshot file: ",
        ),
        (
            "/dev/zero",
            "Invalid data format version of snapshot file: ",
        ),
    ] {
        let output = firecracker(&format!("--describe-snapshot {path}"));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let start = format!("When printing Snapshot Data format: {message}");
        assert!(lines(&output)[0].contains(&start), "{output:?}");
    }
}

#[test]
fn an_argument_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(RAVELIN)
        .arg("firecracker")
        .arg(std::ffi::OsStr::from_bytes(b"--\xff"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(ARGUMENTS), "{output:?}");
}
