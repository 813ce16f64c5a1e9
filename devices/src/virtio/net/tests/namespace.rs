//! Tests on real taps, each in a namespace of its own.
//!
//! A network namespace with its rights is had only by a process of one thread, so such a test runs itself
//! again, as `unshare ... THIS-BINARY TEST --exact`, and is what its second self is. Where the host allows
//! none of it, the test says so and counts for nothing.

use std::io;
use std::process::{Command, Output, Stdio};

/// Set in the second self.
const INSIDE: &str = "RAVELIN_TEST_INSIDE";

/// Runs `test` where it owns the network: as root without asking, as anyone else by a user namespace.
pub(super) fn in_own_network<F: FnOnce()>(test: F) {
    again(test, &[&["--user", "--map-root-user", "--net"], &["--net"]]);
}

/// Runs `test` where the network is another's.
pub(super) fn without_rights<F: FnOnce()>(test: F) {
    again(test, &[&["--user", "--map-root-user"]]);
}

fn again<F: FnOnce()>(test: F, ways: &[&[&str]]) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let (_, name) = name.split_once("::").unwrap();
    let this = std::env::current_exe().unwrap();
    let command = [this.to_str().unwrap(), name, "--exact", "--nocapture"];
    let can = |way: &&&[&str]| unshare(way, &["true"]).is_ok_and(|output| output.status.success());
    let has_driver = std::fs::File::open("/dev/net/tun").is_ok();
    match ways.iter().find(can).filter(|_| has_driver) {
        Some(way) => {
            let output = unshare(way, &command).unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("ok. 1 passed"), "in its namespace: {said}");
        }
        None => eprintln!("SKIPPED {name}: this host allows no namespace or has no /dev/net/tun"),
    }
}

fn unshare(way: &[&str], command: &[&str]) -> io::Result<Output> {
    Command::new("unshare")
        .args(way)
        .arg("--")
        .args(command)
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
}
