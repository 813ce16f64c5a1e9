//! Hostile clients: what they cost is bounded, and neither the guest nor the other clients notice.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::vm::{self, Face, Vm};

/// Connections of the flood.
const CONNECTIONS: usize = 10_000;
/// Of these, how many are open at a time.
const OPEN: usize = 100;
/// The most memory that a flood may cost, in KiB.
const COST_KIB: u64 = 8 * 1024;

/// A VM whose guest writes to its disk as fast as it can, for ever.
struct Busy(Vm);

impl Busy {
    fn boot() -> Option<Self> {
        if !vm::kvm() {
            return None;
        }
        let vm = Vm::firecracker();
        vm.file("disk", 1 << 20);
        let disk = r#"{"drive_id": "d", "path_on_host": "disk", "is_root_device": false}"#;
        assert_eq!(vm.ask("PUT", "/drives/d", Some(disk)).status, 204);
        vm.boot("blk:write:4096:8:4000000000");
        let busy = Self(vm);
        // What is made for the first requests stays.
        for _ in 0..20 {
            busy.wait_for_work();
        }
        Some(busy)
    }

    /// The bytes that the guest has written.
    fn written(&self) -> u64 {
        let text = vm::until("an answer", || {
            let reply = self.0.ask("GET", "/ravelin/metrics", None);
            (reply.status == 200).then_some(reply.body)
        });
        bytes_written(&text)
    }

    fn wait_for_work(&self) {
        let before = self.written();
        vm::until("more work", || (self.written() > before).then_some(()));
    }

    /// Resident and private dirty memory, in KiB.
    fn memory(&self) -> [u64; 2] {
        let path = format!("/proc/{}/smaps_rollup", self.0.pid());
        let text = fs::read_to_string(path).unwrap();
        ["Rss:", "Private_Dirty:"].map(|name| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        })
    }

    /// Lets `flood` do its worst.
    fn endures(&mut self, flood: impl FnOnce(&Self)) {
        let memory = self.memory();
        flood(self);
        let after = self.memory();
        for (before, after) in memory.into_iter().zip(after) {
            let grown = after.saturating_sub(before);
            assert!(grown < COST_KIB, "{before} KiB have become {after}");
        }
        self.wait_for_work();
        let state = vm::until("an answer", || {
            let reply = self.0.ask("GET", "/", None);
            (reply.status == 200).then(|| reply.json())
        });
        assert_eq!(state["state"], "Running");
        assert!(self.0.lives());
    }
}

/// What the figures say of the bytes written to the disk.
fn bytes_written(text: &str) -> u64 {
    let line = text
        .lines()
        .find(|line| line.starts_with("ravelin_block_write_bytes_total"));
    let (_, value) = line.unwrap().rsplit_once(' ').unwrap();
    value.parse().unwrap()
}

/// Everything that comes back to `bytes`, until the connection ends.
fn answer(vm: &Vm, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(vm.socket()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// As large as a C library does not keep on its heap. Without a card there is nobody to read it.
#[test]
fn a_large_document_is_refused_while_a_guest_without_a_card_runs_and_nothing_happens() {
    if !vm::kvm() {
        return;
    }
    let limits = [
        "--http-api-max-payload-size",
        "4000000",
        "--mmds-size-limit",
        "4000000",
    ];
    let mut vm = Vm::start(Face::Firecracker, &limits);
    vm.boot("idle");
    for length in [1_000_000, 3_000_000] {
        let document = format!(r#"{{"text": "{}"}}"#, "x".repeat(length));
        let put = vm.ask("PUT", "/mmds", Some(&document));
        assert!(put.fault().contains("not initialized"), "{put:?}");
    }
    assert!(vm.lives());
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let Some(mut busy) = Busy::boot() else { return };
    busy.endures(|busy| {
        let vm = &busy.0;
        for round in 0..CONNECTIONS / OPEN {
            let open: Vec<_> = (0..OPEN)
                .map(|_| UnixStream::connect(vm.socket()).unwrap())
                .collect();
            // One of ten asks, and all go away without looking.
            for mut stream in open.iter().step_by(10) {
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
            }
            drop(open);
            if round % 10 == 0 {
                // Others are answered among the crowd, and the guest goes on.
                busy.wait_for_work();
            }
        }
    });
}

#[test]
fn clients_that_never_finish_a_request_hold_up_nobody() {
    let Some(mut busy) = Busy::boot() else { return };
    busy.endures(|Busy(vm)| {
        // One less than there may be.
        let halves: Vec<_> = (0..9)
            .map(|_| {
                let mut half = vm.client();
                half.write(b"PUT /mmds HTTP/1.1\r\nContent-Length: 50000\r\n\r\n{\"a\": \"");
                half
            })
            .collect();
        let mut last = vm.client();
        let mut written = || bytes_written(&last.ask("GET", "/ravelin/metrics", None).body);
        let before = written();
        vm::until("more work", || (written() > before).then_some(()));
        for _ in 0..100 {
            assert_eq!(last.ask("GET", "/", None).status, 200);
        }
        // One more is told so.
        let mut crowded = vm.client();
        assert_eq!(crowded.reply().unwrap().status, 503);
        drop(halves);
    });
}

#[test]
fn a_body_of_a_gigabyte_is_refused_before_it_comes() {
    let Some(mut busy) = Busy::boot() else { return };
    busy.endures(|Busy(vm)| {
        for _ in 0..100 {
            let head = b"PUT /mmds HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n{";
            let text = answer(vm, head);
            assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
            assert!(
                text.contains("size 1000000000 is larger than the limit of 51200"),
                "{text}"
            );
        }
        let text = answer(
            vm,
            b"PUT /mmds HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        );
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    });
}

#[test]
fn deep_json_is_refused() {
    let Some(mut busy) = Busy::boot() else { return };
    busy.endures(|Busy(vm)| {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let cut = format!("{{\"a\": {}", "{\"a\":".repeat(10_000));
        for body in [deep, cut] {
            for path in ["/mmds", "/machine-config", "/mmds/config"] {
                let reply = vm.ask("PUT", path, Some(&body));
                assert_eq!(reply.status, 400, "{reply:?}");
                assert!(
                    reply
                        .fault()
                        .starts_with("An error occurred when deserializing")
                );
            }
            assert!(
                vm.ask("PUT", "/mmds", Some(&body))
                    .fault()
                    .contains("recursion limit")
            );
        }
    });
}

#[test]
fn what_is_no_utf_8_is_refused() {
    let Some(mut busy) = Busy::boot() else { return };
    busy.endures(|Busy(vm)| {
        let body = answer(
            vm,
            b"PUT /mmds HTTP/1.1\r\nContent-Length: 10\r\n\r\n{\"a\":\"\xff\xfe\"}",
        );
        assert!(body.starts_with("HTTP/1.1 400 "), "{body}");
        assert!(
            body.contains("An error occurred when deserializing"),
            "{body}"
        );
        for head in [
            &b"GET /\xff\xfe HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nAccept: \xff\r\n\r\n",
            b"\xff\xfe\xfd\r\n\r\n",
        ] {
            let text = answer(vm, head);
            assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        }
    });
}
