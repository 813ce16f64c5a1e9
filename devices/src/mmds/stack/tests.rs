use std::time::Duration;

use serde_json::json;

use super::*;
use crate::mmds::Mmds;
use crate::mmds::guest::{self, Guest, framed, packet, segment};

pub(super) const GET: &[u8] = b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n";
pub(super) const BIG: &[u8] = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
pub(super) const LAST: &[u8] = b"GET /name HTTP/1.0\r\n\r\n";
pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;

/// A guest and the service, and the time of both.
pub(super) struct Pair {
    pub(super) guest: Guest,
    pub(super) stack: Stack,
    pub(super) mmds: Mmds,
    pub(super) now: Duration,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(json!({"name": "value", "big": "x".repeat(50_000)}))
    }

    fn with(data: serde_json::Value) -> Self {
        let (mmds, attachment) = guest::service(data);
        let mut stack = Stack::new(&attachment, 1500, Duration::ZERO);
        stack.take(Duration::ZERO, &guest::arp_request());
        assert_eq!(stack.front().map(<[u8]>::len), Some(42));
        stack.pop(Duration::ZERO);
        Self {
            guest: Guest::new(),
            stack,
            mmds,
            now: Duration::ZERO,
        }
    }

    /// Carries frames both ways until there are none.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_quiet = true;
            while let Some(frame) = self.guest.take(self.now) {
                self.stack.take(self.now, &frame);
                is_quiet = false;
            }
            while let Some(frame) = self.stack.front() {
                self.guest.give(frame);
                self.stack.pop(self.now);
                is_quiet = false;
            }
            if is_quiet {
                return;
            }
        }
        panic!("two ends that do not come to rest");
    }

    /// Lets time pass, and the stack do what is due when it is due.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            let due = self.stack.deadline(self.now).filter(|due| *due <= end);
            self.now = due.unwrap_or(end);
            self.stack.advance(self.now);
            self.settle();
            if due.is_none() {
                return;
            }
        }
        panic!("the stack is always due");
    }

    pub(super) fn connect(&mut self) -> smoltcp::iface::SocketHandle {
        let handle = self.guest.connect(65_535);
        self.settle();
        assert_eq!(self.guest.state(handle), State::Established);
        handle
    }

    pub(super) fn ask(&mut self, handle: smoltcp::iface::SocketHandle, request: &[u8]) -> String {
        self.guest.send(handle, request);
        self.settle();
        String::from_utf8(self.guest.received(handle)).unwrap()
    }

    /// A new connection is answered.
    pub(super) fn serves(&mut self) {
        let handle = self.connect();
        let answer = self.ask(handle, GET);
        assert!(answer.ends_with("\r\n\r\nvalue"), "{answer}");
        self.guest.socket(handle).close();
        self.settle();
    }

    /// What a guest that keeps to no rule sends.
    pub(super) fn inject(&mut self, segment: &[u8]) {
        self.stack.take(self.now, &framed(&packet(segment)));
    }

    /// Takes what the stack sends and does nothing about it; how many frames it was.
    pub(super) fn drop_frames(&mut self) -> usize {
        let mut count = 0;
        while self.stack.front().is_some() {
            self.stack.pop(self.now);
            count += 1;
            assert!(count < 10_000, "frames without end");
        }
        count
    }

    /// **The bounds that hold whatever the guest does.**
    pub(super) fn is_bounded(&self) {
        assert!(self.stack.connections.len() <= MOST_CONNECTIONS);
        let sockets = self.stack.sockets.iter().count();
        assert_eq!(sockets, self.stack.connections.len());
        let metrics = self.mmds.metrics();
        let open = metrics.connections_created.get() - metrics.connections_destroyed.get();
        assert!(open <= u64::try_from(MOST_CONNECTIONS).unwrap());
    }
}

#[test]
fn a_request_is_answered_and_the_connection_stays() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    for _ in 0..3 {
        let answer = pair.ask(handle, GET);
        assert!(answer.starts_with("HTTP/1.1 200 \r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nvalue"), "{answer}");
    }
    assert_eq!(pair.guest.state(handle), State::Established);
    assert_eq!(pair.mmds.metrics().connections_created.get(), 1);
}

#[test]
fn with_the_last_connection_the_buffers_are_gone() {
    let mut pair = Pair::new();
    pair.serves();
    assert_eq!(pair.mmds.metrics().connections_destroyed.get(), 1);
    assert_eq!(pair.stack.sockets.iter().count(), 0);
    assert_eq!(pair.stack.deadline(pair.now), None, "nothing is due");
}

