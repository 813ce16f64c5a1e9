mod dial;
mod flow;
mod hostile;
mod patience;
mod side;

use std::io::Write;
use std::net::Shutdown;

use vm_memory::{Bytes, GuestAddress};

use self::side::{
    CID, EVENT, Side, expect, from_guest, from_host, hear, hear_all, packet, post, say, send,
};
use crate::virtio::contract::Contract;
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::vsock::packet::{Header, NEITHER, NO_RECEIVE, NO_SEND, Ports, op};

/// A connection begun by each side, with data both ways; the guest ends one, the host the other.
fn exchange(driver: &mut Driver, side: &Side) {
    let (mut stream, ports) = from_host(driver, side, 52);
    say(driver, ports, b"from the guest");
    assert_eq!(hear(&mut stream, 14), b"from the guest");
    stream.write_all(b"from the host").unwrap();
    assert_eq!(expect(driver, op::RW).1, b"from the host");
    end(driver, ports, NEITHER);
    expect(driver, op::RST);
    assert!(hear_all(&mut stream).is_empty());

    let listener = side.listen(53);
    let ports = Ports {
        host: 53,
        guest: 1024,
    };
    let mut stream = from_guest(driver, &listener, ports);
    say(driver, ports, b"hello");
    assert_eq!(hear(&mut stream, 5), b"hello");
    stream.write_all(b"hello yourself").unwrap();
    assert_eq!(expect(driver, op::RW).1, b"hello yourself");
    drop(stream);
    let (header, _) = expect(driver, op::SHUTDOWN);
    assert_eq!(header.flags, u32::from(NEITHER));
    send(driver, packet(ports, op::RST), &[]);
}

/// The guest's side does `which` no more.
fn end(driver: &mut Driver, ports: Ports, which: u8) {
    let header = Header {
        flags: which.into(),
        ..packet(ports, op::SHUTDOWN)
    };
    send(driver, header, &[]);
}

#[test]
fn the_contract_holds() {
    let side = Side::new();
    let contract = Contract {
        build: &|ram, io, interrupt| side.core(ram, io, interrupt),
        exchange: &|driver| exchange(driver, &side),
    };
    contract.holds();
}

#[test]
fn the_config_space_is_the_guests_context_id() {
    let mut driver = Side::new().driver();
    assert_eq!((driver.read(0x100), driver.read(0x104)), (CID, 0));
    assert_eq!(driver.read(0x108), 0, "nothing behind it");
}

#[test]
fn a_guest_may_send_no_more_and_go_on_reading() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    say(&mut driver, ports, b"last words");
    end(&mut driver, ports, NO_SEND);
    assert_eq!(hear_all(&mut stream), b"last words");
    stream.write_all(b"heard").unwrap();
    assert_eq!(expect(&mut driver, op::RW).1, b"heard");
}

#[test]
fn a_host_may_send_no_more_and_go_on_reading() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(expect(&mut driver, op::RW).1, b"last words");
    let (header, _) = expect(&mut driver, op::SHUTDOWN);
    assert_eq!(header.flags, u32::from(NO_SEND));
    say(&mut driver, ports, b"heard");
    assert_eq!(hear(&mut stream, 5), b"heard");
    drop(stream);
    let (header, _) = expect(&mut driver, op::SHUTDOWN);
    assert_eq!(header.flags, u32::from(NEITHER));
}

#[test]
fn a_host_that_reads_no_more_is_heard_to_its_end() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    stream.shutdown(Shutdown::Read).unwrap();
    say(&mut driver, ports, b"into the void");
    let (header, _) = expect(&mut driver, op::SHUTDOWN);
    assert_eq!(header.flags, u32::from(NO_RECEIVE));
    stream.write_all(b"still here").unwrap();
    assert_eq!(expect(&mut driver, op::RW).1, b"still here");
}

#[test]
fn a_guest_that_reads_no_more_keeps_nobody_waiting() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    end(&mut driver, ports, NO_RECEIVE);
    let refused = stream.write_all(b"anybody there?").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    say(&mut driver, ports, b"yes");
    assert_eq!(hear(&mut stream, 3), b"yes");
}

