//! The metadata service over a card, from a guest's TCP to the document and back.

use std::time::Instant;

use serde_json::json;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use vm_memory::{Bytes, GuestAddress};

use super::cable::{Far, config, frame};
use super::{OUT, RX, exchange, received, send};
use crate::mmds::Mmds;
use crate::mmds::guest::{self, Guest, MAC, SERVICE_MAC};
use crate::virtio::contract::{Contract, Dice};
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::net::HEADER;

const MERGE: u64 = 1 << 15;
const EVENT_IDX: u64 = 1 << 29;
const GET: &[u8] = b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n";
const BIG: &[u8] = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
/// Receive buffers in use.
const BUFFERS: u64 = 64;

/// A guest with a driver for its card.
struct Nic {
    driver: Driver,
    guest: Guest,
    /// The size of a receive buffer.
    size: u32,
    /// Receive buffers given so far, and those that came back.
    given: u64,
    taken: u64,
    /// Where the frames came from.
    origins: Vec<Origin>,
    start: Instant,
}

#[derive(Debug, PartialEq)]
enum Origin {
    Tap,
    Service,
}

impl Nic {
    fn new(far: &Far, features: u64, size: u32) -> Self {
        let mut driver = far.driver(config());
        driver.negotiate(features);
        Self::with(driver, size)
    }

    fn with(driver: Driver, size: u32) -> Self {
        let mut nic = Self {
            driver,
            guest: Guest::new(),
            size,
            given: 0,
            taken: 0,
            origins: Vec::new(),
            start: Instant::now(),
        };
        nic.send(&guest::arp_request());
        nic
    }

    fn address(&self, buffer: u64) -> u64 {
        DATA + buffer % BUFFERS * u64::from(self.size)
    }

    fn offer(&mut self) {
        while self.given < self.taken + BUFFERS {
            let buffer = Buffer::Writable(self.address(self.given), self.size);
            self.driver.queue_chain(RX, &[buffer]);
            self.given += 1;
        }
        self.driver.notify(RX);
    }

    /// Sends a frame that the card is to finish: virtio's NEEDS_CSUM, where TCP's checksum is.
    fn send(&mut self, frame: &[u8]) {
        let mut whole = vec![1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];
        whole.extend(frame);
        send(&mut self.driver, &whole);
    }

    /// The next frame received, after its header.
    fn receive(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        let mut left = 1;
        while left > 0 {
            let (_, len) = self.driver.wait_used(RX);
            let len = usize::try_from(len).unwrap();
            whole.extend(received(&self.driver, self.address(self.taken), len));
            if left == 1 && whole.len() == len {
                left = u16::from_le_bytes([whole[10], whole[11]]);
                assert_eq!(whole[..10], [0; 10], "an empty header");
            }
            self.taken += 1;
            left -= 1;
        }
        self.offer();
        whole.split_off(HEADER)
    }

    /// Lets the guest talk until `done`.
    fn run(&mut self, mut done: impl FnMut(&mut Guest) -> bool) {
        loop {
            while let Some(frame) = self.guest.take(self.start.elapsed()) {
                self.send(&frame);
            }
            if done(&mut self.guest) {
                return;
            }
            let frame = self.receive();
            if frame[..12] == [&MAC[..], &SERVICE_MAC].concat() {
                self.guest.give(&frame);
                self.origins.push(Origin::Service);
            } else {
                self.origins.push(Origin::Tap);
            }
        }
    }

    fn connect(&mut self) -> SocketHandle {
        let handle = self.guest.connect(65_535);
        self.run(|guest| guest.state(handle) == State::Established);
        handle
    }

    /// Asks for what ends with `end`.
    fn ask(&mut self, handle: SocketHandle, request: &[u8], end: &[u8]) -> Vec<u8> {
        self.guest.send(handle, request);
        let mut answer = Vec::new();
        self.run(|guest| {
            answer.extend(guest.received(handle));
            answer.ends_with(end)
        });
        answer
    }
}

