//! Token buckets: how much I/O a device may do, in bytes and in operations.
//!
//! The settings are Firecracker's `rate_limiter` objects. Each bucket holds `size` tokens when full and
//! refills evenly, `size` tokens every `refill_time` milliseconds; `one_time_burst` are tokens on top
//! that never come back.
//!
//! A worker registers [`Limiter::timer`] in its event loop. When [`Limiter::consume`] says no, it leaves
//! the request in its queue and goes on when the timer is ready, after [`Limiter::fired`]. A request
//! larger than a whole bucket waits until the bucket is full and leaves it in debt, so it is never stuck
//! and the average rate still holds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer for less would cost more than the requests it lets through. No bucket refills faster than
/// in 1 ms, so no throughput is lost.
const SHORTEST_WAIT: Duration = Duration::from_micros(500);
/// A longer wait is split: the worker asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The limits of a device, as a user writes them. A bucket left out limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateLimiter {
    /// Tokens are bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucket>,
    /// Tokens are operations: disk requests, network packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

/// One bucket. A `size` or `refill_time` of 0 limits nothing, and as an update lifts the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenBucket {
    /// The tokens of a full bucket.
    pub size: u64,
    /// The milliseconds in which an empty bucket becomes full.
    pub refill_time: u64,
    /// Tokens on top at the start, spent first and never refilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
}

/// The limits of a device at work. Without limits it holds no fd and reads no clock.
#[derive(Debug, Default)]
pub struct Limiter {
    bandwidth: Option<Bucket>,
    ops: Option<Bucket>,
    timer: Option<OwnedFd>,
    blocked: bool,
}

impl Limiter {
    /// A limiter with full buckets.
    ///
    /// # Errors
    /// When there is a limit and the kernel grants no timer.
    pub fn new(limits: &RateLimiter) -> io::Result<Self> {
        let mut limiter = Self::default();
        limiter.update(limits)?;
        Ok(limiter)
    }

    /// Replaces the buckets that `limits` names, with full ones, and keeps the others. Only for a
    /// stopped device: the timer may be new.
    ///
    /// # Errors
    /// When the kernel grants no timer; nothing has changed then.
    pub fn update(&mut self, limits: &RateLimiter) -> io::Result<()> {
        let now = Instant::now();
        let bandwidth = limits
            .bandwidth
            .map_or(self.bandwidth, |bucket| Bucket::new(bucket, now));
        let ops = limits
            .ops
            .map_or(self.ops, |bucket| Bucket::new(bucket, now));
        if bandwidth.is_none() && ops.is_none() {
            *self = Self::default();
            return Ok(());
        }
        if self.timer.is_none() {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            self.timer = Some(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        }
        (self.bandwidth, self.ops) = (bandwidth, ops);
        // Whoever waits for the old limits asks again under the new ones.
        self.blocked = false;
        Ok(())
    }

    /// The timer to watch for input, if there is any limit.
    pub fn timer(&self) -> Option<&OwnedFd> {
        self.timer.as_ref()
    }

    /// Whether `fd` is this limiter's timer.
    pub fn is_timer(&self, fd: RawFd) -> bool {
        self.timer
            .as_ref()
            .is_some_and(|timer| timer.as_raw_fd() == fd)
    }

    /// Takes the timer's event: requests may be tried again.
    pub fn fired(&mut self) {
        if let Some(timer) = &self.timer {
            // Empty when the event is older than the last update.
            let _ = rustix::io::read(timer, &mut [0; 8]);
        }
        self.blocked = false;
    }

    /// Whether requests wait for the timer.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Asks for a request of `bytes` in `ops` operations. False: nothing was taken and the timer is set;
    /// ask again when it is ready.
    #[inline]
    pub fn consume(&mut self, bytes: u64, ops: u64) -> bool {
        if self.timer.is_none() {
            return true;
        }
        self.consume_at(Instant::now(), bytes, ops)
    }

    /// Asks whether something may be done whose size is not known yet, and takes nothing; what it was
    /// is told to [`Limiter::charge`]. False: as in [`Limiter::consume`].
    #[inline]
    pub fn admit(&mut self) -> bool {
        if self.timer.is_none() {
            return true;
        }
        self.admit_at(Instant::now(), 1, 1)
    }

    /// Takes tokens for what was done after [`Limiter::admit`]; the buckets may go into debt.
    #[inline]
    pub fn charge(&mut self, bytes: u64, ops: u64) {
        for (bucket, tokens) in [(&mut self.bandwidth, bytes), (&mut self.ops, ops)] {
            if let Some(bucket) = bucket {
                bucket.charge(tokens);
            }
        }
    }

    fn consume_at(&mut self, now: Instant, bytes: u64, ops: u64) -> bool {
        let admitted = self.admit_at(now, bytes, ops);
        if admitted {
            self.charge(bytes, ops);
        }
        admitted
    }

    fn admit_at(&mut self, now: Instant, bytes: u64, ops: u64) -> bool {
        if self.blocked {
            return false;
        }
        let wait = [(&mut self.bandwidth, bytes), (&mut self.ops, ops)]
            .into_iter()
            .filter_map(|(bucket, tokens)| bucket.as_mut()?.wait(now, tokens))
            .max();
        match wait {
            None => true,
            // A timer that cannot be set must not hold up the guest for ever: its limit gives way.
            Some(wait) => !self.block_for(wait),
        }
    }

    fn block_for(&mut self, wait: Duration) -> bool {
        let wait = wait.clamp(SHORTEST_WAIT, LONGEST_WAIT);
        let (Some(timer), Ok(it_value)) = (&self.timer, Timespec::try_from(wait)) else {
            return false;
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value,
        };
        self.blocked = timerfd_settime(timer.as_fd(), TimerfdTimerFlags::empty(), &once).is_ok();
        self.blocked
    }
}

/// A limit for what is dropped, not held back, when it is over the limit. It holds no fd and, without a
/// bucket, reads no clock.
#[derive(Debug, Default)]
pub struct Allowance(Option<Bucket>);

impl Allowance {
    /// A full bucket, or no limit.
    pub fn new(bucket: Option<TokenBucket>) -> Self {
        Self(bucket.and_then(|bucket| Bucket::new(bucket, Instant::now())))
    }

