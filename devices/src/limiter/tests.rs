use rustix::event::{PollFd, PollFlags, poll};

use super::*;

fn bucket(size: u64, refill_time: u64, burst: Option<u64>) -> Option<TokenBucket> {
    Some(TokenBucket {
        size,
        refill_time,
        one_time_burst: burst,
    })
}

fn bytes(size: u64, refill_time: u64) -> Limiter {
    Limiter::new(&RateLimiter {
        bandwidth: bucket(size, refill_time, None),
        ops: None,
    })
    .unwrap()
}

/// The time `ms` after the limiter was made, by a clock that only tests turn.
fn after(limiter: &Limiter, ms: u64) -> Instant {
    let bucket = limiter.bandwidth.or(limiter.ops).unwrap();
    bucket.refilled + Duration::from_millis(ms)
}

#[test]
fn without_limits_there_is_no_timer_and_everything_passes() {
    let mut limiter = Limiter::new(&RateLimiter::default()).unwrap();
    assert!(limiter.timer().is_none());
    assert!(limiter.consume(u64::MAX, u64::MAX));
}

#[test]
fn a_bucket_of_size_0_limits_nothing() {
    assert!(bytes(0, 100).consume(u64::MAX, 1));
    assert!(bytes(100, 0).consume(u64::MAX, 1));
}

#[test]
fn a_full_bucket_is_spent_and_then_blocks() {
    let mut limiter = bytes(1000, 100);
    let now = after(&limiter, 0);
    assert!(limiter.consume_at(now, 600, 1));
    assert!(limiter.consume_at(now, 400, 1));
    assert!(!limiter.consume_at(now, 1, 1));
    assert!(limiter.is_blocked());
}

#[test]
fn what_time_refills_may_be_spent_and_no_more() {
    let mut limiter = bytes(1000, 100);
    let (start, later) = (after(&limiter, 0), after(&limiter, 30));
    assert!(limiter.consume_at(start, 1000, 1));
    assert!(limiter.consume_at(later, 300, 1));
    assert!(!limiter.consume_at(later, 1, 1));
}

#[test]
fn parts_of_a_token_are_not_lost() {
    let mut limiter = bytes(10, 1000);
    let start = after(&limiter, 0);
    assert!(limiter.consume_at(start, 10, 1));
    let mut granted = 0;
    for ms in 0..10_000 {
        limiter.fired();
        let now = start + Duration::from_millis(ms);
        granted += u64::from(limiter.consume_at(now, 1, 1));
    }
    assert_eq!(granted, 99);
}

#[test]
fn an_idle_bucket_never_holds_more_than_its_size() {
    let mut limiter = bytes(1000, 100);
    let later = after(&limiter, 100_000);
    assert!(limiter.consume_at(later, 1000, 1));
    assert!(!limiter.consume_at(later, 1, 1));
}

#[test]
fn the_one_time_burst_is_spent_first_and_once() {
    let mut limiter = Limiter::new(&RateLimiter {
        bandwidth: bucket(1000, 100, Some(500)),
        ops: None,
    })
    .unwrap();
    let start = after(&limiter, 0);
    assert!(limiter.consume_at(start, 500, 1));
    assert!(limiter.consume_at(start, 1000, 1));
    let later = start + Duration::from_secs(10);
    assert!(limiter.consume_at(later, 1000, 1));
    assert!(!limiter.consume_at(later, 1, 1));
}

#[test]
fn a_request_larger_than_the_bucket_leaves_it_in_debt() {
    let mut limiter = bytes(1000, 100);
    let start = after(&limiter, 0);
    assert!(limiter.consume_at(start, 3000, 1));
    assert!(!limiter.consume_at(start + Duration::from_millis(199), 1, 1));
    limiter.fired();
    assert!(!limiter.consume_at(start + Duration::from_millis(299), 1000, 1));
    limiter.fired();
    assert!(limiter.consume_at(start + Duration::from_millis(300), 1000, 1));
}

#[test]
fn a_request_that_lacks_operations_takes_no_bytes() {
    let mut limiter = Limiter::new(&RateLimiter {
        bandwidth: bucket(1000, 100, None),
        ops: bucket(1, 100, None),
    })
    .unwrap();
    let start = after(&limiter, 0);
    assert!(limiter.consume_at(start, 100, 1));
    assert!(!limiter.consume_at(start, 100, 1));
    assert_eq!(limiter.bandwidth.unwrap().level, 900);
}

#[test]
fn what_was_charged_after_the_fact_is_paid_back_first() {
    let mut limiter = bytes(1000, 100);
    let start = after(&limiter, 0);
    assert!(limiter.admit_at(start, 1, 1));
    limiter.charge(1500, 1);
    assert!(!limiter.admit_at(start + Duration::from_millis(50), 1, 1));
    limiter.fired();
    assert!(limiter.admit_at(start + Duration::from_millis(51), 1, 1));
}

#[test]
fn a_blocked_limiter_wakes_its_worker() {
    let mut limiter = bytes(1, 2);
    let start = after(&limiter, 0);
    assert!(limiter.consume_at(start, 1, 1));
    assert!(!limiter.consume_at(start, 1, 1));
    let timer = limiter.timer().unwrap();
    assert!(limiter.is_timer(timer.as_raw_fd()));
    let mut fds = [PollFd::new(timer, PollFlags::IN)];
    assert_eq!(poll(&mut fds, None).unwrap(), 1);
    limiter.fired();
    assert!(!limiter.is_blocked());
}

#[test]
fn an_update_changes_the_buckets_it_names_only() {
    let mut limiter = bytes(1000, 100);
    limiter
        .update(&RateLimiter {
            bandwidth: None,
            ops: bucket(1, 100, None),
        })
        .unwrap();
    assert_eq!(limiter.bandwidth.unwrap().size, 1000);
    let lifted = RateLimiter {
        bandwidth: bucket(0, 0, None),
        ops: bucket(0, 0, None),
    };
    limiter.update(&lifted).unwrap();
    assert!(limiter.timer().is_none());
}

#[test]
fn absurd_settings_do_not_overflow() {
    let mut limiter = Limiter::new(&RateLimiter {
        bandwidth: bucket(u64::MAX, u64::MAX, Some(u64::MAX)),
        ops: bucket(1, u64::MAX, None),
    })
    .unwrap();
    let start = after(&limiter, 0);
    assert!(limiter.consume_at(start, u64::MAX, u64::MAX));
    assert!(!limiter.consume_at(start + Duration::from_secs(1), u64::MAX, u64::MAX));
}

#[test]
fn what_is_over_an_allowance_is_not_taken_until_time_has_passed() {
    let begun = Instant::now();
    let config = TokenBucket {
        size: 4,
        refill_time: 1000,
        one_time_burst: Some(2),
    };
    let mut bucket = Bucket::new(config, begun).unwrap();
    let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(now, 1)).count();
    assert_eq!(taken(&mut bucket, begun), 6);
    assert_eq!(taken(&mut bucket, begun + Duration::from_millis(500)), 2);
}

#[test]
fn an_allowance_without_a_bucket_has_no_end() {
    let mut allowance = Allowance::new(None);
    assert!(allowance.take(u64::MAX));
    assert!(allowance.take(u64::MAX));
}
