//! What a guest can do to the service's TCP that no honest one does.

use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::tests::{ACK, BIG, GET, LAST, Pair, SYN};
use super::*;
use crate::mmds::guest::{MAC, SERVICE, framed, packet, segment};
use crate::virtio::contract::Dice;

const SEED: u64 = 0x00dd_5eed;

#[test]
fn a_flood_of_syns_takes_no_more_than_the_places_there_are() {
    let mut pair = Pair::new();
    for port in 1..5000 {
        pair.inject(&segment(port, port.into(), 0, SYN, &[]));
        pair.is_bounded();
        if port % 7 == 0 {
            pair.drop_frames();
        }
    }
    assert!(pair.drop_frames() <= 64);
    pair.serves();
}

#[test]
fn a_syn_sent_again_pushes_nobody_out() {
    let mut pair = Pair::new();
    for port in 0..u16::try_from(MOST_CONNECTIONS).unwrap() {
        pair.inject(&segment(1000 + port, 1, 0, SYN, &[]));
    }
    for port in 0..u16::try_from(MOST_CONNECTIONS).unwrap() {
        pair.inject(&segment(1000 + port, 1, 0, SYN, &[]));
    }
    assert_eq!(pair.mmds.metrics().connections_destroyed.get(), 0);
}

#[test]
fn half_open_connections_end_by_themselves() {
    let mut pair = Pair::new();
    for port in 1..=5 {
        pair.inject(&segment(port, 1, 0, SYN, &[]));
    }
    let mut count = 0;
    for _ in 0..1000 {
        let Some(due) = pair.stack.deadline(pair.now) else {
            break;
        };
        pair.now = due;
        pair.stack.advance(pair.now);
        count += pair.drop_frames();
    }
    assert_eq!(pair.stack.connections.len(), 0);
    assert!(pair.now < Duration::from_secs(200), "{:?}", pair.now);
    assert!(count < 200, "{count} frames to nobody");
}

#[test]
fn a_reader_that_never_acknowledges_is_given_up() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    pair.guest.send(handle, BIG);
    while let Some(frame) = pair.guest.take(pair.now) {
        pair.stack.take(pair.now, &frame);
    }
    let mut turns = 0;
    while let Some(due) = pair.stack.deadline(pair.now) {
        pair.now = due;
        pair.stack.advance(pair.now);
        pair.drop_frames();
        turns += 1;
        assert!(turns < 1000, "it is tried again and again");
    }
    assert_eq!(pair.stack.connections.len(), 0);
    assert!(pair.now < Duration::from_secs(200));
}

#[test]
fn a_guest_that_takes_no_frames_costs_no_wakeups() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    pair.guest.send(handle, BIG);
    while let Some(frame) = pair.guest.take(pair.now) {
        pair.stack.take(pair.now, &frame);
    }
    // Until the queue is full there is something to send again; then there is nothing to be done.
    let mut turns = 0;
    while let Some(due) = pair.stack.deadline(pair.now) {
        assert!(pair.stack.outbox.front().is_some());
        pair.now = due;
        pair.stack.advance(pair.now);
        turns += 1;
        assert!(turns < 60 || pair.now > Duration::from_secs(60), "{turns}");
        if pair.now > Duration::from_secs(600) {
            break;
        }
    }
    assert!(turns < 100, "{turns} turns in ten minutes");
    assert!(pair.drop_frames() <= 64);
    pair.serves();
}

#[test]
fn a_request_without_end_is_refused() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    let request = [&b"GET /"[..], &b"a/".repeat(10_000)].concat();
    let answer = pair.ask(handle, &request);
    assert!(answer.ends_with("Invalid request."), "{answer}");
    assert_ne!(pair.guest.state(handle), State::Established);
    pair.serves();
}

#[test]
fn a_path_of_thousands_of_parts_is_looked_up() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    let path = "/a".repeat(3000);
    let answer = pair.ask(handle, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
    assert!(answer.ends_with(&format!("Resource not found: {path}.")));
}

