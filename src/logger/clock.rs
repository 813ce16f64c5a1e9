//! The time of day, as it stands at the beginning of lines.
#![expect(unsafe_code, reason = "the C library knows the time zone")]

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What turns seconds since 1970 into a date and a time of day.
type Convert = unsafe extern "C" fn(*const libc::time_t, *mut libc::tm) -> *mut libc::tm;

/// A point in time as RFC 3339 in UTC with milliseconds.
pub(super) fn utc(time: SystemTime) -> String {
    let since = since_1970(time);
    let seconds = date(since, libc::gmtime_r);
    format!("{seconds}.{:03}Z", since.subsec_millis())
}

/// A point in time in this host's time zone with nanoseconds, as Firecracker writes it. The zone is read once,
/// at the first call: **call it before files can no longer be opened**. Without one (an empty root has none) it
/// is UTC.
pub(super) fn local(time: SystemTime) -> String {
    let since = since_1970(time);
    let seconds = date(since, libc::localtime_r);
    format!("{seconds}.{:09}", since.subsec_nanos())
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

fn date(since: Duration, convert: Convert) -> String {
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(libc::time_t::MAX);
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of this frame; the C library writes all of the second, or returns null
    // where the year is too large for it, and then the zeros stay.
    unsafe { convert(&raw const seconds, tm.as_mut_ptr()) };
    // SAFETY: it was zeroed, which is a valid value of each of its fields, and maybe written.
    let tm = unsafe { tm.assume_init() };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        i64::from(tm.tm_year) + 1900,
        tm.tm_mon + 1,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_dates_in_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_704_067_199, "2023-12-31T23:59:59.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        let half = UNIX_EPOCH + Duration::from_millis(1500);
        assert_eq!(utc(half), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn local_time_has_nanoseconds_and_is_at_most_a_day_off() {
        let time = UNIX_EPOCH + Duration::new(1_709_251_200, 42);
        let text = local(time);
        let (seconds, nanoseconds) = text.split_once('.').unwrap();
        assert_eq!(nanoseconds, "000000042");
        let days = ["2024-02-29T", "2024-03-01T"];
        assert!(days.iter().any(|day| seconds.starts_with(day)), "{text}");
        assert_eq!(seconds.len(), "2024-03-01T00:00:00".len());
    }
}
