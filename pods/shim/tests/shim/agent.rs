//! An agent without a guest. Its containers run nothing: what a command does is written here, by its first word.
//!
//! | command | does |
//! | --- | --- |
//! | `exit N` | ends at once |
//! | `say TEXT` | prints it |
//! | `print N` | prints N bytes |
//! | `cat` | prints what it reads |
//! | `sleep` | ends when it is signalled |
//!
//! How it lies, by the variable `FAKE`: see [`Lie`].

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use protobuf::Message;
use protocol::api::{
    CreateRequest, Empty, Event, ExecRequest, ProcessRequest, SignalRequest, StartReply,
    StatsReply, VersionReply, WaitReply,
};
use serde_json::Value;
use ttrpc::{Request, Response};

use crate::monitor::line;

/// How an agent misbehaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Not at all.
    None,
    /// It never calls.
    NoCall,
    /// It never answers `Create`.
    Mute,
    /// It sends answers that nobody has asked for, without end.
    Flood,
    /// It says that 4 GiB follow.
    Length,
    /// It answers `Create` with what is no message.
    Garbage,
    /// It answers `Start` twice.
    Twice,
    /// It hangs up once a container runs.
    HangUp,
    /// It reports a want of memory as fast as it is asked.
    Events,
    /// Its containers print after they have ended, without end.
    Endless,
    /// A container's streams are never closed.
    Open,
    /// No process ever ends, whatever the signal.
    Immortal,
    /// It speaks another version.
    Version,
    /// It takes no streams, and says a lot about it.
    NoStreams,
}

fn lie() -> Lie {
    match std::env::var("FAKE").unwrap_or_default().as_str() {
        "no-call" => Lie::NoCall,
        "mute" => Lie::Mute,
        "flood" => Lie::Flood,
        "length" => Lie::Length,
        "garbage" => Lie::Garbage,
        "twice" => Lie::Twice,
        "hang-up" => Lie::HangUp,
        "events" => Lie::Events,
        "endless" => Lie::Endless,
        "open" => Lie::Open,
        "immortal" => Lie::Immortal,
        "version" => Lie::Version,
        "no-streams" => Lie::NoStreams,
        _ => Lie::None,
    }
}

#[derive(Default)]
struct Process {
    args: Vec<String>,
    streams: HashMap<String, UnixStream>,
    status: Option<u32>,
}

/// Processes by container and name, and a bell for each change.
#[derive(Default)]
struct World {
    processes: Mutex<HashMap<String, Process>>,
    bell: Condvar,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::default)
}

impl World {
    fn change<T>(&self, name: &str, act: impl FnOnce(&mut Process) -> T) -> T {
        let done = act(self
            .processes
            .lock()
            .unwrap()
            .entry(name.to_owned())
            .or_default());
        self.bell.notify_all();
        done
    }

    fn await_status(&self, name: &str) -> u32 {
        let status =
            |all: &mut HashMap<String, Process>| all.get(name).and_then(|process| process.status);
        let all = self
            .bell
            .wait_while(self.processes.lock().unwrap(), |all| status(all).is_none())
            .unwrap();
        all.get(name).and_then(|process| process.status).unwrap()
    }
}

/// The guest is there: its agent calls the host, and keeps the connection.
pub(crate) fn boot(vsock: &str) {
    if lie() == Lie::NoCall {
        return;
    }
    let call = UnixStream::connect(format!("{vsock}_1024")).unwrap();
    thread::spawn(move || {
        let _held = call;
        match lie() {
            Lie::HangUp => assert_eq!(world().await_status("hung-up -"), 0),
            _ => loop {
                thread::park();
            },
        }
    });
}

/// A connection that carries a standard stream.
pub(crate) fn take_stream(mut stream: UnixStream) {
    let words = line(&mut stream);
    let (name, kind) = words.rsplit_once(' ').unwrap();
    if lie() == Lie::NoStreams {
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
        return;
    }
    stream.write_all(b"OK\n").unwrap();
    world().change(name, |process| {
        process.streams.insert(kind.to_owned(), stream)
    });
}

/// A connection that carries requests.
pub(crate) fn serve(mut stream: UnixStream) {
    let mut header = [0; 10];
    while stream.read_exact(&mut header).is_ok() {
        let [a, b, c, d, e, f, g, h, ..] = header;
        let mut body = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
        stream.read_exact(&mut body).unwrap();
        let (request, number) = (
            Request::parse_from_bytes(&body).unwrap(),
            u32::from_be_bytes([e, f, g, h]),
        );
        let mut out = stream.try_clone().unwrap();
        thread::spawn(move || answer(&mut out, number, &request));
    }
}