    /// Takes `tokens`. False: there are not enough, and none was taken.
    pub fn take(&mut self, tokens: u64) -> bool {
        match &mut self.0 {
            None => true,
            Some(bucket) => bucket.take(Instant::now(), tokens),
        }
    }
}

/// A bucket at work. **Never both a level and a debt.**
#[derive(Clone, Copy, Debug)]
struct Bucket {
    size: u64,
    refill_ns: u128,
    burst: u64,
    level: u64,
    debt: u64,
    refilled: Instant,
}

impl Bucket {
    fn new(config: TokenBucket, now: Instant) -> Option<Self> {
        if config.size == 0 || config.refill_time == 0 {
            return None;
        }
        Some(Self {
            size: config.size,
            refill_ns: Duration::from_millis(config.refill_time).as_nanos(),
            burst: config.one_time_burst.unwrap_or(0),
            level: config.size,
            debt: 0,
            refilled: now,
        })
    }

    /// How long until `tokens` may be taken; `None` when they may be taken now.
    fn wait(&mut self, now: Instant, tokens: u64) -> Option<Duration> {
        self.refill(now);
        if tokens <= self.burst {
            return None;
        }
        let needed = tokens.saturating_sub(self.burst).min(self.size);
        if self.debt == 0 && needed <= self.level {
            return None;
        }
        let missing = needed.saturating_sub(self.level).saturating_add(self.debt);
        let ns = self
            .refill_ns
            .saturating_mul(missing.into())
            .div_ceil(u128::from(self.size).max(1));
        Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }

    fn take(&mut self, now: Instant, tokens: u64) -> bool {
        let enough = self.wait(now, tokens).is_none();
        if enough {
            self.charge(tokens);
        }
        enough
    }

    fn charge(&mut self, tokens: u64) {
        let from_burst = tokens.min(self.burst);
        self.burst = self.burst.saturating_sub(from_burst);
        let tokens = tokens.saturating_sub(from_burst);
        let from_level = tokens.min(self.level);
        self.level = self.level.saturating_sub(from_level);
        self.debt = self.debt.saturating_add(tokens.saturating_sub(from_level));
    }

    /// Adds the tokens of the time since the last refill, and counts that time as used only as far as it
    /// made whole tokens.
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let size = u128::from(self.size);
        let earned = elapsed
            .as_nanos()
            .saturating_mul(size)
            .checked_div(self.refill_ns)
            .unwrap_or(u128::MAX);
        let room =
            u128::from(self.size.saturating_sub(self.level)).saturating_add(self.debt.into());
        let Ok(earned) = u64::try_from(earned.min(room)) else {
            return;
        };
        let paid = earned.min(self.debt);
        self.debt = self.debt.saturating_sub(paid);
        self.level = self.level.saturating_add(earned.saturating_sub(paid));
        if self.level >= self.size {
            self.refilled = now;
            return;
        }
        let used = self
            .refill_ns
            .saturating_mul(earned.into())
            .div_ceil(size.max(1));
        let used = Duration::from_nanos(u64::try_from(used).unwrap_or(u64::MAX));
        self.refilled = self.refilled.checked_add(used).unwrap_or(now).min(now);
    }
}

#[cfg(test)]
mod tests;
