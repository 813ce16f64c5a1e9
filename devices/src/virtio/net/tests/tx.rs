use vm_memory::{Bytes, GuestAddress};

use super::cable::{Far, config, frame};
use super::{OUT, TX, send};
use crate::limiter::{RateLimiter, TokenBucket};
use crate::virtio::driver::{Buffer, DATA};

const EVENT_IDX: u64 = 1 << 29;

#[test]
fn a_frame_in_pieces_leaves_in_one() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    let whole = frame(1, 1500);
    driver.ram.write_slice(&whole, GuestAddress(OUT)).unwrap();
    let pieces = [(0, 5), (5, 7), (12, 1000), (1012, 500)];
    let pieces = pieces.map(|(at, len)| Buffer::Readable(OUT + at, len));
    assert_eq!(driver.request(TX, &pieces), 0);
    assert_eq!(far.receive(), whole);
}

#[test]
fn the_header_leaves_with_its_frame() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    let mut whole = frame(2, 100);
    whole[..4].copy_from_slice(&[1, 1, 54, 0]);
    send(&mut driver, &whole);
    assert_eq!(far.receive(), whole);
}

#[test]
fn what_is_no_frame_goes_back_and_no_further() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    for buffers in [
        vec![Buffer::Readable(OUT, 25)],
        vec![Buffer::Readable(OUT, 65_567)],
        vec![
            Buffer::Readable(OUT, 0x10_0000),
            Buffer::Readable(0, 0x40_0000),
        ],
        vec![Buffer::Writable(OUT, 100)],
    ] {
        assert_eq!(driver.request(TX, &buffers), 0);
    }
    send(&mut driver, &frame(3, 14));
    assert_eq!(far.receive(), frame(3, 14));
    assert_eq!(far.metrics().tx_malformed_frames.get(), 4);
}

#[test]
fn more_frames_than_one_turn_takes_all_leave_in_order() {
    let far = Far::new();
    for features in [0, EVENT_IDX] {
        let mut driver = far.driver(config());
        driver.negotiate(features);
        for seed in 0..250_u8 {
            let address = DATA + u64::from(seed) * 0x100;
            let frame = frame(seed, 60);
            driver
                .ram
                .write_slice(&frame, GuestAddress(address))
                .unwrap();
            driver.queue_chain(TX, &[Buffer::Readable(address, 72)]);
        }
        driver.kick(TX);
        for seed in 0..250 {
            assert_eq!(far.receive(), frame(seed, 60));
            driver.wait_used(TX);
        }
    }
}

#[test]
fn a_full_tap_holds_frames_back_and_loses_none() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    let sent = frame(4, 60_000);
    driver.ram.write_slice(&sent, GuestAddress(OUT)).unwrap();
    for _ in 0..3 {
        for _ in 0..20 {
            driver.queue_chain(TX, &[Buffer::Readable(OUT, 60_012)]);
        }
        driver.kick(TX);
        for _ in 0..20 {
            assert_eq!(far.receive(), sent);
            driver.wait_used(TX);
        }
    }
    assert_ne!(far.metrics().tx_stalled.get(), 0);
    assert_eq!(far.metrics().tx_packets_count.get(), 60);
}

#[test]
fn a_frame_held_back_leaves_after_a_pause() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    let sent = frame(5, 60_000);
    driver.ram.write_slice(&sent, GuestAddress(OUT)).unwrap();
    for _ in 0..20 {
        driver.queue_chain(TX, &[Buffer::Readable(OUT, 60_012)]);
    }
    driver.kick(TX);
    driver.wait_used(TX);
    driver.device.core().pause();
    driver.device.core().resume();
    for _ in 0..20 {
        assert_eq!(far.receive(), sent);
    }
}

#[test]
fn limited_frames_leave_late_but_all_of_them() {
    let far = Far::new();
    let mut limited = config();
    limited.tx_rate_limiter = Some(RateLimiter {
        bandwidth: Some(TokenBucket {
            size: 150,
            refill_time: 20,
            one_time_burst: None,
        }),
        ops: None,
    });
    let mut driver = far.driver(limited);
    driver.negotiate(0);
    driver
        .ram
        .write_slice(&frame(6, 100), GuestAddress(OUT))
        .unwrap();
    for _ in 0..8 {
        driver.queue_chain(TX, &[Buffer::Readable(OUT, 112)]);
    }
    driver.kick(TX);
    for _ in 0..8 {
        assert_eq!(far.receive(), frame(6, 100));
        driver.wait_used(TX);
    }
    assert_ne!(far.metrics().tx_rate_limiter_throttled.get(), 0);
}

#[test]
fn a_cable_without_another_end_drops_frames_and_the_guest_lives() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(0);
    let metrics = far.metrics();
    far.unplug();
    for _ in 0..3 {
        send(&mut driver, &frame(7, 100));
    }
    assert_eq!(metrics.tap_write_fails.get(), 3);
    assert!(!driver.needs_reset());
}
