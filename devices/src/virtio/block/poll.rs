//! How long a worker lingers before it sleeps.
//!
//! A driver that sends one request at a time sends the next one a moment after it got the last. Who is
//! still awake then saves the guest's exit and his own sleep and wake-up, and pays for it with the time
//! he was awake in vain. The window follows what the driver does, as KVM's halt polling does: it
//! grows when the next request came soon after the worker fell asleep, and shrinks when it came late.

use std::time::{Duration, Instant};

/// Nobody lingers longer.
const LONGEST: Duration = Duration::from_micros(32);
/// The first step from not lingering at all; below it the window closes.
const SHORTEST: Duration = Duration::from_micros(4);
/// A turn with lingering ends after this time, so that the thread's other devices are served.
const TURN: Duration = Duration::from_micros(250);
/// How many looks at the queue go between two looks at the clock.
const LOOKS: u32 = 16;

/// The window of a worker.
#[derive(Debug, Default)]
pub(super) struct Poll {
    window: Duration,
    idle_since: Option<Instant>,
    turn_since: Option<Instant>,
}

impl Poll {
    /// Looks for work until the window closes. True: there is some.
    pub(super) fn linger(&mut self, mut has_work: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        self.idle_since = Some(start);
        let turn = self.turn_since.map(|since| start.duration_since(since));
        if self.window.is_zero() || turn.is_some_and(|turn| turn > TURN) {
            return false;
        }
        loop {
            for _ in 0..LOOKS {
                if has_work() {
                    self.idle_since = None;
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= self.window {
                return false;
            }
        }
    }

    /// The worker was woken: learns from how long it was idle.
    pub(super) fn woken(&mut self) {
        let now = Instant::now();
        self.turn_since = Some(now);
        if let Some(since) = self.idle_since.take() {
            self.learn(now.duration_since(since));
        }
    }

    fn learn(&mut self, idle: Duration) {
        if idle > LONGEST {
            self.window = self.window.checked_div(2).unwrap_or_default();
            if self.window < SHORTEST {
                self.window = Duration::ZERO;
            }
        } else if idle > self.window {
            self.window = self.window.saturating_mul(2).clamp(SHORTEST, LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_for_a_driver_that_is_quick() {
        let mut poll = Poll::default();
        for _ in 0..4 {
            poll.learn(Duration::from_micros(20));
        }
        assert!(poll.window >= Duration::from_micros(20));
    }

    #[test]
    fn a_window_closes_for_a_driver_that_is_slow() {
        let mut poll = Poll {
            window: LONGEST,
            ..Poll::default()
        };
        for _ in 0..4 {
            poll.learn(Duration::from_millis(1));
        }
        assert!(poll.window.is_zero());
    }

    #[test]
    fn a_window_never_opens_beyond_its_bound() {
        let mut poll = Poll::default();
        for _ in 0..100 {
            poll.learn(LONGEST);
        }
        assert_eq!(poll.window, LONGEST);
    }

    #[test]
    fn work_that_comes_meanwhile_is_found() {
        let mut poll = Poll {
            window: LONGEST,
            ..Poll::default()
        };
        let mut looks = 0;
        let found = poll.linger(|| {
            looks += 1;
            looks == 5
        });
        assert!(found);
    }
}