#[test]
fn a_frame_longer_than_any_request_is_dropped() {
    let mut pair = Pair::new();
    let frame = framed(&packet(&segment(1, 1, 1, ACK, &[0; 60_000])));
    pair.stack.take(pair.now, &frame);
    assert_eq!(pair.mmds.metrics().rx_accepted_err.get(), 1);
}

#[test]
fn noise_in_every_field_changes_no_bound() {
    let mut pair = Pair::new();
    let mut dice = Dice::new(SEED);
    for round in 0..20_000_u32 {
        let port = 1 + u16::try_from(dice.roll() % 12).unwrap();
        let flags = dice.pick(&[2, 2, 16, 16, 24, 17, 4, 20, 18, 0, 63, 255]);
        let seq = dice.pick(&[0, 1, 2, 100, 4096, 1 << 31, u32::MAX]);
        let mut bytes = segment(port, seq, 0, flags, GET);
        // Mostly the number that the service waits for.
        let known = pair
            .stack
            .outbox
            .front()
            .filter(|_| !dice.roll().is_multiple_of(4));
        if let Some(frame) = known.filter(|frame| frame.len() >= 54) {
            bytes[..2].copy_from_slice(&frame[36..38]);
            bytes[4..8].copy_from_slice(&frame[42..46]);
            let theirs = u32::from_be_bytes(frame[38..42].try_into().unwrap());
            let ahead = dice.pick(&[0, 1, 1, 1, 2, 536, 16_384]);
            bytes[8..12].copy_from_slice(&theirs.wrapping_add(ahead).to_be_bytes());
        }
        bytes[14..16].copy_from_slice(&dice.pick(&[[0, 0], [0, 1], [16, 0], [255, 255]]));
        bytes.truncate(20 + dice.pick(&[0, 0, 1, GET.len(), GET.len()]));
        if dice.roll().is_multiple_of(3) {
            let options: [u8; 8] = dice.roll().to_be_bytes();
            // MSS, window scale, SACK, timestamps: with the length that each has, or another.
            let option = dice.pick(&[
                [2_u8, 4],
                [3, 3],
                [4, 2],
                [5, 10],
                [8, 10],
                [0, 0],
                [1, 1],
                [255, 4],
            ]);
            bytes[12] = dice.pick(&[0x70, 0x70, 0x60, 0xf0, 0x40]);
            let at = 20.min(bytes.len());
            bytes.splice(at..at, [&option[..], &options[..6]].concat());
        }
        let mut frame = framed(&packet(&bytes));
        if dice.roll().is_multiple_of(16) {
            let at = usize::try_from(dice.roll() >> 33).unwrap() % frame.len();
            frame[at] = dice.pick(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        pair.stack.take(pair.now, &frame);
        pair.is_bounded();
        if dice.roll().is_multiple_of(3) {
            pair.stack.pop(pair.now);
        }
        if dice.roll().is_multiple_of(64) {
            pair.now += Duration::from_millis(dice.pick(&[1, 100, 3000, 70_000]));
            pair.stack.advance(pair.now);
        }
        if round % 1000 == 999 {
            pair.drop_frames();
        }
    }
    // Enough of the noise made sense to go all the way.
    let metrics = pair.mmds.metrics();
    assert!(metrics.rx_no_token.get() > 20);
    pair.drop_frames();
    pair.serves();
}

/// Sends `frame` of an honest guest as another one would.
fn bend(frame: &mut [u8], dice: &mut Dice) {
    let (seq, ack) = (38, 42);
    match dice.roll() % 8 {
        0 | 1 => {
            let at = if dice.roll().is_multiple_of(2) {
                seq
            } else {
                ack
            };
            let number: [u8; 4] = frame[at..at + 4].try_into().unwrap();
            let by = dice.pick(&[
                1,
                u32::MAX,
                48,
                0_u32.wrapping_sub(48),
                1460,
                16_384,
                1 << 31,
            ]);
            let number = u32::from_be_bytes(number).wrapping_add(by);
            frame[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        2 | 3 => frame[47] ^= dice.pick(&[1, 2, 4, 8, 16, 32]),
        4 | 5 => {
            let window = dice.pick(&[[0, 0], [0, 1], [0, 100], [255, 255]]);
            frame[48..50].copy_from_slice(&window);
        }
        6 => frame[46] = dice.pick(&[0x40, 0x60, 0x80, 0xf0]),
        _ => {
            let at = usize::try_from(dice.roll() >> 33).unwrap() % frame.len();
            frame[at] ^= dice.pick(&[1, 0x80, 0xff]);
        }
    }
}

#[test]
fn a_guest_that_bends_its_segments_changes_no_bound() {
    let mut pair = Pair::new();
    let mut dice = Dice::new(SEED);
    let mut handles = Vec::new();
    for _ in 0..8000_u32 {
        match dice.roll() % 16 {
            0 if handles.len() < 12 => {
                let window = dice.pick(&[100, 3000, 65_535]);
                handles.push(pair.guest.connect(window));
            }
            1..=4 if !handles.is_empty() => {
                let handle = dice.pick(&handles);
                let request = dice.pick(&[GET, GET, BIG, LAST]);
                let socket = pair.guest.socket(handle);
                if socket.can_send() {
                    socket.send_slice(request).unwrap();
                }
            }
            5 if !handles.is_empty() => {
                let handle = dice.pick(&handles);
                pair.guest.socket(handle).close();
            }
            6 if !handles.is_empty() && dice.roll().is_multiple_of(4) => {
                let at = usize::try_from(dice.roll() >> 33).unwrap() % handles.len();
                pair.guest.forget(handles.swap_remove(at));
            }
            7 => {
                pair.now += Duration::from_millis(
                    dice.pick(&[1, 1, 1, 10, 10, 10, 300, 300, 3000, 61_000]),
                );
                pair.stack.advance(pair.now);
            }
            _ => {}
        }
        exchange_badly(&mut pair, &mut dice);
        handles.retain(|handle| {
            let is_over = !pair.guest.socket(*handle).is_open();
            if is_over {
                pair.guest.forget(*handle);
            }
            !is_over
        });
        for handle in &handles {
            pair.guest.received(*handle);
        }
        pair.is_bounded();
    }
    let metrics = pair.mmds.metrics();
    assert!(metrics.rx_no_token.get() > 200, "{metrics:?}");
    pair.drop_frames();
    pair.serves();
}

/// Carries what there is both ways, and loses, doubles and bends some of it.
fn exchange_badly(pair: &mut Pair, dice: &mut Dice) {
    while let Some(mut frame) = pair.guest.take(pair.now) {
        if dice.roll().is_multiple_of(8) {
            bend(&mut frame, dice);
        }
        for _ in 0..dice.pick(&[1, 1, 1, 1, 1, 1, 0, 2]) {
            pair.stack.take(pair.now, &frame);
        }
    }
    for _ in 0..dice.pick(&[0, 1, 4, 100]) {
        let Some(frame) = pair.stack.front() else {
            break;
        };
        // A bent sender's address gets the answer.
        if frame[..6] == MAC && !dice.roll().is_multiple_of(16) {
            pair.guest.give(frame);
        }
        pair.stack.pop(pair.now);
    }
}

#[test]
fn an_address_that_is_the_services_own_changes_nothing() {
    let mut pair = Pair::new();
    let mut bytes = packet(&segment(1, 1, 0, SYN, &[]));
    bytes[12..16].copy_from_slice(&SERVICE.octets());
    bytes[10..12].fill(0);
    pair.stack.take(pair.now, &framed(&bytes));
    pair.is_bounded();
    pair.serves();
}
