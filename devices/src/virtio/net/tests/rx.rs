use vm_memory::{Bytes, GuestAddress};

use super::cable::{Far, config, frame};
use super::{RX, exchange, num_buffers, received};
use crate::catalog;
use crate::limiter::{RateLimiter, TokenBucket};
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::net::{HEADER, Update};

const MERGE: u64 = 1 << 15;
const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const EVENT_IDX: u64 = 1 << 29;

/// Gives `count` buffers of `len` bytes side by side.
fn offer(driver: &mut Driver, count: u64, len: u32) {
    for n in 0..count {
        let address = DATA + n * u64::from(len);
        driver.queue_chain(RX, &[Buffer::Writable(address, len)]);
    }
    driver.kick(RX);
}

#[test]
fn a_frame_comes_into_one_buffer() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    driver
        .ram
        .write_slice(&[0xff; 12], GuestAddress(DATA))
        .unwrap();
    offer(&mut driver, 1, 1526);
    far.send(&frame(1, 1514));
    assert_eq!(driver.wait_used(RX).1, 1526);
    assert_eq!(
        received(&driver, DATA, 1526)[HEADER..],
        frame(1, 1514)[HEADER..]
    );
    assert_eq!(num_buffers(&driver, DATA), 1);
}

#[test]
fn a_frame_is_merged_over_several_buffers() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    offer(&mut driver, 4, 1000);
    far.send(&frame(2, 2500));
    let lens = [0; 3].map(|_| driver.wait_used(RX).1);
    assert_eq!(lens, [1000, 1000, 512]);
    assert_eq!(num_buffers(&driver, DATA), 3);
    assert_eq!(
        received(&driver, DATA, 2512)[HEADER..],
        frame(2, 2500)[HEADER..]
    );
}

#[test]
fn a_frame_of_64_kib_is_merged_over_as_many_buffers_as_it_takes() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE | GUEST_CSUM | GUEST_TSO4);
    offer(&mut driver, 200, 1024);
    for seed in [3, 4] {
        far.send(&frame(seed, 65_549));
    }
    for (seed, start) in [(3, DATA), (4, DATA + 65 * 1024)] {
        let written: u32 = (0..65).map(|_| driver.wait_used(RX).1).sum();
        assert_eq!(written, 65_561);
        assert_eq!(num_buffers(&driver, start), 65);
        assert_eq!(
            received(&driver, start, 65_561)[HEADER..],
            frame(seed, 65_549)[HEADER..]
        );
    }
    assert_eq!(far.metrics().rx_split.get(), 0, "nothing was copied");
}

#[test]
fn a_header_may_lie_in_pieces() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    let pieces = [
        Buffer::Writable(DATA, 11),
        Buffer::Writable(DATA + 100, 1),
        Buffer::Writable(DATA + 200, 100),
    ];
    driver.queue_chain(RX, &pieces);
    driver.kick(RX);
    far.send(&frame(5, 50));
    assert_eq!(driver.wait_used(RX).1, 62);
    assert_eq!(received(&driver, DATA + 10, 1), [1]);
    assert_eq!(received(&driver, DATA + 100, 1), [0]);
    assert_eq!(received(&driver, DATA + 200, 50), frame(5, 50)[HEADER..]);
}

#[test]
fn a_frame_waits_for_the_buffers_that_it_still_needs() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    offer(&mut driver, 1, 100);
    far.send(&frame(6, 288));
    let metrics = far.metrics();
    driver.wait(|_| {
        std::thread::yield_now();
        metrics.rx_split.get() == 1
    });
    assert_eq!(driver.used_index(RX), 0);
    for n in 1..3 {
        driver.queue_chain(RX, &[Buffer::Writable(DATA + n * 100, 100)]);
        driver.kick(RX);
    }
    let lens = [0; 3].map(|_| driver.wait_used(RX).1);
    assert_eq!(lens, [100, 100, 100]);
    assert_eq!(num_buffers(&driver, DATA), 3);
    assert_eq!(
        received(&driver, DATA, 300)[HEADER..],
        frame(6, 288)[HEADER..]
    );
}

#[test]
fn a_frame_longer_than_all_buffers_is_dropped_and_the_next_one_comes() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    offer(&mut driver, 256, 32);
    far.send(&frame(7, 9000));
    far.send(&frame(8, 20));
    assert_eq!(driver.wait_used(RX).1, 32);
    assert_eq!(
        received(&driver, DATA, 32)[HEADER..],
        frame(8, 20)[HEADER..]
    );
    assert_eq!(far.metrics().rx_fails.get(), 1);
}

#[test]
fn without_merging_a_frame_that_does_not_fit_is_dropped_and_its_buffer_comes_back() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    offer(&mut driver, 2, 200);
    far.send(&frame(9, 189));
    far.send(&frame(10, 188));
    assert_eq!(driver.wait_used(RX).1, 0);
    assert_eq!(driver.wait_used(RX).1, 200);
    assert_eq!(far.metrics().rx_fails.get(), 1);
}

#[test]
fn a_chain_too_short_for_any_frame_comes_back_empty() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    driver.queue_chain(RX, &[Buffer::Writable(DATA, 11)]);
    driver.queue_chain(RX, &[Buffer::Writable(DATA, 300)]);
    driver.kick(RX);
    far.send(&frame(11, 60));
    assert_eq!(driver.wait_used(RX).1, 0);
    assert_eq!(driver.wait_used(RX).1, 72);
}

