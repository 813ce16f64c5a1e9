//! `ravelin completions`: scripts that the shells accept.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::fake::{Place, stdout};

fn script(shell: &str) -> String {
    let output = Place::new().ravelin(&["completions", shell]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    stdout(&output)
}

#[test]
fn every_shell_has_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell);
        for word in [
            "run",
            "api",
            "ps",
            "ctl",
            "doctor",
            "audit",
            "completions",
            "firecracker",
            "pause",
            "api-sock",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn bash_completes_a_subcommand_of_ctl() {
    let test = "COMP_WORDS=(ravelin ctl web pau) COMP_CWORD=3; _ravelin ravelin pau web; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("{}\n{test}\n", script("bash"));
    bash.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "pause\n", "{output:?}");
}
