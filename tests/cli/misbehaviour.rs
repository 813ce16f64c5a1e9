//! A socket behind which is no VM, or one that hangs or lies: a sentence, and never a wait without end.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use crate::fake::{Place, ok, serve, stderr};

/// What `ravelin ctl` says of a socket whose server sends `bytes`.
fn said_of(bytes: &str) -> String {
    let place = Place::new();
    let bytes = bytes.to_owned();
    serve(
        UnixListener::bind(place.socket("web")).unwrap(),
        move |_| bytes.clone(),
    );
    said(&place, "config")
}

fn said(place: &Place, verb: &str) -> String {
    let socket = place.socket("web");
    let socket = socket.to_str().unwrap();
    let output = place.ravelin(&["ctl", "--sock", socket, "--timeout", "2s", verb]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_socket_that_does_not_exist_is_named() {
    let text = said(&Place::new(), "pause");
    assert!(
        text.contains("web.sock does not exist: `ravelin ps` shows"),
        "{text}"
    );
}

#[test]
fn a_socket_that_nobody_serves_is_named() {
    let place = Place::new();
    drop(UnixListener::bind(place.socket("web")).unwrap());
    let text = said(&place, "pause");
    assert!(text.contains("any more: its VM has ended"), "{text}");
}

#[test]
fn a_vm_that_does_not_answer_is_waited_for_no_longer_than_asked() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.socket("web")).unwrap();
    let socket = place.socket("web");
    let socket = socket.to_str().unwrap();
    let output = place.ravelin(&["ctl", "--sock", socket, "--timeout", "50ms", "pause"]);
    let text = stderr(&output);
    assert!(text.contains("has not answered within 50ms"), "{text}");
}

#[test]
fn a_vm_that_answers_a_byte_at_a_time_is_late_too() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket("web")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Each byte is read before the next is sent: the client is never without one for long.
        while stream.write_all(b"H").is_ok() {
            thread::yield_now();
        }
    });
    let text = said(&place, "config");
    assert!(
        text.contains("not HTTP") || text.contains("not answered"),
        "{text}"
    );
}

#[test]
fn a_socket_with_a_full_queue_is_not_waited_for() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket("web")).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(place.socket("web")).unwrap();
    let text = said(&place, "pause");
    assert!(text.contains("takes no more connections"), "{text}");
}

#[test]
fn what_is_not_http_is_no_vm() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 \r\nContent-Length: x\r\n\r\n",
    ] {
        let text = said_of(bytes);
        assert!(
            text.contains("is no VM: its answer is not HTTP"),
            "{bytes}: {text}"
        );
    }
}

#[test]
fn what_is_not_json_where_json_is_due_is_no_vm() {
    assert!(said_of(&ok("<html>")).contains("is no VM"));
}

#[test]
fn an_answer_that_is_cut_off_is_told() {
    for bytes in [
        "",
        "HTTP/1.1 200 \r\nContent-",
        "HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\n{}",
    ] {
        let text = said_of(bytes);
        assert!(
            text.contains("the connection ended before"),
            "{bytes}: {text}"
        );
    }
}

#[test]
fn an_answer_without_end_is_left() {
    let announced = said_of("HTTP/1.1 200 \r\nContent-Length: 99999999999999\r\n\r\n");
    assert!(
        announced.contains("more than 16777216 bytes"),
        "{announced}"
    );
    let place = Place::new();
    let listener = UnixListener::bind(place.socket("web")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 \r\n\r\n");
        while stream.write_all(&[b'1'; 65_536]).is_ok() {}
    });
    let socket = place.socket("web");
    let output = place.ravelin(&["ctl", "--sock", socket.to_str().unwrap(), "config"]);
    let text = stderr(&output);
    assert!(text.contains("more than 16777216 bytes"), "{text}");
}

#[test]
fn a_head_without_end_is_left() {
    let text = said_of(&format!("HTTP/1.1 200 \r\n{}", "X: y\r\n".repeat(60)));
    assert!(text.contains("the connection ended before"), "{text}");
    let text = said_of(&format!("HTTP/1.1 200 \r\nX: {}", "y".repeat(20_000)));
    assert!(text.contains("not HTTP"), "{text}");
}

#[test]
fn nothing_that_a_vm_says_is_obeyed_by_the_terminal() {
    let text = said_of(
        "HTTP/1.1 400 \r\nContent-Length: 32\r\n\r\n{\"fault_message\":\"\\u001b[2Jx\\ny\"}",
    );
    assert!(
        text.contains("\\u{1b}[2Jx") && !text.contains('\x1b'),
        "{text:?}"
    );
}