#[test]
fn a_bad_chain_behind_a_good_one_does_not_hold_up_frames() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    driver.queue_chain(RX, &[Buffer::Writable(DATA, 300)]);
    driver.queue_chain(RX, &[Buffer::Readable(DATA, 300)]);
    driver.queue_chain(RX, &[Buffer::Writable(DATA + 300, 300)]);
    driver.kick(RX);
    far.send(&frame(12, 60));
    far.send(&frame(13, 600));
    far.send(&frame(14, 61));
    assert_eq!(driver.wait_used(RX).1, 72);
    assert_eq!(driver.wait_used(RX).1, 0);
    // The frame of 600 bytes waits: two more buffers would hold it.
    driver.queue_chain(RX, &[Buffer::Writable(DATA + 600, 312)]);
    driver.kick(RX);
    assert_eq!(driver.wait_used(RX).1, 300);
    assert_eq!(driver.wait_used(RX).1, 312);
}

/// CVE-2020-16843: a tap that fills while the queue has no buffers must not stay full for ever.
fn full_tap_and_full_queue(features: u64) {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(features);
    let (mut sent, mut seen) = (0_u8, 0_u8);
    for round in 0..40 {
        while far.try_send(&frame(sent, 1000)) {
            sent = sent.wrapping_add(1);
        }
        for n in 0..=round % 7 {
            let address = DATA + n * 2048;
            driver.queue_chain(RX, &[Buffer::Writable(address, 2048)]);
        }
        driver.kick(RX);
        for n in 0..=round % 7 {
            assert_eq!(driver.wait_used(RX).1, 1012);
            assert_eq!(
                received(&driver, DATA + n * 2048 + 12, 1),
                [seen],
                "frames come in order"
            );
            seen = seen.wrapping_add(1);
        }
    }
}

#[test]
fn a_full_tap_and_an_empty_queue_recover() {
    full_tap_and_full_queue(0);
}

#[test]
fn a_full_tap_and_an_empty_queue_recover_with_merging() {
    full_tap_and_full_queue(MERGE);
}

#[test]
fn a_full_tap_and_an_empty_queue_recover_with_event_idx() {
    full_tap_and_full_queue(MERGE | EVENT_IDX);
}

#[test]
fn a_frame_that_came_during_a_pause_arrives_after_it() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    offer(&mut driver, 4, 100);
    driver.device.core().pause();
    far.send(&frame(15, 40));
    driver.device.core().resume();
    assert_eq!(driver.wait_used(RX).1, 52);
}

#[test]
fn a_pause_puts_back_the_buffers_taken_in_advance() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE | GUEST_CSUM | GUEST_TSO4);
    offer(&mut driver, 100, 100);
    far.send(&frame(16, 40));
    driver.wait_used(RX);
    driver.device.core().pause();
    let saved = driver.device.core().save().unwrap();
    assert_eq!(
        (saved.queues[RX].next_avail, saved.queues[RX].next_used),
        (1, 1)
    );
    driver.device.core().resume();
    far.send(&frame(17, 41));
    assert_eq!(driver.wait_used(RX), (1, 53));
}

#[test]
fn a_driver_without_checksums_sees_no_header_flags() {
    let far = Far::new();
    let mut checked = frame(18, 40);
    checked[0] = 2;
    for (features, flags) in [(0, 0), (GUEST_CSUM, 2)] {
        let mut driver = far.driver(config());
        driver.negotiate(features);
        offer(&mut driver, 1, 100);
        far.send(&checked);
        driver.wait_used(RX);
        assert_eq!(received(&driver, DATA, 1), [flags]);
    }
}

#[test]
fn frames_of_an_earlier_driver_do_not_reach_one_that_takes_less() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE | GUEST_CSUM | GUEST_TSO4);
    far.send(&frame(19, 40));
    driver.negotiate(MERGE);
    offer(&mut driver, 1, 100);
    far.send(&frame(20, 50));
    assert_eq!(driver.wait_used(RX).1, 62);
}

#[test]
fn what_is_no_frame_is_dropped() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    offer(&mut driver, 1, 100);
    far.send(&frame(21, 13));
    far.send(&frame(22, 14));
    assert_eq!(driver.wait_used(RX).1, 26);
}

#[test]
fn limited_frames_come_late_but_all_of_them() {
    let far = Far::new();
    let mut limited = config();
    limited.rx_rate_limiter = Some(RateLimiter {
        bandwidth: None,
        ops: Some(TokenBucket {
            size: 2,
            refill_time: 20,
            one_time_burst: None,
        }),
    });
    let mut driver = far.driver(limited);
    driver.negotiate(MERGE);
    offer(&mut driver, 10, 100);
    for seed in 0..10 {
        far.send(&frame(seed, 40));
    }
    for seed in 0..10 {
        driver.wait_used(RX);
        let address = DATA + u64::from(seed) * 100 + 12;
        assert_eq!(received(&driver, address, 1), [seed]);
    }
    assert_ne!(far.metrics().rx_rate_limiter_throttled.get(), 0);
}

#[test]
fn limits_change_while_the_guest_runs() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(MERGE);
    exchange(&mut driver, &far);
    let limits = RateLimiter {
        bandwidth: Some(TokenBucket {
            size: 100,
            refill_time: 10,
            one_time_burst: None,
        }),
        ops: None,
    };
    let update = Update {
        rx_rate_limiter: Some(limits),
        tx_rate_limiter: Some(limits),
    };
    let updated = driver.device.core().update(catalog::Update::Net(update));
    assert!(updated.is_ok(), "{updated:?}");
    for _ in 0..3 {
        exchange(&mut driver, &far);
    }
    let metrics = far.metrics();
    let throttled =
        metrics.rx_rate_limiter_throttled.get() + metrics.tx_rate_limiter_throttled.get();
    assert_ne!(throttled, 0);
}
