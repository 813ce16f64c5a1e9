//! The real-time clock behind ports 0x70 and 0x71 (MC146818).
//!
//! A kernel with kvmclock never asks it; one without waits up to a second for a clock that does not
//! answer, and then has the wrong time. So it tells the host's time (UTC) and keeps nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::bus::{BusDevice, Range};

/// The ports: index at 0x70, data at 0x71.
pub const PORTS: Range = Range { base: 0x70, len: 2 };

/// Status register B: 24-hour time, binary-coded decimal.
const STATUS_B: u8 = 0x02;
/// Status register D: the clock has power.
const STATUS_D: u8 = 0x80;

/// A clock that shows the host's time.
#[derive(Debug, Default)]
pub struct Cmos {
    index: u8,
}

impl BusDevice for Cmos {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let (1, [value]) = (offset, data) {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            *value = register(self.index, now);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // Bit 7 of the index masks the NMI, which this machine does not have.
        if let (0, [value]) = (offset, data) {
            self.index = value & 0x7f;
        }
    }
}

/// A register of the clock at `now` seconds after 1970.
fn register(index: u8, now: u64) -> u8 {
    let date = Date::of(now);
    let value = match index {
        0x00 => date.second,
        0x02 => date.minute,
        0x04 => date.hour,
        0x06 => date.weekday,
        0x07 => date.day,
        0x08 => date.month,
        0x09 => date.year % 100,
        0x32 => date.year / 100,
        0x0b => return STATUS_B,
        0x0d => return STATUS_D,
        _ => return 0,
    };
    bcd(value)
}

/// A date and time in UTC, as the clock's registers split it.
#[derive(Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    /// The civil calendar from a count of seconds. Years begin in March here, so that the leap day is the
    /// last of a year; 146,097 days are 400 years.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "seconds below 2^64 leave every step far from overflow, and the divisors are constants"
    )]
    fn of(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let since_era = days + 719_468;
        let (era, day_of_era) = (since_era / 146_097, since_era % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: (days + 4) % 7 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

/// Two decimal digits in one byte.
#[expect(clippy::arithmetic_side_effects, reason = "two digits fit into a byte")]
fn bcd(value: u64) -> u8 {
    let value = value % 100;
    u8::try_from(value / 10 * 16 + value % 10).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29 23:59:58, a Thursday.
    const LEAP_DAY: u64 = 1_709_251_198;

    #[test]
    fn a_leap_day_reads_as_the_calendar_has_it() {
        let registers =
            [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32].map(|i| register(i, LEAP_DAY));
        assert_eq!(registers, [0x58, 0x59, 0x23, 0x05, 0x29, 0x02, 0x24, 0x20]);
    }

    #[test]
    fn the_last_day_of_a_century_reads_as_the_calendar_has_it() {
        let date = Date::of(4_102_444_799);
        assert_eq!((date.year, date.month, date.day), (2099, 12, 31));
    }

    #[test]
    fn the_clock_never_says_that_it_is_busy() {
        assert_eq!(register(0x0a, LEAP_DAY) & 0x80, 0);
        assert_eq!(register(0x0d, LEAP_DAY), 0x80);
    }
}
