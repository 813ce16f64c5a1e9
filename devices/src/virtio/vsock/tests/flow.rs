//! Data in quantity, and what holds it back.

use std::io::{Read, Write};
use std::thread;

use super::side::{PAGE, RX, Side, expect, from_host, hear, next, packet, post, say, send};
use crate::virtio::contract::Dice;
use crate::virtio::vsock::packet::{Header, NO_SEND, op};

const MB: usize = 1 << 20;

fn data(len: usize) -> Vec<u8> {
    let mut dice = Dice::new(77);
    let words = (0..len.div_ceil(8)).flat_map(|_| dice.roll().to_le_bytes());
    words.take(len).collect()
}

#[test]
fn megabytes_reach_the_guest_as_they_were() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    let sent = data(8 * MB);
    let copy = sent.clone();
    let writer = thread::spawn(move || stream.write_all(&copy).map(|()| stream));
    let (mut got, mut told) = (Vec::new(), 0);
    post(&mut driver, 200);
    while got.len() < sent.len() {
        let (header, bytes) = next(&mut driver);
        let is_asked = header.op == op::CREDIT_REQUEST;
        assert!(is_asked || header.op == op::RW);
        got.extend(bytes);
        post(&mut driver, 1);
        // What it has read it says a quarter of its buffer at a time, and when it is asked.
        if is_asked || got.len() - told > 256 << 10 {
            told = got.len();
            let fwd_cnt = u32::try_from(told).unwrap();
            let update = packet(ports, op::CREDIT_UPDATE);
            send(&mut driver, Header { fwd_cnt, ..update }, &[]);
        }
    }
    assert!(got == sent, "not the bytes that were sent");
    writer.join().unwrap().unwrap();
}

#[test]
fn megabytes_reach_a_slow_host_as_they_were() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    let sent = data(4 * MB);
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        let mut part = [0; 7000];
        loop {
            match stream.read(&mut part).unwrap() {
                0 => return got,
                n => got.extend_from_slice(&part[..n]),
            }
            thread::yield_now();
        }
    });
    let (mut window, mut taken, mut at) = (0, 0, 0);
    while at < sent.len() {
        // The guest asks how much it may send, and sends no more.
        send(&mut driver, packet(ports, op::CREDIT_REQUEST), &[]);
        post(&mut driver, 1);
        let (header, _) = next(&mut driver);
        assert_eq!(header.op, op::CREDIT_UPDATE);
        (window, taken) = (header.buf_alloc, header.fwd_cnt);
        let waiting = at - usize::try_from(taken).unwrap();
        let room = usize::try_from(window).unwrap() - waiting;
        let part = room.min(60_000).min(sent.len() - at);
        if part > 0 {
            say(&mut driver, ports, &sent[at..at + part]);
            at += part;
        }
    }
    assert!(window > 0 && taken > 0);
    let last = packet(ports, op::SHUTDOWN);
    let flags = NO_SEND.into();
    send(&mut driver, Header { flags, ..last }, &[]);
    assert!(
        reader.join().unwrap() == sent,
        "not the bytes that were sent"
    );
}

#[test]
fn a_guest_that_leaves_is_heard_to_its_end() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    // More than the socket takes: the rest waits here.
    let sent = data(300_000);
    for part in sent.chunks(60_000) {
        say(&mut driver, ports, part);
    }
    let flags = 3;
    let last = packet(ports, op::SHUTDOWN);
    send(&mut driver, Header { flags, ..last }, &[]);
    post(&mut driver, 8);
    while next(&mut driver).0.op != op::RST {}
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} of {}", got.len(), sent.len());
}

#[test]
fn a_guest_gets_no_more_than_it_has_room_for() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    let update = packet(ports, op::CREDIT_UPDATE);
    let buf_alloc = 5000;
    send(
        &mut driver,
        Header {
            buf_alloc,
            ..update
        },
        &[],
    );
    stream.write_all(&data(20_000)).unwrap();
    post(&mut driver, 16);
    let mut got = next(&mut driver).1;
    got.extend(next(&mut driver).1);
    assert_eq!(got.len(), 5000);
    // Then the device asks, and goes on when it is told.
    assert_eq!(next(&mut driver).0.op, op::CREDIT_REQUEST);
    let fwd_cnt = 5000;
    send(
        &mut driver,
        Header {
            buf_alloc,
            fwd_cnt,
            ..update
        },
        &[],
    );
    got.extend(next(&mut driver).1);
    got.extend(next(&mut driver).1);
    assert!(got == data(10_000));
}

#[test]
fn a_guest_learns_what_was_taken_without_asking() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    let part = data(64_000);
    say(&mut driver, ports, &part);
    assert!(hear(&mut stream, part.len()) == part);
    say(&mut driver, ports, &part);
    let (header, _) = expect(&mut driver, op::CREDIT_UPDATE);
    assert_eq!(header.fwd_cnt, 128_000);
}

#[test]
fn a_guest_without_buffers_gets_everything_once_it_has_some() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, _) = from_host(&mut driver, &side, 1);
    let sent = data(100_000);
    let copy = sent.clone();
    let writer = thread::spawn(move || stream.write_all(&copy).map(|()| stream));
    let before = driver.used_index(RX);
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let (_, bytes) = expect(&mut driver, op::RW);
        assert!(bytes.len() <= usize::try_from(PAGE).unwrap() - 44);
        got.extend(bytes);
    }
    assert!(got == sent);
    assert_eq!(driver.used_index(RX).wrapping_sub(before), 25);
    writer.join().unwrap().unwrap();
}
