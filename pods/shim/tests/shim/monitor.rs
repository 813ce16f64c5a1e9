//! A monitor that has no guest: it answers every request, and behind its vsock socket stands [`crate::agent`].

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use serde_json::Value;

use crate::agent;

/// Serves as `ravelin api` does, until it is killed.
pub(crate) fn run(words: &[String]) {
    let value = |flag: &str| {
        words
            .iter()
            .skip_while(|word| *word != flag)
            .nth(1)
            .cloned()
            .unwrap()
    };
    let listener = UnixListener::bind(value("--api-sock")).unwrap();
    let mut ready = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{}", value("--ready-fd")))
        .unwrap();
    ready.write_all(b"ready\n").unwrap();
    println!("a fake's console");
    for client in listener.incoming() {
        serve(client.unwrap());
    }
}

fn serve(client: UnixStream) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut writer = client;
    let mut vsock = String::new();
    while let Some((head, body)) = request(&mut reader) {
        if head.contains("/vsock") {
            let body: Value = serde_json::from_slice(&body).unwrap();
            body["uds_path"].as_str().unwrap().clone_into(&mut vsock);
            let listener = UnixListener::bind(&vsock).unwrap();
            thread::spawn(move || listener.incoming().for_each(|one| join(one.unwrap())));
        }
        writer.write_all(b"HTTP/1.1 204 \r\n\r\n").unwrap();
        if head.contains("/actions") {
            agent::boot(&vsock);
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(text) = line.strip_prefix("Content-Length: ") {
            length = text.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some((head, body))
}

/// A connection from the host to a port of the guest.
fn join(mut stream: UnixStream) {
    thread::spawn(move || {
        let port = line(&mut stream);
        stream.write_all(b"OK 1073741824\n").unwrap();
        match port.as_str() {
            "CONNECT 1024" => agent::serve(stream),
            _ => agent::take_stream(stream),
        }
    });
}

/// A line, without its end.
pub(crate) fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}
