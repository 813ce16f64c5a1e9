use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use crate::catalog::Spec;
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::limiter::{RateLimiter, TokenBucket};
use crate::metrics::Value;
use crate::virtio::Core;
use crate::virtio::contract::Contract;
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::rng::Config;

fn build(ram: GuestRam, io: IoHandle, interrupt: Interrupt) -> Core {
    Spec::Rng(Config::default())
        .build(ram, io, interrupt)
        .unwrap()
}

/// Two requests: the second is only noticed by a device that asks for notifications again.
fn exchange(driver: &mut Driver) {
    for _ in 0..2 {
        driver
            .ram
            .write_slice(&[0; 64], GuestAddress(DATA))
            .unwrap();
        let buffers = [Buffer::Writable(DATA, 48), Buffer::Writable(DATA + 48, 16)];
        assert_eq!(driver.request(0, &buffers), 64);
        let mut data = [0; 64];
        driver
            .ram
            .read_slice(&mut data, GuestAddress(DATA))
            .unwrap();
        assert_ne!(data, [0; 64], "64 random bytes are never all zero");
    }
}

const CONTRACT: Contract<'_> = Contract {
    build: &build,
    exchange: &exchange,
};

#[test]
fn the_contract_holds() {
    CONTRACT.holds();
}

#[test]
fn a_hostile_driver_gets_nothing_out_of_it() {
    CONTRACT.survives(0, 4000, &|_| {});
}

#[test]
fn a_request_without_writable_buffers_comes_back_empty() {
    let mut driver = Driver::new(build);
    driver.negotiate(0);
    assert_eq!(driver.request(0, &[Buffer::Readable(DATA, 16)]), 0);
}

#[test]
fn more_requests_than_one_turn_takes_all_come_back() {
    let mut driver = Driver::new(build);
    driver.negotiate(0);
    for _ in 0..200 {
        driver.queue_chain(0, &[Buffer::Writable(DATA, 8)]);
    }
    driver.kick(0);
    for _ in 0..200 {
        assert_eq!(driver.wait_used(0).1, 8);
    }
}

#[test]
fn bytes_given_to_the_guest_are_counted() {
    let mut figures = None;
    let mut driver = Driver::new(|ram, io, interrupt| {
        let core = build(ram, io, interrupt);
        figures = Some(core.figures());
        core
    });
    driver.negotiate(u64::MAX);
    exchange(&mut driver);
    let figures = figures.unwrap().figures();
    let bytes = figures.iter().find(|figure| figure.key == "entropy_bytes");
    assert_eq!(bytes.unwrap().value, Value::Count(128));
}

fn limited(size: u64) -> impl Fn(GuestRam, IoHandle, Interrupt) -> Core {
    move |ram, io, interrupt| {
        let bucket = TokenBucket {
            size,
            refill_time: 20,
            one_time_burst: None,
        };
        let limiter = RateLimiter {
            bandwidth: None,
            ops: Some(bucket),
        };
        Spec::Rng(Config { limiter })
            .build(ram, io, interrupt)
            .unwrap()
    }
}

#[test]
fn the_contract_holds_with_limits() {
    let build = limited(1);
    Contract {
        build: &build,
        exchange: &exchange,
    }
    .holds();
}

#[test]
fn requests_beyond_the_limits_wait_for_the_bucket_to_fill() {
    let mut driver = Driver::new(limited(2));
    driver.negotiate(0);
    let begun = Instant::now();
    for _ in 0..5 {
        driver.queue_chain(0, &[Buffer::Writable(DATA, 8)]);
    }
    driver.kick(0);
    for _ in 0..5 {
        assert_eq!(driver.wait_used(0).1, 8);
    }
    // Two at once, and one for every 10 ms.
    assert!(begun.elapsed() >= Duration::from_millis(30));
}
