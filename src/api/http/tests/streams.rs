//! Event streams.

use super::*;

fn streaming() -> (EventSink, Running) {
    let (sink, source) = events().unwrap();
    (sink, start(Limits::default(), Some(source)))
}

impl Client {
    fn subscribe(&mut self) -> String {
        self.send("GET /events HTTP/1.1\r\n\r\n");
        self.head()
    }

    /// The next event, out of its chunk.
    fn event(&mut self) -> String {
        let line = self.take(|bytes| {
            bytes
                .windows(2)
                .position(|two| two == b"\r\n")
                .map(|at| at + 2)
        });
        let line = String::from_utf8(line).unwrap();
        let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let chunk = self.take(|bytes| (bytes.len() >= length + 2).then_some(length + 2));
        let text = String::from_utf8(chunk).unwrap();
        text.strip_suffix("\n\n\r\n").unwrap().to_owned()
    }
}

#[test]
fn every_stream_gets_every_event_from_its_beginning_on() {
    let (sink, server) = streaming();
    let mut one = server.client();
    assert_eq!(
        one.subscribe(),
        "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
         Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    sink.send("event: a\ndata: 1");
    assert_eq!(one.event(), "event: a\ndata: 1");
    let mut two = server.client();
    two.subscribe();
    sink.send("event: b\ndata: 2");
    assert_eq!(one.event(), "event: b\ndata: 2");
    assert_eq!(two.event(), "event: b\ndata: 2");
}

#[test]
fn a_client_of_http_1_0_gets_its_events_without_chunks() {
    let (sink, server) = streaming();
    let mut client = server.client();
    client.send("GET /events HTTP/1.0\r\n\r\n");
    assert!(client.head().contains("\r\nConnection: close\r\n"));
    sink.send("data: 1");
    let end = |bytes: &[u8]| (bytes.len() >= 9).then_some(9);
    assert_eq!(client.take(end), b"data: 1\n\n");
}

#[test]
fn the_fifth_stream_is_refused_and_its_connection_stays() {
    let (sink, server) = streaming();
    let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| server.client()).collect();
    for stream in &mut streams {
        stream.subscribe();
    }
    let mut fifth = server.client();
    let reply = fifth.get("/events");
    assert_eq!(reply.status(), "503");
    assert_eq!(
        reply.body,
        "{\"fault_message\":\"All 4 event streams are taken. Close one of them.\"}"
    );
    drop(streams.pop());
    // Until the server has seen the other go.
    while fifth.get("/events").status() == "503" {}
    sink.send("data: 1");
    assert_eq!(fifth.event(), "data: 1");
}

#[test]
fn without_a_source_there_is_no_stream() {
    let server = start(Limits::default(), None);
    let reply = server.client().get("/events");
    assert_eq!(reply.status(), "400");
}

#[test]
fn streams_count_among_the_connections() {
    let (_sink, server) = streaming();
    let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| server.client()).collect();
    for stream in &mut streams {
        stream.subscribe();
    }
    let mut others: Vec<_> = (MAX_STREAMS..MAX_CONNECTIONS)
        .map(|_| server.client())
        .collect();
    for other in &mut others {
        assert_eq!(other.get("/nothing").status(), "204");
    }
    assert_eq!(server.client().reply().status(), "503");
}

#[test]
fn a_reader_that_falls_behind_loses_events_and_is_told_how_many() {
    let (sink, server) = streaming();
    let (mut slow, mut probe) = (server.client(), server.client());
    slow.subscribe();
    let filling = "x".repeat(1000);
    let sent = 2000;
    for number in 0..sent {
        sink.send(format!("id: {number}\ndata: {filling}"));
        // The server keeps up, so what is lost is lost to the reader alone.
        if number % 50 == 0 {
            assert_eq!(probe.get("/nothing").status(), "204");
        }
    }
    let mut got = 0;
    let lost = loop {
        let event = slow.event();
        match event.strip_prefix("event: lost\ndata: ") {
            Some(count) => break count.parse::<usize>().unwrap(),
            None => {
                assert!(event.starts_with(&format!("id: {got}\n")), "{event}");
                got += 1;
            }
        }
    };
    assert!(lost > 0);
    assert_eq!(got + lost, sent);
    sink.send("data: again");
    assert_eq!(slow.event(), "data: again");
}

#[test]
fn a_stream_ends_in_order_when_the_server_does() {
    let (_sink, server) = streaming();
    let mut client = server.client();
    client.subscribe();
    server.stop();
    assert_eq!(client.rest(), "0\r\n\r\n");
}

#[test]
fn events_without_a_stream_go_nowhere_and_cost_nothing() {
    let (sink, server) = streaming();
    for _ in 0..10_000 {
        sink.send("data: 1");
    }
    assert_eq!(server.client().get("/nothing").status(), "204");
}
