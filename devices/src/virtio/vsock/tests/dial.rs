//! The line to whoever connects for a monitor in its jail.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use super::side::{Side, expect, from_guest, hear, packet, ports_of, say, send};
use crate::virtio::vsock::packet::{Ports, op};
use crate::virtio::vsock::{Dial, Operator};

/// Somebody outside who answers until the line is gone.
fn operate(mut operator: Operator) -> JoinHandle<()> {
    thread::spawn(move || {
        loop {
            let line = operator.line();
            poll(&mut [PollFd::new(&line, PollFlags::IN)], None).unwrap();
            if operator.answer().is_err() {
                return;
            }
        }
    })
}

fn over_a_line() -> (Side, JoinHandle<()>) {
    let side = Side::new();
    let (operator, line) = Operator::lay(side.path()).unwrap();
    (side.over(Dial::Line(line)), operate(operator))
}

#[test]
fn a_jailed_monitor_is_connected_by_somebody_outside() {
    let (side, operating) = over_a_line();
    let mut driver = side.driver();
    let listener = side.listen(53);
    for guest in 0..100 {
        let ports = Ports { host: 53, guest };
        let mut stream = from_guest(&mut driver, &listener, ports);
        say(&mut driver, ports, b"hello");
        assert_eq!(hear(&mut stream, 5), b"hello");
        send(&mut driver, packet(ports, op::RST), &[]);
    }
    drop((driver, side));
    operating.join().unwrap();
}

#[test]
fn a_port_that_nobody_serves_is_refused() {
    let (side, _operating) = over_a_line();
    let mut driver = side.driver();
    let ports = Ports { host: 9, guest: 7 };
    send(&mut driver, packet(ports, op::REQUEST), &[]);
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(ports_of(&header), ports);
}

#[test]
fn without_anybody_outside_every_call_is_refused() {
    let side = Side::new();
    let (operator, line) = Operator::lay(side.path()).unwrap();
    let side = side.over(Dial::Line(line));
    let mut driver = side.driver();
    drop(operator);
    for guest in 0..3 {
        let ports = Ports { host: 9, guest };
        send(&mut driver, packet(ports, op::REQUEST), &[]);
        expect(&mut driver, op::RST);
    }
}

#[test]
fn a_call_that_is_given_up_meanwhile_reaches_nobody() {
    let side = Side::new();
    let (mut operator, line) = Operator::lay(side.path()).unwrap();
    let side = side.over(Dial::Line(line));
    let mut driver = side.driver();
    let listener = side.listen(53);
    let ports = Ports { host: 53, guest: 1 };
    send(&mut driver, packet(ports, op::REQUEST), &[]);
    send(&mut driver, packet(ports, op::RST), &[]);
    operator.answer().unwrap();
    let mut stream = listener.accept().unwrap().0;
    assert!(super::hear_all(&mut stream).is_empty());
}

#[test]
fn an_operator_waits_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v.sock");
    let _never_accepts = std::os::unix::net::UnixListener::bind(directory.path().join("v.sock_1"));
    let (mut operator, line) = Operator::lay(path).unwrap();
    let line = Dial::Line(line);
    // More calls than the socket's backlog takes, whose answers nobody takes up.
    for ticket in 0..10_000 {
        let _ = line.call(ticket, 1);
        operator.answer().unwrap();
    }
    let answered = std::iter::from_fn(|| line.answer().unwrap()).count();
    assert!(answered > 64, "{answered}");
}

#[test]
fn an_operator_ends_with_nonsense() {
    let (mut operator, line) = Operator::lay(Path::new("v").to_owned()).unwrap();
    rustix::io::write(&line, b"hi").unwrap();
    assert!(operator.answer().is_err());
}

#[test]
fn a_guest_that_calls_too_often_is_let_wait() {
    let (mut operator, line) = Operator::lay(Path::new("nowhere").to_owned()).unwrap();
    let line = Dial::Line(line);
    let begun = Instant::now();
    let (mut calls, mut rests) = (0, 0);
    while rests < 3 {
        match operator.rest() {
            Some(_) => {
                rests += 1;
                while operator.rest().is_some() {
                    thread::yield_now();
                }
            }
            None => {
                assert!(line.call(calls, 1).is_none());
                operator.answer().unwrap();
                assert!(line.answer().unwrap().is_some());
                calls += 1;
            }
        }
    }
    let most = 64 * (1 + begun.elapsed().as_millis() / 20);
    assert!(
        u128::from(calls) <= most,
        "{calls}, and {most} were the most"
    );
}