fn answer(out: &mut UnixStream, number: u32, request: &Request) {
    match (lie(), request.method.as_str()) {
        (Lie::Mute, "Create") => return,
        (Lie::Flood, "Create") => while send(out, 9, &vec![7; 1 << 20]) {},
        (Lie::Length, "Create") => {
            let _ = out.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 2, 0]);
            let _ = out.write_all(&[0; 1 << 20]);
            return;
        }
        (Lie::Garbage, "Create") => {
            send(out, number, &[0xff; 100]);
            return;
        }
        _ => {}
    }
    let reply = reply(&request.method, &request.payload);
    let sent = || send(&mut out.try_clone().unwrap(), number, &reply);
    sent();
    if lie() == Lie::Twice && request.method == "Start" {
        sent();
    }
}

fn send(out: &mut UnixStream, number: u32, payload: &[u8]) -> bool {
    let response = Response {
        payload: payload.to_owned(),
        ..Default::default()
    };
    let body = response.write_to_bytes().unwrap();
    let mut message = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    message.extend(number.to_be_bytes());
    message.extend([2, 0]);
    message.extend(body);
    out.write_all(&message).is_ok()
}

fn reply(method: &str, payload: &[u8]) -> Vec<u8> {
    let name = |request: &ProcessRequest| key(&request.container, &request.exec);
    let process = || name(&ProcessRequest::parse_from_bytes(payload).unwrap());
    match method {
        "Version" => bytes(&VersionReply {
            protocol: if lie() == Lie::Version {
                99
            } else {
                protocol::PROTOCOL
            },
            ..Default::default()
        }),
        "Create" => {
            let request = CreateRequest::parse_from_bytes(payload).unwrap();
            let spec: Value = serde_json::from_slice(&request.spec).unwrap();
            add(&key(&request.container, ""), &spec["process"])
        }
        "Exec" => {
            let request = ExecRequest::parse_from_bytes(payload).unwrap();
            add(
                &key(&request.container, &request.exec),
                &serde_json::from_slice(&request.process).unwrap(),
            )
        }
        "Start" => {
            let name = process();
            thread::spawn(move || run(&name));
            bytes(&StartReply {
                pid: 7,
                ..Default::default()
            })
        }
        "Wait" => bytes(&WaitReply {
            status: world().await_status(&process()),
            ..Default::default()
        }),
        "Signal" => {
            let request = SignalRequest::parse_from_bytes(payload).unwrap();
            if lie() != Lie::Immortal {
                end(
                    &key(&request.container, &request.exec),
                    128 + request.signal,
                );
            }
            bytes(&Empty::new())
        }
        "Stats" => bytes(&StatsReply {
            memory_bytes: 4096,
            pids: 1,
            ..Default::default()
        }),
        "NextEvent" if lie() == Lie::Events => bytes(&Event {
            container: "oom".to_owned(),
            oom: true,
            ..Default::default()
        }),
        "NextEvent" => loop {
            thread::sleep(Duration::from_secs(1000));
        },
        _ => bytes(&Empty::new()),
    }
}

fn key(container: &str, exec: &str) -> String {
    format!("{container} {}", if exec.is_empty() { "-" } else { exec })
}

fn bytes(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

fn add(name: &str, process: &Value) -> Vec<u8> {
    let args = process["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap().to_owned());
    world().change(name, |process| process.args = args.collect());
    bytes(&Empty::new())
}

fn run(name: &str) {
    let (args, mut stdout, stdin) = world().change(name, |process| {
        (
            process.args.clone(),
            process.streams.remove("stdout"),
            process.streams.remove("stdin"),
        )
    });
    let mut print = |data: &[u8]| {
        stdout
            .as_mut()
            .is_some_and(|out| out.write_all(data).is_ok())
    };
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let status = match words[..] {
        ["exit", status] => Some(status.parse().unwrap()),
        ["say", text] => Some(u32::from(!print(text.as_bytes()))),
        ["print", count] => Some(u32::from(!print(&vec![b'x'; count.parse().unwrap()]))),
        ["cat"] => {
            let mut piece = [0; 4096];
            let mut stdin = stdin.unwrap();
            while let Ok(taken @ 1..) = stdin.read(&mut piece) {
                print(&piece[..taken]);
            }
            Some(0)
        }
        _ => None,
    };
    match lie() {
        Lie::Endless => {
            end(name, 0);
            while print(&[b'x'; 65536]) {}
        }
        Lie::Open => {
            end(name, 0);
            loop {
                thread::park();
            }
        }
        Lie::HangUp => end("hung-up -", 0),
        _ => {}
    }
    drop(stdout);
    if let Some(status) = status {
        end(name, status);
    }
}

/// A process has ended, and its streams with it.
fn end(name: &str, status: u32) {
    world().change(name, |process| {
        process.streams.clear();
        process.status.get_or_insert(status);
    });
}
