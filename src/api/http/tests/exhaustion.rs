//! A process without a descriptor left.

use std::fs::File;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// Says to the test that it is its own process, whose descriptors are no other test's.
const ALONE: &str = "RAVELIN_TEST_ALONE";

#[test]
fn without_descriptors_clients_wait_and_are_served_later() {
    if std::env::var_os(ALONE).is_some() {
        return serve_without_descriptors();
    }
    let name =
        "api::http::tests::exhaustion::without_descriptors_clients_wait_and_are_served_later";
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", name]).env(ALONE, "1");
    let output = test.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "{text}");
}

fn serve_without_descriptors() {
    let server = start(Limits::default(), None);
    let mut first = server.client();
    assert_eq!(first.get("/nothing").status(), "204");
    let limit = Rlimit {
        current: Some(64),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.pop();
    // It takes the last descriptor, and none is left for the server's side of it.
    let mut second = server.client();
    second.send("GET /a HTTP/1.1\r\n\r\n");
    for _ in 0..10 {
        assert_eq!(first.get("/nothing").status(), "204");
    }
    second.stream.set_nonblocking(true).unwrap();
    let nothing = second.stream.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    second.stream.set_nonblocking(false).unwrap();
    drop(files);
    assert_eq!(second.reply().body, "Get /a ");
}