#[test]
fn the_last_answer_of_a_connection_ends_it() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    let answer = pair.ask(handle, LAST);
    assert!(answer.ends_with("\r\n\r\nvalue"), "{answer}");
    assert_eq!(pair.guest.state(handle), State::CloseWait);
    pair.guest.socket(handle).close();
    pair.settle();
    pair.wait(Duration::from_secs(11));
    assert_eq!(pair.stack.connections.len(), 0);
}

#[test]
fn a_guest_that_has_said_all_gets_its_answer() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    pair.guest.send(handle, GET);
    pair.guest.socket(handle).close();
    pair.settle();
    assert!(pair.guest.received(handle).ends_with(b"value"));
    pair.wait(Duration::from_secs(1));
    assert_eq!(pair.stack.connections.len(), 0);
}

#[test]
fn a_request_in_pieces_and_several_in_one_are_answered() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    for byte in GET {
        pair.guest.send(handle, &[*byte]);
        pair.settle();
    }
    assert!(pair.guest.received(handle).ends_with(b"value"));
    let answers = pair.ask(handle, &GET.repeat(200));
    assert_eq!(answers.matches("\r\n\r\nvalue").count(), 200);
}

#[test]
fn a_long_answer_comes_whole_through_any_window_and_queue() {
    for window in [65_535, 3000, 100] {
        let mut pair = Pair::new();
        let handle = pair.guest.connect(window);
        pair.settle();
        pair.guest.send(handle, BIG);
        let mut answer = Vec::new();
        for _ in 0..10_000 {
            pair.settle();
            let part = pair.guest.received(handle);
            if part.is_empty() {
                pair.wait(Duration::from_millis(100));
            }
            answer.extend(part);
            if answer.ends_with(&b"x".repeat(50_000)) {
                break;
            }
        }
        assert!(
            answer.ends_with(&b"x".repeat(50_000)),
            "{window}: {}",
            answer.len()
        );
    }
}

#[test]
fn no_packet_is_longer_than_the_cards_mtu() {
    let (_, attachment) = guest::service(json!({"big": "x".repeat(5000)}));
    let mut stack = Stack::new(&attachment, 1300, Duration::ZERO);
    let mut guest = Guest::new();
    let handle = guest.connect(65_535);
    let mut longest = 0;
    for turn in 0..20 {
        while let Some(frame) = guest.take(Duration::ZERO) {
            stack.take(Duration::ZERO, &frame);
        }
        while let Some(frame) = stack.front() {
            longest = longest.max(frame.len());
            guest.give(frame);
            stack.pop(Duration::ZERO);
        }
        if turn == 2 {
            guest.send(handle, BIG);
        }
    }
    assert_eq!(longest, 1314);
    assert!(guest.received(handle).len() > 5000);
}

#[test]
fn what_gets_lost_is_sent_again() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    pair.guest.send(handle, GET);
    let frame = pair.guest.take(pair.now).unwrap();
    pair.stack.take(pair.now, &frame);
    assert_eq!(pair.drop_frames(), 1, "the answer with the acknowledgement");
    pair.wait(Duration::from_secs(2));
    assert!(pair.guest.received(handle).ends_with(b"value"));
}

#[test]
fn another_port_is_refused() {
    let mut pair = Pair::new();
    let mut syn = segment(4000, 1, 0, SYN, &[]);
    syn[2..4].copy_from_slice(&443_u16.to_be_bytes());
    pair.inject(&syn);
    let reply = pair.stack.front().unwrap();
    assert_eq!(reply[14 + 20 + 13] & 4, 4, "a reset");
    assert_eq!(pair.stack.connections.len(), 0);
}

#[test]
fn whoever_comes_last_gets_the_place_of_the_idlest() {
    let mut pair = Pair::new();
    let handles = [(); MOST_CONNECTIONS].map(|()| {
        pair.now += Duration::from_secs(1);
        pair.connect()
    });
    // The first one gets on; so the second is the idlest.
    pair.now += Duration::from_secs(1);
    assert!(pair.ask(handles[0], GET).ends_with("value"));
    pair.serves();
    assert_eq!(pair.guest.state(handles[0]), State::Established);
    assert_eq!(pair.guest.state(handles[1]), State::Closed, "it was told");
    pair.is_bounded();
}

#[test]
fn an_idle_connection_is_closed_and_then_reset() {
    let mut pair = Pair::new();
    let handle = pair.connect();
    pair.wait(Duration::from_secs(59));
    assert_eq!(pair.guest.state(handle), State::Established);
    pair.wait(Duration::from_secs(2));
    assert_eq!(pair.guest.state(handle), State::CloseWait);
    pair.wait(Duration::from_secs(61));
    assert_eq!(pair.stack.connections.len(), 0);
}