#[test]
fn a_port_without_a_guests_process_closes_the_hosts_socket() {
    let side = Side::new();
    let mut driver = side.driver();
    let mut stream = side.come(b"CONNECT 52\n");
    let (request, _) = expect(&mut driver, op::REQUEST);
    send(&mut driver, packet(side::ports_of(&request), op::RST), &[]);
    assert!(hear_all(&mut stream).is_empty());
}

#[test]
fn what_stands_behind_the_first_line_reaches_the_guest() {
    let side = Side::new();
    let mut driver = side.driver();
    let mut stream = side.come(b"CONNECT 52\nhello");
    let (request, _) = expect(&mut driver, op::REQUEST);
    send(
        &mut driver,
        packet(side::ports_of(&request), op::RESPONSE),
        &[],
    );
    assert_eq!(expect(&mut driver, op::RW).1, b"hello");
    assert_eq!(hear(&mut stream, 3), b"OK ");
}

#[test]
fn who_says_something_else_first_is_sent_away() {
    let side = Side::new();
    let mut driver = side.driver();
    for line in [&b"GET / HTTP/1.1\r\n"[..], b"CONNECT\n", &[b'x'; 40]] {
        let mut stream = side.come(line);
        // What was not read makes it an error, what was read an end.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
        assert!(rest.is_empty());
    }
    exchange(&mut driver, &side);
}

#[test]
fn connections_go_on_after_a_pause() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    driver.device.core().pause();
    stream.write_all(b"meanwhile").unwrap();
    driver.device.core().resume();
    assert_eq!(expect(&mut driver, op::RW).1, b"meanwhile");
    say(&mut driver, ports, b"back");
    assert_eq!(hear(&mut stream, 4), b"back");
}

#[test]
fn a_reset_ends_all_connections() {
    let side = Side::new();
    let mut driver = side.driver();
    let (mut stream, ports) = from_host(&mut driver, &side, 1);
    driver.negotiate(0);
    assert!(hear_all(&mut stream).is_empty());
    say(&mut driver, ports, b"lost");
    let (header, _) = expect(&mut driver, op::RST);
    assert_eq!(side::ports_of(&header), ports);
}

#[test]
fn a_guest_that_was_saved_hears_that_its_connections_are_gone() {
    let side = Side::new();
    let build = |ram, io, interrupt| side.core(ram, io, interrupt);
    let mut driver = Driver::new(build);
    driver.negotiate(u64::MAX);
    driver.device.core().pause();
    let saved = driver.device.core().save().unwrap();
    let mut driver = driver.replaced(build);
    driver.device.core().restore(&saved).unwrap();
    driver.device.core().resume();
    let news = GuestAddress(DATA);
    driver.ram.write_obj(0xffff_ffff_u32, news).unwrap();
    // The first chain has no room for the news, the second one has.
    let short = driver.request(EVENT, &[Buffer::Readable(DATA, 8)]);
    let written = driver.request(EVENT, &[Buffer::Writable(DATA, 4)]);
    let event: u32 = driver.ram.read_obj(news).unwrap();
    assert_eq!((short, written, event), (0, 4, 0));
    exchange(&mut driver, &side);
}

#[test]
fn a_guest_that_begins_hears_of_no_loss() {
    let side = Side::new();
    let mut driver = side.driver();
    driver.queue_chain(EVENT, &[Buffer::Writable(DATA, 8)]);
    driver.kick(EVENT);
    exchange(&mut driver, &side);
    assert_eq!(driver.used_index(EVENT), 0);
}

#[test]
fn buffers_for_data_that_has_not_come_stay_the_drivers() {
    let side = Side::new();
    let mut driver = side.driver();
    post(&mut driver, 40);
    let (mut stream, _) = from_host(&mut driver, &side, 1);
    stream.write_all(b"a").unwrap();
    assert_eq!(side::next(&mut driver).1, b"a");
    assert_eq!(driver.used_index(side::RX), 2);
}
