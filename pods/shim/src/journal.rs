//! Log lines, into the fifo that containerd has put into the bundle; never waited for.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};
use rustix::fs::{Mode, OFlags};

/// The fifo in the bundle.
const FIFO: &str = "log";
/// The longest line, bytes: a pipe takes this much whole.
const LONGEST: usize = 4096;

#[derive(Debug)]
struct Journal {
    fifo: File,
}

/// Has log lines go where containerd reads them. Where nobody reads they are forgotten.
pub(crate) fn begin(bundle: &Path, debug: bool) {
    // For reading too: so it stays a pipe with a reader when containerd ends, and a full one loses lines.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fifo) = rustix::fs::open(bundle.join(FIFO), flags, Mode::empty()) else {
        return;
    };
    if log::set_boxed_logger(Box::new(Journal { fifo: fifo.into() })).is_ok() {
        log::set_max_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        });
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            let line = line(&level, &record.args().to_string());
            // A full pipe loses the line.
            let _ = (&self.fifo).write(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// As containerd's own lines are, so that what it copies reads the same.
fn line(level: &str, text: &str) -> String {
    let text: String = text.chars().take(LONGEST / 8).collect();
    format!("level={level} msg={text:?} runtime=io.containerd.ravelin.v2\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_is_bounded() {
        let line = line("info", &"a\nb".repeat(10_000));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() <= LONGEST, "{}", line.len());
    }
}
