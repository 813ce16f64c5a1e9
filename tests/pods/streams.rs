//! Standard streams: nothing lost, ends passed on, terminals.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::engine::{Engine, text};

crate::tests![
    twenty_megabytes_arrive_whole,
    the_two_outputs_are_apart,
    input_is_read_to_its_end,
    a_terminal_is_one_and_has_its_users_size,
];

fn twenty_megabytes_arrive_whole() {
    let engine = Engine::new();
    // 20 MB that no two lines of are alike, and their digest by the same program.
    let script = "seq 1 2700000 | tee /tmp/all; sha256sum /tmp/all >&2";
    let output = engine.run(
        &["--memory-limit", "268435456"],
        "much",
        &["sh", "-c", script],
    );
    assert!(
        output.status.success(),
        "{:?}\n{}",
        output.status,
        engine.log()
    );
    assert!(output.stdout.len() > 20_000_000, "{}", output.stdout.len());
    let mut sum = std::process::Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sum.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    let here = sum.wait_with_output().unwrap();
    let (here, there) = (
        text(&here),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(here.split(' ').next(), there.split(' ').next(), "{there}");
}

fn the_two_outputs_are_apart() {
    let engine = Engine::new();
    let output = engine.run(&[], "two", &["sh", "-c", "echo out; echo error >&2"]);
    assert_eq!(
        (text(&output).as_str(), output.stderr.as_slice()),
        ("out\n", b"error\n".as_slice()),
        "{}",
        engine.log()
    );
}

fn input_is_read_to_its_end() {
    let engine = Engine::new();
    let words = Engine::words(
        &["run", "--rm"],
        &[],
        "reader",
        &["sh", "-c", "cat; echo end"],
    );
    let mut child = engine
        .command(&words)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // ctr forgets to say that its input has ended where that is before the task is there.
    engine.await_state("reader", "RUNNING");
    let mut input = child.stdin.take().unwrap();
    for number in 0..1000 {
        writeln!(input, "line {number}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert!(
        said.starts_with("line 0\n") && said.ends_with("line 999\nend\n"),
        "{output:?}\n{}",
        engine.log()
    );
    assert_eq!(said.lines().count(), 1001);
}

fn a_terminal_is_one_and_has_its_users_size() {
    let engine = Engine::new();
    let pty =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
            .unwrap();
    rustix::pty::grantpt(&pty).unwrap();
    rustix::pty::unlockpt(&pty).unwrap();
    let size = rustix::termios::Winsize {
        ws_row: 33,
        ws_col: 111,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&pty, size).unwrap();
    let name = rustix::pty::ptsname(&pty, Vec::new()).unwrap();
    let user = || {
        Stdio::from(
            rustix::fs::open(
                name.as_c_str(),
                rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
                rustix::fs::Mode::empty(),
            )
            .unwrap(),
        )
    };
    // ctr says the size once the command runs.
    let script = "tty; while [ \"$(stty size)\" != '33 111' ]; do sleep 0.1; done; stty size; read line; echo got $line";
    let words = Engine::words(
        &["run", "--rm", "-t"],
        &[],
        "terminal",
        &["sh", "-c", script],
    );
    let mut child = engine
        .command(&words)
        .stdin(user())
        .stdout(user())
        .stderr(user())
        .spawn()
        .unwrap();
    let mut file = std::fs::File::from(pty);
    let mut said = String::new();
    let mut piece = [0; 1024];
    while !said.contains("got ") {
        let taken = file.read(&mut piece).unwrap();
        let before = said.contains("33 111");
        said.push_str(&String::from_utf8_lossy(&piece[..taken]));
        if !before && said.contains("33 111") {
            file.write_all(b"hello\n").unwrap();
        }
    }
    assert!(child.wait().unwrap().success(), "{said}\n{}", engine.log());
    assert!(
        said.contains("/dev/") && said.contains("got hello"),
        "{said}"
    );
}
