//! Log lines on stderr or in a file: one line an event, flushed at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};

struct Logger {
    file: Option<Mutex<File>>,
}

/// Sends log lines of at least `level` to `file`, or to stderr.
///
/// # Errors
/// When the file cannot be opened for appending.
pub(crate) fn init(level: LevelFilter, file: Option<&Path>) -> io::Result<()> {
    let file = file
        .map(|path| OpenOptions::new().append(true).create(true).open(path))
        .transpose()?
        .map(Mutex::new);
    if log::set_boxed_logger(Box::new(Logger { file })).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        let line = format!("ravelin: {level}: {}\n", record.args());
        // A log that cannot be written stops nothing.
        let _ = match &self.file {
            Some(file) => file
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}
