//! How a server ends.

use super::*;

#[test]
fn stop_ends_it_and_takes_the_file_away() {
    let mut server = start(Limits::default(), None);
    let mut client = server.client();
    assert_eq!(client.get("/nothing").status(), "204");
    server.stop();
    let (ending, ended) = server.ended();
    assert_eq!(ending, Ending::Stopped);
    assert_eq!(client.rest(), "");
    assert!(server.path.exists());
    drop(ended);
    assert!(!server.path.exists());
}

#[test]
fn the_last_answer_is_read_though_the_server_has_ended() {
    let mut server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /last HTTP/1.1\r\n\r\n");
    let (ending, ended) = server.ended();
    drop(ended);
    assert_eq!(ending, Ending::Last);
    let reply = client.reply();
    assert_eq!(reply.status(), "400");
    assert_eq!(reply.body, "{\"fault_message\":\"the end\"}");
    assert_eq!(client.rest(), "");
}

#[test]
fn an_answer_that_is_half_written_is_finished_first() {
    let mut server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /large HTTP/1.1\r\n\r\n");
    let head = client.head();
    server.stop();
    assert!(head.contains("Content-Length: 2097152\r\n"), "{head}");
    assert_eq!(client.rest().len(), LARGE);
    assert_eq!(server.ended().0, Ending::Stopped);
}

#[test]
fn a_client_that_does_not_read_cannot_hold_the_end_up() {
    let mut server = start(Limits::default(), None);
    let mut client = server.client();
    client.send("GET /large HTTP/1.1\r\n\r\n");
    client.head();
    server.stop();
    assert_eq!(server.ended().0, Ending::Stopped);
    assert!(client.rest().len() < LARGE);
}
