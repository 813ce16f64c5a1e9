//! The metadata service and the TCP of a Linux kernel: this host's, in a namespace of its own, behind a
//! card whose driver carries frames between the service and a tap.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::cable::{Far, config};
use super::host::be_quiet;
use super::namespace::in_own_network;
use super::{RX, received, send};
use crate::mmds::Mmds;
use crate::mmds::guest::{SERVICE, service};
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::net::offloads::Offloads;
use crate::virtio::net::{Port, Tap, TapName};

/// Receive buffers in use, and the size of one.
const BUFFERS: u64 = 64;
const SIZE: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(20);

/// The kernel's link to the card.
struct Link {
    tap: Tap,
    driver: Driver,
    given: u64,
    taken: u64,
}

impl Link {
    fn new(far: &Far) -> Self {
        be_quiet();
        let name: TapName = "tap0".parse().unwrap();
        let mut tap = Tap::open(&name, None).unwrap();
        // The kernel leaves checksums and segmentation to the card, as a guest's does.
        tap.set_offloads(Offloads::negotiated(u64::MAX).tap_flags())
            .unwrap();
        ip(&["address", "add", "172.16.0.2/24", "dev", "tap0"]);
        ip(&["route", "add", &SERVICE.to_string(), "dev", "tap0"]);
        let mut driver = far.driver(config());
        driver.negotiate(u64::MAX);
        Self {
            tap,
            driver,
            given: 0,
            taken: 0,
        }
    }

    /// Carries frames both ways while `client` talks.
    fn carry<T: Send>(&mut self, client: impl FnOnce() -> T + Send) -> T {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(client));
                is_over.store(true, Ordering::Release);
                outcome
            });
            while !is_over.load(Ordering::Acquire) {
                self.turn();
            }
            client.join().unwrap().unwrap()
        })
    }

    fn turn(&mut self) {
        while self.given < self.taken + BUFFERS {
            let buffer = Buffer::Writable(address(self.given), SIZE);
            self.driver.queue_chain(RX, &[buffer]);
            self.given += 1;
            self.driver.notify(RX);
        }
        let mut frame = vec![0; 0x2_0000];
        while let Ok(len) = rustix::io::read(&self.tap, &mut frame) {
            send(&mut self.driver, &frame[..len]);
        }
        if self.driver.used_index(RX) == u16::try_from(self.taken & 0xffff).unwrap() {
            let mut fds = [PollFd::new(&self.tap, PollFlags::IN)];
            let short = Timespec {
                tv_sec: 0,
                tv_nsec: 100_000,
            };
            poll(&mut fds, Some(&short)).unwrap();
            return;
        }
        let (_, len) = self.driver.wait_used(RX);
        let frame = received(
            &self.driver,
            address(self.taken),
            usize::try_from(len).unwrap(),
        );
        self.taken += 1;
        assert_eq!(rustix::io::write(&self.tap, &frame).unwrap(), frame.len());
    }
}

fn address(buffer: u64) -> u64 {
    DATA + buffer % BUFFERS * u64::from(SIZE)
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

fn connect(host: Ipv4Addr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&(host, 80).into(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The body of the answer to `request`, whose length is that of the header.
fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 9000];
        let len = stream.read(&mut part).unwrap();
        assert_ne!(len, 0, "the answer has no end");
        bytes.extend_from_slice(&part[..len]);
        let text = std::str::from_utf8(&bytes).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let (_, len) = head.split_once("Content-Length: ").unwrap();
        if body.len() == len.parse::<usize>().unwrap() {
            return body.to_owned();
        }
    }
}

fn with_link(test: impl FnOnce(&mut Link, &Mmds)) {
    if Command::new("ip").arg("-Version").output().is_err() {
        eprintln!("SKIPPED: this host has no `ip`");
        return;
    }
    let (mmds, attachment) = service(json!({"name": "value", "big": "x".repeat(50_000)}));
    let far = Far::with_mmds(attachment);
    let mut link = Link::new(&far);
    test(&mut link, &mmds);
    assert_eq!(mmds.metrics().rx_accepted_err.get(), 0);
    assert_eq!(mmds.metrics().tx_errors.get(), 0);
}

#[test]
fn a_linux_client_keeps_its_connection_and_reads_what_is_long() {
    in_own_network(|| {
        with_link(|link, mmds| {
            link.carry(|| {
                let mut stream = connect(SERVICE);
                for _ in 0..20 {
                    let body = ask(&mut stream, "GET /name HTTP/1.1\r\nHost: x\r\n\r\n");
                    assert_eq!(body, "value");
                    let body = ask(&mut stream, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
                    assert_eq!(body, "x".repeat(50_000));
                }
                let put =
                    "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 9\r\n\r\n";
                assert_eq!(ask(&mut stream, put).len(), 64);
            });
            assert_eq!(mmds.metrics().connections_created.get(), 1);
        });
    });
}

#[test]
fn many_linux_clients_one_after_the_other_and_more_than_there_are_places_for() {
    in_own_network(|| {
        with_link(|link, mmds| {
            let last = "GET /name HTTP/1.1\r\nConnection: close\r\n\r\n";
            link.carry(|| {
                for _ in 0..100 {
                    let mut stream = connect(SERVICE);
                    assert_eq!(ask(&mut stream, last), "value");
                    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is closed");
                }
                let mut streams: Vec<_> = (0..12).map(|_| connect(SERVICE)).collect();
                for stream in streams.iter_mut().skip(4) {
                    let body = ask(stream, "GET /name HTTP/1.1\r\n\r\n");
                    assert_eq!(body, "value");
                }
            });
            assert_eq!(mmds.metrics().connections_created.get(), 112);
        });
    });
}

#[test]
fn a_linux_client_with_too_long_a_request_is_refused() {
    in_own_network(|| {
        with_link(|link, _| {
            link.carry(|| {
                let mut stream = connect(SERVICE);
                let request = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
                // The service reads no further, so not all of it may get there.
                let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
                let _ = stream.write_all(request.as_bytes());
                let mut answer = [0; 4096];
                let len = stream.read(&mut answer).unwrap();
                let answer = String::from_utf8_lossy(&answer[..len]);
                assert!(answer.ends_with("Invalid request."), "{answer}");
            });
        });
    });
}