fn service() -> (Mmds, Far) {
    let (mmds, attachment) = guest::service(json!({"name": "value", "big": "x".repeat(50_000)}));
    (mmds, Far::with_mmds(attachment))
}

fn no_frame_left(far: &Far) {
    assert_eq!(far.try_receive(), None, "a frame went to the tap");
}

#[test]
fn the_contract_holds_with_the_service_too() {
    let (_, far) = service();
    let contract = Contract {
        build: &|ram, io, interrupt| far.core(config(), ram, io, interrupt),
        exchange: &|driver| {
            exchange(driver, &far);
            // The question for the service's card, and the answer.
            driver.queue_chain(RX, &[Buffer::Writable(DATA, 2048)]);
            driver.kick(RX);
            let mut question = vec![0; HEADER];
            question.extend(guest::arp_request());
            send(driver, &question);
            assert_eq!(driver.wait_used(RX).1, 54);
            let reply = received(driver, DATA, 54);
            assert_eq!(reply[HEADER..HEADER + 6], MAC);
            no_frame_left(&far);
        },
    };
    contract.holds();
}

#[test]
fn a_guest_reads_its_metadata_and_the_tap_sees_nothing_of_it() {
    for features in [0, MERGE, EVENT_IDX | MERGE, u64::MAX] {
        let (mmds, far) = service();
        let mut nic = Nic::new(&far, features, 2048);
        nic.offer();
        assert_eq!(nic.receive().len(), 42, "the answer to ARP");
        let handle = nic.connect();
        nic.ask(handle, GET, b"\r\n\r\nvalue");
        nic.ask(handle, BIG, &b"x".repeat(50_000));
        nic.ask(handle, GET, b"\r\n\r\nvalue");
        no_frame_left(&far);
        assert_eq!(far.metrics().tx_packets_count.get(), 0);
        assert_ne!(far.metrics().rx_packets_count.get(), 0);
        assert_eq!(mmds.metrics().connections_created.get(), 1);
        assert_eq!(mmds.metrics().rx_accepted_err.get(), 0);
    }
}

#[test]
fn frames_for_others_take_their_way() {
    let (_, far) = service();
    let mut nic = Nic::new(&far, 0, 2048);
    nic.offer();
    nic.receive();
    let sent = frame(3, 300);
    send(&mut nic.driver, &sent);
    assert_eq!(far.receive(), sent);
    for len in [14, 20, 41] {
        let mut short = vec![0; HEADER];
        short.extend(&guest::arp_request()[..len]);
        send(&mut nic.driver, &short);
        assert_eq!(far.receive(), short);
    }
}

#[test]
fn without_the_service_its_address_is_as_any_other() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    let mut question = vec![0; HEADER];
    question.extend(guest::arp_request());
    send(&mut driver, &question);
    assert_eq!(far.receive(), question);
}

#[test]
fn answers_are_merged_over_small_buffers() {
    let (_, far) = service();
    for size in [13, 60, 700] {
        let mut nic = Nic::new(&far, MERGE, size);
        nic.offer();
        nic.receive();
        let handle = nic.connect();
        nic.ask(handle, GET, b"\r\n\r\nvalue");
        if size > 60 {
            nic.ask(handle, BIG, &b"x".repeat(50_000));
        }
    }
}

#[test]
fn answers_wait_for_a_guest_without_buffers() {
    let (_, far) = service();
    let mut nic = Nic::new(&far, EVENT_IDX, 2048);
    for _ in 0..200 {
        nic.send(&guest::arp_request());
    }
    nic.offer();
    // As many as the queue holds, and then those of now.
    for _ in 0..64 {
        assert_eq!(nic.receive().len(), 42);
    }
    let handle = nic.connect();
    nic.ask(handle, GET, b"\r\n\r\nvalue");
}

