//! Requests and their answers.

use super::*;

#[test]
fn a_request_is_answered_in_firecrackers_form() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}");
    let reply = client.reply();
    assert_eq!(
        reply.head,
        "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
         Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 9\r\n\r\n"
    );
    assert_eq!(reply.body, "Put /a {}");
}

#[test]
fn a_connection_serves_many_requests() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    for number in 0..100 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path).body, format!("Get {path} "));
        assert_eq!(client.get("/nothing").status(), "204");
    }
}

#[test]
fn requests_sent_together_are_answered_in_order() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    let mut all = String::new();
    for number in 0..500 {
        all += &format!("PATCH /{number} HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    }
    client.send(all);
    for number in 0..500 {
        assert_eq!(client.reply().body, format!("Patch /{number} abc"));
    }
}

#[test]
fn a_request_may_be_cut_at_every_byte() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    let whole = b"DELETE /drives/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";
    for cut in 1..whole.len() {
        client.send(&whole[..cut]);
        // Another client's answer: the server has seen the first part by now.
        assert_eq!(server.client().get("/nothing").status(), "204");
        client.send(&whole[cut..]);
        assert_eq!(client.reply().body, "Delete /drives/a body", "{cut}");
    }
}

#[test]
fn close_is_honoured_and_said() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n");
    let reply = client.reply();
    assert!(reply.head.contains("\r\nConnection: close\r\n"));
    assert_eq!(client.rest(), "");
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /a HTTP/1.0\r\n\r\n");
    assert!(client.rest().ends_with("\r\n\r\nGet /a "));
}

#[test]
fn a_client_that_ends_its_side_still_gets_every_answer() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    client.finish_sending();
    assert_eq!(client.reply().body, "Get /a ");
    assert_eq!(client.reply().body, "Get /b ");
    assert_eq!(client.rest(), "");
}

#[test]
fn who_waits_for_a_100_gets_it_before_the_body() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(
        client.head(),
        "HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"
    );
    client.send("body");
    assert_eq!(client.reply().body, "Put /a body");
}

#[test]
fn an_answer_larger_than_the_sockets_buffer_arrives_whole() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /large HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
    assert_eq!(client.reply().body.len(), LARGE);
    assert_eq!(client.reply().body, "Get /a ");
}

#[test]
fn a_large_body_arrives_whole() {
    let server = start(Limits::default(), None);
    let mut client = server.client();
    let body = "0123456789".repeat(DEFAULT_PAYLOAD / 10);
    client.send(format!(
        "PUT /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.reply().body, format!("Put /a {body}"));
}

#[test]
fn an_adopted_listener_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed");
    let made = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::adopt(made.into()).unwrap();
    let mut server = Server::new(listener, Limits::default(), None).unwrap();
    let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(&mut Echo, stop.as_fd()).unwrap());
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /a HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("Get /a "), "{text}");
        rustix::io::write(&stop, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(serving.join().unwrap(), Ending::Stopped);
    });
    drop(server);
    assert!(path.exists(), "an adopted socket's file is its maker's");
}
