//! How long the parts of a start take, for the log.

use std::fmt;
use std::time::{Duration, Instant};

/// Parts by their names, one after another.
#[derive(Debug)]
pub(crate) struct Laps {
    last: Instant,
    parts: Vec<(&'static str, Duration)>,
}

impl Laps {
    /// The first part begins.
    pub(crate) fn begin() -> Self {
        Self {
            last: Instant::now(),
            parts: Vec::new(),
        }
    }

    /// A part ends, and the next one begins.
    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.parts.push((name, now - self.last));
        self.last = now;
    }
}

impl fmt::Display for Laps {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, time)) in self.parts.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(out, "{comma}{name} {} ms", time.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_in_their_order() {
        let mut laps = Laps::begin();
        laps.lap("disk");
        laps.lap("guest");
        let text = laps.to_string();
        assert!(
            text.starts_with("disk ") && text.contains(" ms, guest "),
            "{text}"
        );
    }
}
