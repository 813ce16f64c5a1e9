//! One container on the console: what a guest does that was booted with a description beside the agent.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::client::container;
use crate::guest;

/// What `ravelin run` has printed of it, and its status.
struct Run {
    text: String,
    status: i32,
}

fn run(spec: &Value) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("initrd");
    let mut bytes = fs::read(guest::file("agent.cpio")).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    for (name, mode, data) in [
        ("ravelin", 0o040_755, &b""[..]),
        (
            "ravelin/config.json",
            0o100_644,
            spec.to_string().as_bytes(),
        ),
        ("ravelin/files", 0o040_755, b""),
        ("ravelin/files/0", 0o100_640, b"a file\n"),
        ("TRAILER!!!", 0, b""),
    ] {
        bytes.extend(record(name, mode, data));
    }
    fs::write(&archive, bytes).unwrap();
    let disk = format!(
        "{},ro,serial=rootfs",
        guest::file("container.erofs").display()
    );
    let output = guest::command()
        .args([
            "run",
            "--quiet",
            "--cmdline",
            "quiet",
            "--mem",
            "256M",
            "--timeout",
            "3m",
        ])
        .arg("--kernel")
        .arg(guest::file("vmlinux-trimmed"))
        .arg("--initrd")
        .arg(&archive)
        .arg("--disk")
        .arg(disk)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Run {
        text,
        status: output.status.code().unwrap(),
    }
}

/// A header of thirteen hexadecimal fields, the name and the data, each padded to four bytes.
fn record(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "070701{:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{name}\0",
        0,
        0,
        0,
        1,
        0,
        data.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0
    )
    .into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(crate) fn what_it_prints_is_all_that_is_printed() {
    let mut spec = container("echo out; echo err >&2; cat /data; hostname; exit 7");
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "type": "bind", "source": "/ravelin/files/0", "options": ["ro"]}));
    let run = run(&spec);
    assert_eq!(run.status, 7);
    assert!(
        run.text.ends_with("out\r\nerr\r\na file\r\nbox\r\n"),
        "{:?}",
        run.text
    );
}

pub(crate) fn with_a_terminal_it_has_one_of_its_own() {
    let mut spec = container("tty; head -c 30000 /dev/zero | tr '\\0' x; echo; echo end");
    spec["process"]["terminal"] = true.into();
    let run = run(&spec);
    assert_eq!(run.status, 0);
    assert!(run.text.contains("/dev/pts/0\r\n"), "{:?}", run.text);
    assert_eq!(run.text.matches('x').count(), 30_000);
    assert!(run.text.ends_with("\r\nend\r\n"));
}

pub(crate) fn what_cannot_be_run_is_said_and_has_a_status() {
    let mut spec = container("");
    spec["process"]["args"] = json!(["/bin/nonsense"]);
    let gone = run(&spec);
    assert_eq!(gone.status, 127);
    assert!(
        gone.text.contains("cannot run /bin/nonsense"),
        "{}",
        gone.text
    );
    let mut spec = container("");
    spec["vm"] = json!({});
    let refused = run(&spec);
    assert_eq!(refused.status, 125);
    assert!(refused.text.contains("`vm`"), "{}", refused.text);
}
