use std::time::Instant;

use super::*;
use crate::catalog::{self, UpdateError};
use crate::limiter::{RateLimiter, TokenBucket};
use crate::virtio::block::{Block, Error, Update};

fn updated(driver: &mut Driver, update: Update) -> Result<(), UpdateError> {
    driver.device.core().update(catalog::Update::Block(update))
}

fn one_operation_each(refill_time: u64) -> RateLimiter {
    RateLimiter {
        bandwidth: None,
        ops: Some(TokenBucket {
            size: 1,
            refill_time,
            one_time_burst: None,
        }),
    }
}

#[test]
fn a_file_with_a_tail_loses_it() {
    let image = image(1000);
    let mut driver = Driver::new(built(config(Engine::Sync), reopen(&image)));
    assert_eq!(capacity(&mut driver), 1);
}

#[test]
fn an_empty_file_is_a_disk_of_no_sectors() {
    for engine in engines() {
        let image = image(0);
        let mut driver = Driver::new(built(config(engine), reopen(&image)));
        driver.negotiate(u64::MAX);
        assert_eq!(capacity(&mut driver), 0);
        assert_eq!(read(&mut driver, 0, 512).status, IO_ERROR);
    }
}

#[test]
fn a_file_that_has_grown_is_a_disk_that_has_grown() {
    for engine in engines() {
        let (mut driver, image) = disk(engine);
        reopen(&image).set_len(2 * SIZE).unwrap();
        assert_eq!(read(&mut driver, SIZE / 512, 512).status, IO_ERROR);
        let generation = driver.read(0xfc);
        driver.write(0x64, 3);
        updated(&mut driver, Update::default()).unwrap();
        assert_eq!(capacity(&mut driver), 2 * SIZE / 512);
        assert_ne!(driver.read(0xfc), generation, "the config has changed");
        assert_eq!(driver.causes() & 2, 2, "the guest is told");
        assert_eq!(read(&mut driver, SIZE / 512, 512).data, [0; 512]);
    }
}

#[test]
fn a_disk_that_is_changed_while_it_is_paused_stays_paused() {
    for engine in engines() {
        let (mut driver, image) = disk(engine);
        reopen(&image).set_len(2 * SIZE).unwrap();
        driver.device.core().pause();
        updated(&mut driver, Update::default()).unwrap();
        // Its state can be taken only while nobody works on the queues.
        assert!(driver.device.core().save().is_some(), "it works");
        driver.device.core().resume();
        assert_eq!(capacity(&mut driver), 2 * SIZE / 512);
        assert_eq!(read(&mut driver, SIZE / 512, 512).data, [0; 512]);
    }
}

#[test]
fn another_file_is_another_disk() {
    for engine in engines() {
        let (mut driver, _image) = disk(engine);
        let other = image(4096);
        std::fs::write(other.path(), [0x42; 4096]).unwrap();
        let update = Update {
            file: Some(reopen(&other)),
            limiter: None,
        };
        updated(&mut driver, update).unwrap();
        assert_eq!(capacity(&mut driver), 8);
        assert_eq!(read(&mut driver, 1, 512).data, [0x42; 512]);
    }
}

#[test]
fn a_file_that_does_not_fit_changes_nothing() {
    let (mut driver, image) = disk(Engine::Sync);
    let update = Update {
        file: Some(File::open(image.path()).unwrap()),
        limiter: Some(one_operation_each(1000)),
    };
    let error = updated(&mut driver, update).unwrap_err();
    assert!(matches!(error, UpdateError::Block(Error::NotWritable(_))));
    assert_eq!(read(&mut driver, 1, 512).data, [1; 512]);
    assert_eq!(read(&mut driver, 2, 512).data, [2; 512]);
}

#[test]
fn limits_hold_requests_back_and_lose_none() {
    for engine in engines() {
        let image = image(SIZE);
        let config = Config {
            limiter: one_operation_each(20),
            ..config(engine)
        };
        let device = Block::new(&config, reopen(&image)).unwrap();
        let metrics = device.metrics();
        let mut driver =
            Driver::new(|ram, io, interrupt| Core::new(device, ram, io, interrupt).unwrap());
        driver.negotiate(u64::MAX);
        let start = Instant::now();
        for sector in 0..6 {
            assert_eq!(
                read(&mut driver, sector, 512).data,
                [sector.to_le_bytes()[0]; 512]
            );
        }
        // The first is free, and each of the others needs a token that takes 20 ms: on a busy host some are
        // there before they are asked for.
        assert!(start.elapsed().as_millis() >= 99);
        assert_ne!(metrics.rate_limiter_throttled_events.get(), 0);
    }
}

#[test]
fn a_request_held_back_survives_a_stop() {
    for engine in engines() {
        let image = image(SIZE);
        let config = Config {
            limiter: one_operation_each(20),
            ..config(engine)
        };
        let mut driver = Driver::new(built(config, reopen(&image)));
        driver.negotiate(u64::MAX);
        assert_eq!(read(&mut driver, 0, 512).status, OK);
        let ram = driver.ram.clone();
        ram.write_slice(&header(IN, 9), GuestAddress(HEADER))
            .unwrap();
        let buffers = [
            Buffer::Readable(HEADER, 16),
            Buffer::Writable(PAYLOAD, 512),
            Buffer::Writable(STATUS, 1),
        ];
        driver.queue_chain(0, &buffers);
        driver.kick(0);
        driver.device.core().pause();
        driver.device.core().resume();
        assert_eq!(driver.wait_used(0).1, 513);
    }
}

#[test]
fn lifted_limits_let_waiting_requests_go() {
    for engine in engines() {
        let image = image(SIZE);
        let config = Config {
            limiter: one_operation_each(3_600_000),
            ..config(engine)
        };
        let mut driver = Driver::new(built(config, reopen(&image)));
        driver.negotiate(u64::MAX);
        assert_eq!(read(&mut driver, 0, 512).status, OK);
        let buffers = [
            Buffer::Readable(HEADER, 16),
            Buffer::Writable(PAYLOAD, 512),
            Buffer::Writable(STATUS, 1),
        ];
        driver.queue_chain(0, &buffers);
        driver.kick(0);
        let update = Update {
            file: None,
            limiter: Some(RateLimiter {
                bandwidth: None,
                ops: Some(TokenBucket {
                    size: 0,
                    refill_time: 0,
                    one_time_burst: None,
                }),
            }),
        };
        updated(&mut driver, update).unwrap();
        assert_eq!(driver.wait_used(0).1, 513);
    }
}
