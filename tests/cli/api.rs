//! `ravelin api`: what is wrong with a command line is said in a sentence.

use crate::fake::{Place, stderr, stdout};

#[test]
fn each_mistake_is_one_sentence_that_says_what_to_do() {
    let place = Place::new();
    for (line, message) in [
        ("--bogus", "unexpected argument '--bogus'"),
        ("--api-sok x", "a similar argument exists: '--api-sock'"),
        (
            "--sock-mode rw",
            "permissions in octal were expected, such as 0600 or 0660",
        ),
        ("--sock-mode 1777", "permissions in octal were expected"),
        (
            "--allow-uid root",
            "invalid value 'root' for '--allow-uid <UID>'",
        ),
        (
            "--payload-limit 0",
            "a size of at least a byte was expected",
        ),
        ("--mmds-limit much", "a size such as 100M"),
        ("--name a/b", "1 to 64 letters, digits"),
        ("--name .hidden", "no `.` as the first"),
        ("--listen-fd 3 --api-sock x", "cannot be used with"),
        ("--ready-fd 1", "name a descriptor from 3 on"),
        ("--ready-fd 77", "no descriptor with this number is open"),
        ("--listen-fd -3", "name a descriptor from 3 on"),
        ("--ready-fd x", "invalid value 'x' for '--ready-fd <N>'"),
    ] {
        let args: Vec<_> = ["api"].into_iter().chain(line.split(' ')).collect();
        let output = place.ravelin(&args);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(stderr(&output).contains(message), "{line}: {output:?}");
    }
}

#[test]
fn one_descriptor_has_one_use() {
    let place = Place::new();
    let script = format!(
        "exec 7>/dev/null; exec {} api --listen-fd 7 --ready-fd 7",
        crate::fake::RAVELIN
    );
    let mut command = std::process::Command::new("bash");
    let output = command
        .args(["-c", &script])
        .env("RAVELIN_RUNTIME_DIR", place.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("the descriptor 7 was named twice"),
        "{output:?}"
    );
}

#[test]
fn a_service_manager_that_is_not_there_is_named() {
    let place = Place::new();
    let mut command = place.command(&["api"]);
    let output = command
        .env("NOTIFY_SOCKET", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("NOTIFY_SOCKET"), "{output:?}");
}

#[test]
fn a_directory_for_running_vms_that_cannot_be_made_is_named() {
    let place = Place::new();
    let mut command = place.command(&["api"]);
    let output = command
        .env("RAVELIN_RUNTIME_DIR", "/proc/vms")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("the directory /proc/vms for running VMs"),
        "{output:?}"
    );
}

#[test]
fn help_teaches_with_curl_in_lines_of_100_columns() {
    let text = stdout(&Place::new().ravelin(&["api", "--help"]));
    for words in [
        "curl --unix-socket web.sock",
        "/machine-config",
        "InstanceStart",
        "/ravelin/events",
        "$XDG_RUNTIME_DIR/ravelin",
        "Signals:",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let short = stdout(&Place::new().ravelin(&["api", "-h"]));
    assert!(short.lines().count() < 60, "{short}");
}
