//! How many lines one place in the source may write, whatever the guest does to have it write them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Lines that a place may write at once...
const BURST: u32 = 10;
/// ...and how long it takes until it may write another.
const REFILL: Duration = Duration::from_millis(500);
/// Places that have a measure of their own; all others share one.
const PLACES: usize = 256;

/// A line of the source.
pub(super) type Place = (&'static str, u32);

/// The measures of all places.
#[derive(Debug, Default)]
pub(super) struct Limits {
    places: HashMap<Place, Measure>,
    others: Option<Measure>,
}

/// What a place may still write.
#[derive(Debug)]
struct Measure {
    lines: u32,
    since: Instant,
    suppressed: u64,
}

impl Limits {
    /// Asks for a line of `place` at `now`. `None`: it is not to be written. `Some`: it is, and as many before
    /// it were not since the last that was.
    pub(super) fn admit(&mut self, place: Place, now: Instant) -> Option<u64> {
        let is_new = !self.places.contains_key(&place);
        let measure = if is_new && self.places.len() >= PLACES {
            self.others.get_or_insert_with(|| Measure::full(now))
        } else {
            self.places
                .entry(place)
                .or_insert_with(|| Measure::full(now))
        };
        measure.admit(now)
    }
}

impl Measure {
    fn full(now: Instant) -> Self {
        Self {
            lines: BURST,
            since: now,
            suppressed: 0,
        }
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.lines == 0 {
            self.suppressed += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        self.lines = self.lines.saturating_add(more).min(BURST);
        // A full measure does not save up time.
        self.since = match self.since.checked_add(REFILL.saturating_mul(more)) {
            Some(since) if self.lines < BURST => since,
            _ => now,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = ("here.rs", 1);

    fn admitted(limits: &mut Limits, place: Place, now: Instant, lines: u32) -> usize {
        (0..lines)
            .filter(|_| limits.admit(place, now).is_some())
            .count()
    }

    #[test]
    fn ten_lines_at_once_and_one_each_half_second_after_them() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        assert_eq!(admitted(&mut limits, HERE, start, 100), 10);
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(admitted(&mut limits, HERE, after(499), 5), 0);
        assert_eq!(admitted(&mut limits, HERE, after(500), 5), 1);
        assert_eq!(admitted(&mut limits, HERE, after(999), 5), 0);
        assert_eq!(admitted(&mut limits, HERE, after(2000), 5), 3);
        assert_eq!(admitted(&mut limits, HERE, after(3_600_000), 100), 10);
    }

    #[test]
    fn the_next_line_knows_how_many_were_kept_back() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        assert_eq!(limits.admit(HERE, start), Some(0));
        admitted(&mut limits, HERE, start, 12);
        let later = start + REFILL;
        assert_eq!(limits.admit(HERE, later), Some(3));
        assert_eq!(limits.admit(HERE, later + REFILL), Some(0));
    }

    #[test]
    fn one_place_takes_nothing_from_another() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        assert_eq!(admitted(&mut limits, HERE, start, 20), 10);
        assert_eq!(admitted(&mut limits, ("here.rs", 2), start, 20), 10);
    }

    #[test]
    fn places_beyond_the_table_share_one_measure() {
        let (mut limits, start) = (Limits::default(), Instant::now());
        for line in 0..1000 {
            limits.admit(("many.rs", line), start);
        }
        assert_eq!(limits.places.len(), PLACES);
        assert_eq!(admitted(&mut limits, ("late.rs", 1), start, 20), 0);
        assert_eq!(admitted(&mut limits, ("many.rs", 0), start, 20), 9);
    }
}
