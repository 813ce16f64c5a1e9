//! Deadlines, on a clock of the test's own.

use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::super::connection::Connection;
use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

/// A connection and its client.
fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // As a server's client is.
    ours.set_nonblocking(true).unwrap();
    let fd = OwnedFd::from(ours);
    let peer = Peer::of(&fd).unwrap();
    (Connection::new(fd, peer, &Limits::default()), theirs)
}

fn hear(connection: &mut Connection, client: &mut UnixStream, bytes: &[u8], now: Instant) {
    client.write_all(bytes).unwrap();
    connection.ready(EventFlags::IN, now);
}

#[test]
fn a_client_that_trickles_has_no_more_time() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    for second in 0..10 {
        let now = start + Duration::from_secs(second);
        hear(&mut connection, &mut client, b"G", now);
        assert!(connection.next().is_none());
        assert_eq!(connection.settle(now), Some(EventFlags::IN));
    }
    assert!(connection.settle(start + LIMIT - MOMENT).is_some());
    assert!(connection.settle(start + LIMIT).is_none());
}

#[test]
fn an_answer_that_is_taken_ends_the_deadline() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    hear(
        &mut connection,
        &mut client,
        b"GET / HTTP/1.1\r\n\r\n",
        start,
    );
    let (_, terms) = connection.next().unwrap();
    connection.answer(&Response::no_content(), terms);
    assert_eq!(connection.settle(start), Some(EventFlags::IN));
    assert_eq!(connection.deadline(), None);
    assert!(connection.settle(start + 1000 * LIMIT).is_some());
}

#[test]
fn an_answer_must_be_taken_in_time() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    hear(
        &mut connection,
        &mut client,
        b"GET / HTTP/1.1\r\n\r\n",
        start,
    );
    let (_, terms) = connection.next().unwrap();
    connection.answer(&Response::text(200, vec![b'x'; LARGE]), terms);
    let answered = start + Duration::from_secs(5);
    assert_eq!(connection.settle(answered), Some(EventFlags::OUT));
    assert!(connection.settle(answered + LIMIT - MOMENT).is_some());
    assert!(connection.settle(answered + LIMIT).is_none());
}

#[test]
fn the_next_requests_time_begins_when_the_answer_before_it_is_taken() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    hear(
        &mut connection,
        &mut client,
        b"GET / HTTP/1.1\r\n\r\nGE",
        start,
    );
    let (_, terms) = connection.next().unwrap();
    connection.answer(&Response::no_content(), terms);
    let later = start + Duration::from_secs(7);
    assert!(connection.settle(later).is_some());
    assert!(connection.next().is_none());
    assert_eq!(connection.deadline(), Some(later + LIMIT));
}

#[test]
fn time_that_the_server_spends_is_given_back() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    hear(&mut connection, &mut client, b"GE", start);
    connection.forgive(3 * LIMIT);
    assert!(connection.settle(start + 4 * LIMIT - MOMENT).is_some());
    assert!(connection.settle(start + 4 * LIMIT).is_none());
}

#[test]
fn a_100_gives_no_more_time() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    let head = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    hear(&mut connection, &mut client, head, start);
    assert!(connection.next().is_none());
    assert!(connection.settle(start + LIMIT - MOMENT).is_some());
    assert!(connection.settle(start + LIMIT).is_none());
}

#[test]
fn a_client_that_was_wrong_has_a_second_to_leave() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    hear(
        &mut connection,
        &mut client,
        b"POST / HTTP/1.1\r\n\r\n",
        start,
    );
    assert!(connection.next().is_none());
    assert_eq!(connection.settle(start), Some(EventFlags::IN));
    assert!(connection.is_leaving());
    let second = Duration::from_secs(1);
    hear(&mut connection, &mut client, b"whatever", start);
    assert!(connection.settle(start + second - MOMENT).is_some());
    assert!(connection.settle(start + second).is_none());
}

#[test]
fn a_stream_has_no_deadline_however_slow_its_reader_is() {
    let (mut connection, mut client) = pair();
    let start = Instant::now();
    hear(
        &mut connection,
        &mut client,
        b"GET / HTTP/1.1\r\n\r\n",
        start,
    );
    let (_, terms) = connection.next().unwrap();
    connection.stream(terms);
    let event = "x".repeat(1000);
    for _ in 0..1000 {
        connection.offer(0, std::iter::once(event.as_str()));
        assert!(connection.settle(start).is_some());
    }
    assert_eq!(
        connection.settle(start + 1000 * LIMIT),
        Some(EventFlags::OUT)
    );
}
