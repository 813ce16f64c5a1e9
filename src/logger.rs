//! What ravelin says of itself: log lines, and what the user is told in any case. On stderr, and in a log
//! file if there is one: one line an event, written at once.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::OFlags;

use crate::console::{line, terminal};

static LOGGER: OnceLock<Logger> = OnceLock::new();

#[derive(Debug)]
struct Logger {
    /// `ravelin`, and the VM's name.
    speaker: String,
    /// Where log lines go instead of stderr.
    file: Option<Mutex<File>>,
    start: Instant,
}

/// Sends log lines of at least `level` to `file`, or to stderr. The lines begin with `name`, if there is one.
///
/// # Errors
/// When the file cannot be opened for appending.
pub(crate) fn init(level: LevelFilter, file: Option<&Path>, name: Option<&str>) -> io::Result<()> {
    let speaker = name.map_or_else(|| "ravelin".to_owned(), |name| format!("ravelin {name}"));
    let file = file.map(|path| {
        // A pipe that nobody reads is an error, and one that is full loses lines: neither stops ravelin.
        OpenOptions::new()
            .append(true)
            .create(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
    });
    // A file that cannot be opened is told of under the VM's name already.
    let (file, error) = match file.transpose() {
        Ok(file) => (file.map(Mutex::new), None),
        Err(error) => (None, Some(error)),
    };
    let logger = LOGGER.get_or_init(|| Logger {
        speaker,
        file,
        start: Instant::now(),
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
    error.map_or(Ok(()), Err)
}

/// Tells the user on stderr, whatever the log's level. The log file has it as well.
pub(crate) fn tell(text: &str) {
    let logger = LOGGER.get();
    let speaker = logger.map_or("ravelin", |logger| logger.speaker.as_str());
    write_stderr(&format!("{speaker}: {text}\n"));
    note(text);
}

/// Writes into the log file, if there is one, what stands on stderr or is kept from it.
pub(crate) fn note(text: &str) {
    if let Some(logger) = LOGGER.get() {
        logger.write_file(&format!("{}: {text}", logger.speaker));
    }
}

impl Logger {
    fn write_file(&self, text: &str) {
        if let Some(file) = &self.file {
            let line = format!("{} {text}\n", utc(SystemTime::now()));
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written stops nothing.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        // Whoever looks that closely wants to know when.
        let when = if log::max_level() >= LevelFilter::Debug {
            format!("{:.4} s ", self.start.elapsed().as_secs_f64())
        } else {
            String::new()
        };
        let text = format!("{}: {when}{level}: {}", self.speaker, record.args());
        if self.file.is_some() {
            self.write_file(&text);
        } else {
            write_stderr(&format!("{text}\n"));
        }
    }

    fn flush(&self) {}
}

/// Writes lines to stderr at once; a stderr that is gone stops nothing.
fn write_stderr(lines: &str) {
    let mut text = format!("{}{lines}", line::begin());
    if terminal::is_raw() && io::stderr().is_terminal() {
        text = text.replace('\n', "\r\n");
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Now, in UTC with nanoseconds, as Firecracker's log lines begin.
pub(crate) fn nanoseconds() -> String {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let text = utc(now);
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{seconds}.{:09}", since.subsec_nanos())
}

/// A point in time as RFC 3339 in UTC with milliseconds.
fn utc(time: SystemTime) -> String {
    const DAY: u64 = 86_400;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn date(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
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
}
