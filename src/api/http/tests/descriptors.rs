//! Descriptors that come with requests.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::pipe;

use super::*;

/// Writes each descriptor's place into it, and answers with their number.
struct Numbers;

impl Service for Numbers {
    fn call(&mut self, request: Request) -> Answer {
        for (place, fd) in request.fds.iter().enumerate() {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            rustix::io::write(fd, place.to_string().as_bytes()).unwrap();
        }
        Answer::Response(Response::text(200, request.fds.len().to_string()))
    }
}

fn send_with(client: &Client, bytes: &str, fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(40))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let part = [IoSlice::new(bytes.as_bytes())];
    let sent = sendmsg(&client.stream, &part, &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}

#[test]
fn descriptors_reach_the_service_in_their_order_and_are_closed_after_it() {
    let server = start_with(Limits::default(), None, Numbers);
    let mut client = server.client();
    let (one, one_end) = pipe().unwrap();
    let (two, two_end) = pipe().unwrap();
    let request = "PUT /a HTTP/1.1\r\n\r\n";
    send_with(&client, request, &[one_end.as_fd(), two_end.as_fd()]);
    assert_eq!(client.reply().body, "2");
    drop((one_end, two_end));
    // The end of the pipe says that the server holds its other end no more.
    for (pipe, text) in [(one, "0"), (two, "1")] {
        let mut got = String::new();
        File::from(pipe).read_to_string(&mut got).unwrap();
        assert_eq!(got, text);
    }
}

#[test]
fn descriptors_belong_to_the_request_they_came_with() {
    let server = start_with(Limits::default(), None, Numbers);
    let mut client = server.client();
    let (_pipe, end) = pipe().unwrap();
    client.send("GET /a HTTP/1.1\r\n\r\n");
    send_with(&client, "GET /b HTTP/1.1\r\n\r\n", &[end.as_fd()]);
    client.send("GET /c HTTP/1.1\r\n\r\n");
    let counts = [(); 3].map(|()| client.reply().body);
    assert_eq!(counts, ["0", "1", "0"]);
}

#[test]
fn descriptors_may_come_in_parts() {
    let server = start_with(Limits::default(), None, Numbers);
    let mut client = server.client();
    let (_pipe, end) = pipe().unwrap();
    let fd = [end.as_fd()];
    send_with(&client, "PUT /a HTTP/1.1\r\n", &fd);
    send_with(&client, "Content-Length: 2\r\n\r\n", &fd);
    send_with(&client, "{}", &fd);
    assert_eq!(client.reply().body, "3");
}

#[test]
fn surplus_descriptors_are_closed() {
    let server = start_with(Limits::default(), None, Numbers);
    let mut client = server.client();
    let (pipe, end) = pipe().unwrap();
    let many = [end.as_fd(); 40];
    send_with(&client, "PUT /a HTTP/1.1\r\n", &many);
    send_with(&client, "\r\n", &many);
    assert_eq!(client.reply().body, MAX_FDS.to_string());
    drop(end);
    let mut got = String::new();
    File::from(pipe).read_to_string(&mut got).unwrap();
    assert_eq!(got, "0123456789101112131415");
}

#[test]
fn descriptors_of_a_refused_request_are_closed() {
    let server = start_with(Limits::default(), None, Numbers);
    let mut client = server.client();
    let (pipe, end) = pipe().unwrap();
    send_with(&client, "POST /a HTTP/1.1\r\n", &[end.as_fd()]);
    send_with(&client, "\r\n", &[end.as_fd()]);
    assert_eq!(client.reply().status(), "400");
    send_with(&client, "more", &[end.as_fd()]);
    drop(end);
    let mut got = String::new();
    File::from(pipe).read_to_string(&mut got).unwrap();
    assert_eq!(got, "");
}
