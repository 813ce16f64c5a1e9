//! How long a worker lingers before it sleeps.
//!
//! A driver that sends one request at a time sends the next one a moment after it got the last. Who is
//! still awake then saves the guest's exit and his own sleep and wake-up, and pays for it with the time
//! he was awake in vain. The window follows what the driver does, as KVM's halt polling does: it
//! grows when the worker was woken soon after it fell asleep, and shrinks when that took long. Where
//! lingering finds nothing several times in a row, perhaps because the guest waits for this very
//! processor, it is given up for ever longer times.

use std::time::{Duration, Instant};

/// Nobody lingers longer.
const LONGEST: Duration = Duration::from_micros(50);
/// The first step from not lingering at all; below it the window closes.
const SHORTEST: Duration = Duration::from_micros(5);
/// Who is woken within this time was woken soon: it holds what a wake-up itself costs, which inside a
/// virtual machine is tens of microseconds.
const SOON: Duration = Duration::from_micros(100);
/// A turn with lingering ends after this time, so that the thread's other devices are served.
const TURN: Duration = Duration::from_micros(250);
/// How many looks at the queue go between two looks at the clock.
const LOOKS: u32 = 16;
/// So many lingers in vain, one after the other, and lingering is given up...
const PATIENCE: u32 = 4;
/// ...for so many wake-ups at first, and at most for so many.
const SHORT_REST: u32 = 16;
const LONG_REST: u32 = 1024;

/// The window of a worker.
#[derive(Debug, Default)]
pub(in crate::virtio) struct Poll {
    window: Duration,
    idle_since: Option<Instant>,
    turn_since: Option<Instant>,
    /// Lingers in vain since the last that was not.
    misses: u32,
    /// Wake-ups until lingering is tried again, and how many there were the last time.
    rest: u32,
    last_rest: u32,
}

impl Poll {
    /// Looks for work until the window closes. True: there is some.
    pub(in crate::virtio) fn linger(&mut self, mut has_work: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        self.idle_since = Some(start);
        let turn = self.turn_since.map(|since| start.duration_since(since));
        if self.window.is_zero() || turn.is_some_and(|turn| turn > TURN) {
            return false;
        }
        loop {
            for _ in 0..LOOKS {
                if has_work() {
                    self.hit();
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= self.window {
                self.miss();
                return false;
            }
        }
    }

    /// The worker was woken: learns from how long it was idle.
    pub(in crate::virtio) fn woken(&mut self) {
        let now = Instant::now();
        self.turn_since = Some(now);
        if let Some(since) = self.idle_since.take() {
            self.learn(now.duration_since(since));
        }
    }

    fn learn(&mut self, idle: Duration) {
        if self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
        } else if idle > SOON {
            self.window = self.window.checked_div(2).unwrap_or_default();
            if self.window < SHORTEST {
                self.window = Duration::ZERO;
            }
        } else if idle > self.window {
            self.window = self.window.saturating_mul(2).clamp(SHORTEST, LONGEST);
        }
    }

    fn hit(&mut self) {
        self.idle_since = None;
        (self.misses, self.last_rest) = (0, 0);
    }

    fn miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if self.misses >= PATIENCE {
            self.misses = 0;
            self.window = Duration::ZERO;
            self.last_rest = self
                .last_rest
                .saturating_mul(2)
                .clamp(SHORT_REST, LONG_REST);
            self.rest = self.last_rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Poll {
        Poll {
            window: SHORTEST,
            ..Poll::default()
        }
    }

    #[test]
    fn a_window_opens_for_a_driver_that_is_quick() {
        let mut poll = Poll::default();
        for _ in 0..5 {
            poll.learn(Duration::from_micros(60));
        }
        assert_eq!(poll.window, LONGEST);
    }

    #[test]
    fn a_window_closes_for_a_driver_that_is_slow() {
        let mut poll = open();
        poll.window = LONGEST;
        for _ in 0..4 {
            poll.learn(Duration::from_millis(1));
        }
        assert!(poll.window.is_zero());
    }

    #[test]
    fn a_window_never_opens_beyond_its_bound() {
        let mut poll = Poll::default();
        for _ in 0..100 {
            poll.learn(SOON);
        }
        assert_eq!(poll.window, LONGEST);
    }

    #[test]
    fn work_that_comes_meanwhile_is_found() {
        let mut looks = 0;
        let found = open().linger(|| {
            looks += 1;
            looks == 5
        });
        assert!(found);
    }

    #[test]
    fn who_lingers_in_vain_gives_it_up_for_ever_longer() {
        let mut poll = open();
        let mut rests = Vec::new();
        for _ in 0..12 {
            while !poll.window.is_zero() {
                poll.linger(|| false);
            }
            rests.push(poll.rest);
            while poll.window.is_zero() {
                poll.learn(SHORTEST);
            }
        }
        assert_eq!(rests[..3], [16, 32, 64]);
        assert_eq!(rests[11], LONG_REST);
    }

    #[test]
    fn a_turn_with_lingering_ends() {
        let mut poll = open();
        poll.turn_since = Instant::now().checked_sub(TURN * 2);
        assert!(!poll.linger(|| true));
    }
}
