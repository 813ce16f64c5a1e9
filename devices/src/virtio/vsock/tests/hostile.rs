//! A guest that lies, floods and breaks rules: nothing grows, nobody else suffers.

use std::cell::RefCell;
use std::thread;

use super::side::{
    RX, Side, TX, expect, from_host, hear_all, lay, next, packet, ports_of, post, say, send,
};
use super::{end, exchange};
use crate::virtio::contract::{Contract, Dice};
use crate::virtio::driver::{Buffer, Driver};
use crate::virtio::vsock::connection::WIDE;
use crate::virtio::vsock::hub::{MOST, MOST_REPLIES};
use crate::virtio::vsock::packet::{Header, NO_SEND, Ports, op};

fn with_contract(test: impl FnOnce(&Side, &Contract<'_>)) {
    let side = Side::new();
    let contract = Contract {
        build: &|ram, io, interrupt| side.core(ram, io, interrupt),
        exchange: &|driver| exchange(driver, &side),
    };
    test(&side, &contract);
}

#[test]
fn bad_chains_to_the_host_get_nothing_out_of_it() {
    with_contract(|_, contract| contract.survives(TX, 4000, &|_| {}));
}

#[test]
fn bad_chains_for_the_guest_get_nothing_out_of_it() {
    with_contract(|side, contract| {
        let last = RefCell::new(None);
        contract.survives(RX, 2000, &|_| {
            *last.borrow_mut() = Some(side.come(b"CONNECT 5\n"));
        });
    });
}

/// What a guest did to an open connection, and that it was ended for it.
fn is_ended_by(bad: impl FnOnce(&mut Driver, Ports)) {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    bad(&mut driver, ports);
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(ports_of(&header), ports);
    hear_all(&mut stream);
    exchange(&mut driver, &side);
}

#[test]
fn an_unknown_operation_ends_the_connection() {
    is_ended_by(|driver, ports| send(driver, packet(ports, 77), &[]));
    is_ended_by(|driver, ports| send(driver, packet(ports, 0), &[]));
}

#[test]
fn a_second_request_or_response_ends_the_connection() {
    is_ended_by(|driver, ports| send(driver, packet(ports, op::REQUEST), &[]));
    is_ended_by(|driver, ports| send(driver, packet(ports, op::RESPONSE), &[]));
}

#[test]
fn more_bytes_said_than_sent_end_the_connection() {
    for len in [6, 1 << 16, u32::MAX - 43, u32::MAX] {
        is_ended_by(|driver, ports| {
            let header = packet(ports, op::RW);
            send(driver, Header { len, ..header }, b"hello");
        });
    }
}

#[test]
fn data_after_the_guests_own_end_end_the_connection() {
    is_ended_by(|driver, ports| {
        end(driver, ports, NO_SEND);
        say(driver, ports, b"and another thing");
    });
}

#[test]
fn data_beyond_the_window_end_the_connection() {
    let side = Side::new();
    let mut driver = side.driver();
    let (stream, ports) = from_host(&mut driver, &side, 1);
    // Nobody reads: the socket takes some, the window the rest.
    let part = vec![7; 60_000];
    let (mut sent, mut got, mut is_ended) = (0, driver.used_index(RX), false);
    post(&mut driver, 64);
    while !is_ended {
        say(&mut driver, ports, &part);
        sent += part.len();
        assert!(sent < 4 << 20, "nothing holds the guest back");
        while driver.used_index(RX) != got && !is_ended {
            is_ended = next(&mut driver).0.op == op::RST;
            got += 1;
        }
    }
    assert!(sent > usize::try_from(WIDE).unwrap());
    drop(stream);
    driver.negotiate(u64::MAX);
    exchange(&mut driver, &side);
}

#[test]
fn packets_of_and_to_others_are_dropped() {
    let side = Side::new();
    let mut driver = side.driver();
    let ports = Ports { host: 9, guest: 9 };
    let good = packet(ports, op::RW);
    send(&mut driver, Header { src_cid: 4, ..good }, &[]);
    send(&mut driver, Header { dst_cid: 1, ..good }, &[]);
    send(
        &mut driver,
        Header {
            dst_cid: u64::MAX,
            ..good
        },
        &[],
    );
    send(&mut driver, packet(ports, op::RST), &[]);
    assert_eq!(
        driver.request(TX, &[Buffer::Readable(super::side::OUT, 43)]),
        0
    );
    // The first answer is to this one.
    let known = Ports { host: 10, guest: 9 };
    send(&mut driver, packet(known, op::RW), &[]);
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(ports_of(&header), known);
}

#[test]
fn another_kind_of_socket_is_refused_in_its_own_name() {
    let side = Side::new();
    let mut driver = side.driver();
    let _listener = side.listen(5);
    let header = packet(Ports { host: 5, guest: 6 }, op::REQUEST);
    send(&mut driver, Header { kind: 2, ..header }, &[]);
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(header.kind, 2);
}

/// Puts a packet into the queue without waiting for it.
fn throw(driver: &mut Driver, header: Header) {
    let buffers = lay(driver, header, &[]);
    driver.queue_chain(TX, &buffers);
    driver.notify(TX);
}

#[test]
fn a_guest_that_takes_no_answers_is_not_served_further() {
    let side = Side::new();
    let mut driver = side.driver();
    // Each wants an answer, and there are no buffers for it.
    let stray = packet(Ports { host: 5, guest: 6 }, op::RW);
    for _ in 0..MOST_REPLIES {
        send(&mut driver, stray, &[]);
    }
    for _ in 0..100 {
        throw(&mut driver, stray);
    }
    let held = driver.used_index(TX);
    assert_eq!(usize::from(held), MOST_REPLIES);
    // With buffers it goes on, to the last.
    for _ in 0..MOST_REPLIES + 100 {
        expect(&mut driver, op::RST);
    }
    driver.watch(|driver| usize::from(driver.used_index(TX)) == MOST_REPLIES + 100);
    driver.negotiate(u64::MAX);
    exchange(&mut driver, &side);
}

#[test]
fn a_flood_of_requests_gets_as_many_connections_as_there_may_be() {
    let side = Side::new();
    let mut driver = side.driver();
    let listener = side.listen(5);
    let accepting = thread::spawn(move || {
        let streams: Vec<_> = listener.incoming().take(MOST).map(Result::unwrap).collect();
        (streams, listener)
    });
    let (mut accepted, mut guest) = (0, 0);
    while accepted < MOST {
        guest += 1;
        send(
            &mut driver,
            packet(Ports { host: 5, guest }, op::REQUEST),
            &[],
        );
        post(&mut driver, 1);
        // A refusal is the listener's that had no room: it is asked again.
        match next(&mut driver).0.op {
            op::RESPONSE => accepted += 1,
            _ => thread::yield_now(),
        }
    }
    let _kept = accepting.join().unwrap();
    for guest in guest + 1..guest + 100 {
        send(
            &mut driver,
            packet(Ports { host: 5, guest }, op::REQUEST),
            &[],
        );
        expect(&mut driver, op::RST);
    }
}

#[test]
fn any_header_is_survived() {
    let side = Side::new();
    let mut driver = side.driver();
    driver.negotiate(0);
    let _listener = side.listen(5);
    let mut dice = Dice::new(0x5eed);
    for _ in 0..20_000 {
        let ports = Ports {
            host: dice.pick(&[5, 5, 5, 6, 1 << 30, u32::MAX]),
            guest: dice.pick(&[1, 2, 3, 4, 52]),
        };
        let small = packet(ports, dice.pick(&[1, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 0xffff]));
        let header = Header {
            len: dice.pick(&[0, 0, 1, 1000, 1001, u32::MAX]),
            flags: dice.pick(&[0, 1, 2, 3, u32::MAX]),
            buf_alloc: dice.pick(&[0, 1, 1000, 1 << 20, u32::MAX]),
            fwd_cnt: dice.pick(&[0, 1, 1000, u32::MAX]),
            ..small
        };
        let buffers = lay(&driver, header, &[1; 1000]);
        // Counted first: a device that is still at the last packet may take this one before it is told.
        let sent = driver.used_index(TX);
        driver.queue_chain(TX, &buffers);
        driver.notify(TX);
        post(&mut driver, 1);
        driver.watch(|driver| driver.used_index(TX) != sent || driver.needs_reset());
        assert!(!driver.needs_reset());
        // The driver's own books are kept by nobody here: begin anew from time to time.
        if dice.roll().is_multiple_of(100) {
            driver.negotiate(0);
        }
    }
    driver.negotiate(u64::MAX);
    exchange(&mut driver, &side);
}
