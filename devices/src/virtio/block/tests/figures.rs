//! What a disk counts of what its driver does.

use std::sync::Arc;

use super::*;
use crate::metrics::{Measure, Value};
use crate::virtio::block::{Block, Metrics};

fn counted(config: &Config, image: &NamedTempFile) -> (Driver, Arc<Metrics>) {
    let device = Block::new(config, reopen(image)).unwrap();
    let metrics = device.metrics();
    let mut driver =
        Driver::new(|ram, io, interrupt| Core::new(device, ram, io, interrupt).unwrap());
    driver.negotiate(u64::MAX);
    (driver, metrics)
}

#[test]
fn requests_and_their_bytes_are_counted_when_they_are_done() {
    for engine in engines() {
        let image = image(SIZE);
        let (mut driver, metrics) = counted(&config(engine), &image);
        write(&mut driver, 0, &[1; 1024]);
        read(&mut driver, 0, 512);
        read(&mut driver, 8, 4096);
        send(&mut driver, FLUSH, 0, &[], 0);
        send(&mut driver, DISCARD, 0, &range(8, 8, 0), 0);
        assert_eq!(metrics.write_count.get(), 1);
        assert_eq!(metrics.write_bytes.get(), 1024);
        assert_eq!(metrics.read_count.get(), 2);
        assert_eq!(metrics.read_bytes.get(), 4608);
        assert_eq!(metrics.flush_count.get(), 1);
        assert_eq!(metrics.discards.get(), 1);
        assert_ne!(metrics.queue_event_count.get(), 0);
    }
}

#[test]
fn what_is_refused_moves_no_bytes() {
    for engine in engines() {
        let image = image(SIZE);
        let (mut driver, metrics) = counted(&config(engine), &image);
        assert_eq!(read(&mut driver, SIZE / 512, 512).status, IO_ERROR);
        assert_eq!(metrics.invalid_reqs_count.get(), 1);
        assert_eq!((metrics.read_count.get(), metrics.read_bytes.get()), (0, 0));
    }
}

#[test]
fn the_time_that_requests_took_is_within_the_time_that_passed() {
    for engine in engines() {
        let image = image(SIZE);
        let (mut driver, metrics) = counted(&config(engine), &image);
        let start = std::time::Instant::now();
        for sector in 0..100 {
            read(&mut driver, sector, 512);
        }
        let passed = u64::try_from(start.elapsed().as_micros()).unwrap();
        let Value::Latency {
            min_us,
            max_us,
            sum_us,
        } = metrics.read_agg.value()
        else {
            panic!("a latency");
        };
        assert!(min_us <= max_us && max_us <= sum_us, "{min_us} {max_us}");
        assert!(sum_us <= passed, "{sum_us} {passed}");
        assert_ne!(sum_us, 0);
        assert_eq!(
            metrics.write_agg.value(),
            Metrics::default().write_agg.value()
        );
    }
}

#[test]
fn changes_are_counted_with_their_outcome() {
    use crate::catalog::Update;
    let image = image(SIZE);
    let (mut driver, metrics) = counted(&config(Engine::Sync), &image);
    let update = |file| {
        Update::Block(crate::virtio::block::Update {
            file,
            limiter: None,
        })
    };
    driver.device.core().update(update(None)).unwrap();
    let folder = File::open("/").unwrap();
    driver
        .device
        .core()
        .update(update(Some(folder)))
        .unwrap_err();
    assert_eq!(metrics.update_count.get(), 1);
    assert_eq!(metrics.update_fails.get(), 1);
}

#[test]
fn a_kick_without_a_request_is_seen() {
    let image = image(SIZE);
    let (mut driver, metrics) = counted(&config(Engine::Sync), &image);
    driver.notify(0);
    // An empty queue is answered by no interrupt.
    driver.watch(|_| metrics.no_avail_buffer.get() != 0);
    assert!(metrics.no_avail_buffer.get() <= metrics.queue_event_count.get());
}
