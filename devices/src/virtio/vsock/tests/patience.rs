//! Who does not answer within ten seconds: each test waits so long, and no processor does.

use super::hear_all;
use super::side::{Side, expect, packet, ports_of, send};
use crate::virtio::vsock::packet::{Ports, op};
use crate::virtio::vsock::{Dial, Operator};

#[test]
fn a_process_that_names_no_port_is_let_go() {
    let side = Side::new();
    let _driver = side.driver();
    let mut silent = side.come(b"");
    assert!(hear_all(&mut silent).is_empty());
}

#[test]
fn a_guest_that_does_not_accept_loses_the_call() {
    let side = Side::new();
    let mut driver = side.driver();
    let mut caller = side.come(b"CONNECT 5\n");
    let (request, _) = expect(&mut driver, op::REQUEST);
    assert!(hear_all(&mut caller).is_empty());
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(ports_of(&header), ports_of(&request));
}

#[test]
fn a_call_that_nobody_outside_connects_is_refused() {
    let side = Side::new();
    let (_silent, line) = Operator::lay(side.path()).unwrap();
    let side = side.over(Dial::Line(line));
    let mut driver = side.driver();
    let ports = Ports { host: 9, guest: 7 };
    send(&mut driver, packet(ports, op::REQUEST), &[]);
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(ports_of(&header), ports);
}
