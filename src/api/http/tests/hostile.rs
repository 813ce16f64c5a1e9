//! Clients that are wrong, slow, silent or many.

use super::*;

fn patient(millis: u64) -> Limits {
    Limits {
        deadline: Duration::from_millis(millis),
        ..Limits::default()
    }
}

fn error(text: &str) -> String {
    format!("{{ \"error\": \"{text}\nAll previous unanswered requests will be dropped.\" }}")
}

#[test]
fn an_error_of_http_is_answered_and_the_connection_closed() {
    let server = start(Limits::default(), None);
    for (request, text) in [
        (
            "POST /a HTTP/1.1\r\n\r\n",
            "Invalid HTTP Method: Unsupported HTTP method.",
        ),
        (
            "HEAD /a HTTP/1.1\r\n\r\n",
            "Invalid HTTP Method: Unsupported HTTP method.",
        ),
        (
            "GET /a HTTP/3.0\r\n\r\n",
            "Invalid HTTP Version: Unsupported HTTP version.",
        ),
        ("nonsense\r\n\r\n", "Invalid request."),
        (
            "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "Invalid header. Reason: Unsupported feature. Key: Transfer-Encoding; Value: chunked",
        ),
    ] {
        let mut client = server.client();
        client.send(request);
        let reply = client.reply();
        assert_eq!(reply.status(), "400", "{request}");
        assert_eq!(reply.body, error(text), "{request}");
        assert_eq!(client.rest(), "", "{request}");
    }
}

#[test]
fn an_error_comes_after_the_answers_before_it() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n");
    assert_eq!(client.reply().body, "Get /a ");
    assert_eq!(client.reply().status(), "400");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let limits = Limits {
        payload: 250,
        ..Limits::default()
    };
    let server = start(limits, None);
    let mut client = server.client();
    client.send("PUT /mmds HTTP/1.1\r\nContent-Length: 260\r\n\r\n");
    let reply = client.reply();
    assert!(reply.head.contains("\r\nContent-Length: 145\r\n"));
    assert_eq!(
        reply.body,
        error("Request payload with size 260 is larger than the limit of 250 allowed by server.")
    );
}

#[test]
fn who_sends_a_refused_body_all_the_same_still_reads_the_refusal() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("PUT /mmds HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 1_000_000]);
    assert_eq!(client.reply().status(), "400");
}

#[test]
fn a_head_without_end_is_refused_at_its_limit() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /");
    client.send(vec![b'a'; MAX_HEAD - 5]);
    assert_eq!(
        client.reply().body,
        error(
            "Invalid header. Reason: Request line and headers are larger than the limit of 8192 bytes."
        )
    );
}

#[test]
fn a_request_that_does_not_come_to_its_end_costs_the_connection() {
    let server = start(patient(30), None);
    for part in ["\r\n", "GE", "GET /a HTTP/1.1\r\n"] {
        let mut client = server.client();
        client.send(part);
        assert_eq!(client.rest(), "", "{part}");
    }
    let mut client = server.client();
    client.send("PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(client.rest(), "");
}

#[test]
fn an_idle_connection_has_no_deadline() {
    let server = start(patient(1), None);
    let mut idle = server.client();
    assert_eq!(idle.get("/nothing").status(), "204");
    // The deadline of this one passes meanwhile.
    let mut slow = server.client();
    slow.send("G");
    assert_eq!(slow.rest(), "");
    assert_eq!(idle.get("/nothing").status(), "204");
}

#[test]
fn a_client_that_does_not_take_its_answer_is_dropped() {
    let server = start(patient(30), None);
    let mut client = server.client();
    client.send("GET /large HTTP/1.1\r\n\r\n");
    // All ten places are free again once it is gone.
    let mut others: Vec<_> = (1..MAX_CONNECTIONS).map(|_| server.client()).collect();
    for other in &mut others {
        assert_eq!(other.get("/nothing").status(), "204");
    }
    let mut slow = server.client();
    let status = loop {
        match slow.stream.write_all(b"GET /nothing HTTP/1.1\r\n\r\n") {
            Ok(()) => match slow.reply().status() {
                "503" => slow = server.client(),
                status => break status.to_owned(),
            },
            Err(_) => slow = server.client(),
        }
    };
    assert_eq!(status, "204");
    assert!(client.rest().len() < LARGE);
}

#[test]
fn the_eleventh_connection_gets_a_503() {
    let server = start(Limits::default(), None);
    let mut clients: Vec<_> = (0..MAX_CONNECTIONS).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/nothing").status(), "204");
    }
    let mut eleventh = server.client();
    let reply = eleventh.reply();
    assert_eq!(reply.status(), "503");
    assert_eq!(reply.body, "{ \"error\": \"Too many open connections\" }");
    assert!(reply.head.contains("\r\nConnection: close\r\n"));
    assert_eq!(eleventh.rest(), "");
    for client in &mut clients {
        assert_eq!(client.get("/nothing").status(), "204");
    }
}

#[test]
fn a_place_is_free_again_when_its_client_has_gone() {
    let server = start(Limits::default(), None);
    for _ in 0..5 * MAX_CONNECTIONS {
        assert_eq!(server.client().get("/nothing").status(), "204");
    }
}

#[test]
fn connections_that_are_leaving_take_no_place() {
    let server = start(Limits::default(), None);
    let mut wrong = Vec::new();
    for _ in 0..3 * MAX_CONNECTIONS {
        // Each stays open on its own side.
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\n\r\n");
        assert_eq!(client.reply().status(), "400");
        wrong.push(client);
    }
    assert_eq!(server.client().get("/nothing").status(), "204");
}

#[test]
fn a_thousand_connections_do_no_harm() {
    let server = start(Limits::default(), None);
    let mut first = server.client();
    assert_eq!(first.get("/nothing").status(), "204");
    for _ in 0..10 {
        let crowd: Vec<_> = (0..100).map(|_| server.client()).collect();
        assert_eq!(first.get("/nothing").status(), "204");
        drop(crowd);
    }
    assert_eq!(first.get("/nothing").status(), "204");
}

#[test]
fn an_empty_list_of_users_still_lets_our_own_in() {
    let limits = Limits {
        allowed_uids: Some(Vec::new()),
        ..Limits::default()
    };
    let server = start(limits, None);
    assert_eq!(server.client().get("/nothing").status(), "204");
}