#[test]
fn a_lost_answer_comes_again_by_the_timer() {
    let (_, far) = service();
    let mut nic = Nic::new(&far, MERGE, 2048);
    nic.offer();
    nic.receive();
    let handle = nic.connect();
    nic.guest.send(handle, GET);
    while let Some(frame) = nic.guest.take(nic.start.elapsed()) {
        nic.send(&frame);
    }
    let lost = nic.receive();
    let again = nic.receive();
    assert!(lost.ends_with(b"value") && again.ends_with(b"value"));
    assert_eq!(lost[38..42], again[38..42], "the same segment");
    nic.guest.give(&again);
    nic.run(|guest| guest.received(handle).ends_with(b"value"));
}

#[test]
fn a_pause_in_the_middle_of_an_answer_loses_nothing() {
    let (_, far) = service();
    let mut nic = Nic::new(&far, MERGE, 2048);
    nic.offer();
    nic.receive();
    let handle = nic.connect();
    nic.guest.send(handle, BIG);
    let mut answer = Vec::new();
    for _ in 0..4 {
        nic.run(|guest| {
            let part = guest.received(handle);
            answer.extend(&part);
            !part.is_empty()
        });
        nic.driver.device.core().pause();
        nic.driver.device.core().resume();
    }
    nic.run(|guest| {
        answer.extend(guest.received(handle));
        answer.ends_with(&b"x".repeat(50_000))
    });
}

#[test]
fn a_reset_forgets_the_connections_of_the_driver_before() {
    let (mmds, far) = service();
    let mut nic = Nic::new(&far, MERGE, 2048);
    nic.offer();
    nic.receive();
    let handle = nic.connect();
    let (mut driver, guest) = (nic.driver, nic.guest);
    driver.negotiate(MERGE);
    let mut nic = Nic::with(driver, 2048);
    nic.guest = guest;
    nic.offer();
    nic.guest.send(handle, GET);
    nic.run(|guest| guest.state(handle) == State::Closed);
    let handle = nic.connect();
    nic.ask(handle, GET, b"\r\n\r\nvalue");
    assert_eq!(mmds.metrics().connections_created.get(), 2);
}

#[test]
fn the_tap_and_the_service_take_turns() {
    let (_, far) = service();
    let mut nic = Nic::new(&far, MERGE, 2048);
    nic.offer();
    nic.receive();
    let handle = nic.connect();
    let mut waiting = 0;
    while far.try_send(&frame(5, 200)) {
        waiting += 1;
    }
    assert!(waiting > 100, "the cable takes {waiting} frames");
    nic.origins.clear();
    nic.ask(handle, BIG, &b"x".repeat(50_000));
    // Behind what the tap had put before, both have frames.
    let mixed = nic
        .origins
        .iter()
        .skip_while(|origin| **origin == Origin::Tap);
    let mixed: Vec<_> = mixed.take(20).collect();
    let of_the_tap = mixed
        .iter()
        .filter(|origin| ***origin == Origin::Tap)
        .count();
    assert!((8..=12).contains(&of_the_tap), "{mixed:?}");
}

#[test]
fn a_guest_that_changes_a_frame_while_it_is_read_harms_nobody() {
    let (mmds, far) = service();
    let mut nic = Nic::new(&far, 0, 2048);
    nic.offer();
    let ram = nic.driver.ram.clone();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice::new(99);
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let at = OUT + 12 + dice.pick(&[12, 14, 16, 23, 31, 33, 41, 46, 47]);
                let byte: u8 = dice.pick(&[0, 6, 8, 0x45, 0x50, 80, 169, 254, 255]);
                ram.write_obj(byte, GuestAddress(at)).unwrap();
            }
        });
        for turn in 0..4000_u32 {
            let frame = if turn.is_multiple_of(2) {
                guest::arp_request()
            } else {
                guest::framed(&guest::packet(&guest::segment(1, 1, 0, 2, &[])))
            };
            nic.send(&frame);
            while far.try_receive().is_some() {}
            while u64::from(nic.driver.used_index(RX)) > nic.taken {
                nic.receive();
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!nic.driver.needs_reset());
    assert_ne!(mmds.metrics().rx_accepted.get(), 0);
}
