//! The text of a line: bounded, and with nothing in it that a terminal or a reader of lines would obey.

use std::fmt::{self, Write};
use std::time::SystemTime;

use log::{Level, Record};

use super::clock;

/// The longest line with its end, in bytes: what a pipe takes whole (`pipe(7)`, PIPE_BUF).
const LONGEST: usize = 4096;
/// What stands at the end of a line that was cut.
const CUT: &str = "...";

/// Text up to a length. Control characters, which may be a guest's, are written as escapes.
struct Bounded {
    text: String,
    room: usize,
    is_cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for letter in more.chars().filter(|_| !self.is_cut) {
            let start = self.text.len();
            if letter.is_control() {
                write!(self.text, "{}", letter.escape_default())?;
            } else {
                self.text.push(letter);
            }
            if self.text.len() > self.room {
                self.text.truncate(start);
                self.is_cut = true;
                break;
            }
        }
        Ok(())
    }
}

/// A line: `begin`, then `args` as far as they fit.
pub(super) fn line(begin: &str, args: fmt::Arguments<'_>) -> String {
    let mut line = Bounded {
        text: begin.to_owned(),
        room: LONGEST - CUT.len() - 1,
        is_cut: false,
    };
    // What cannot be formatted is missing; the bounded text itself takes everything.
    let _ = line.write_fmt(args);
    let Bounded {
        mut text, is_cut, ..
    } = line;
    if is_cut {
        text.push_str(CUT);
    }
    text.push('\n');
    text
}

/// What a line in Firecracker's format shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Show {
    /// How severe it is.
    pub(super) level: bool,
    /// Which line of the source wrote it.
    pub(super) origin: bool,
}

/// `time [id:thread:LEVEL:file:line] `: the beginning of a line in Firecracker's format.
pub(super) fn firecracker(time: SystemTime, id: &str, show: Show, record: &Record<'_>) -> String {
    let mut begin = format!("{} [{id}:{}", clock::local(time), thread());
    if show.level {
        begin.push(':');
        begin.push_str(record.level().as_str());
    }
    if show.origin {
        let file = record.file().unwrap_or("?");
        begin.push_str(&match record.line() {
            Some(line) => format!(":{file}:{line}"),
            None => format!(":{file}:?"),
        });
    }
    begin.push_str("] ");
    begin
}

/// The thread's name, as Firecracker calls the thread that does the same.
fn thread() -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("-");
    match name.strip_prefix("vcpu") {
        Some(index) if index.parse::<u8>().is_ok() => format!("fc_vcpu {index}"),
        _ if name == "api" => "fc_api".to_owned(),
        _ => name.to_owned(),
    }
}

/// The word for a level in ravelin's own format.
pub(super) fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let text = line("> ", format_args!("a\x1b[2J\nb\r\u{9b}c\u{e9}"));
        assert_eq!(text, "> a\\u{1b}[2J\\nb\\r\\u{9b}c\u{e9}\n");
    }

    #[test]
    fn a_line_is_cut_where_a_pipe_would_tear_it() {
        let long = "\u{e9}".repeat(10_000);
        let text = line("begin ", format_args!("{long}{long}"));
        assert!(
            (LONGEST - 2..=LONGEST).contains(&text.len()),
            "{}",
            text.len()
        );
        assert!(text.ends_with("\u{e9}...\n"));
        let most = "x".repeat(LONGEST - CUT.len() - 1);
        assert_eq!(line("", format_args!("{most}")), format!("{most}\n"));
    }

    #[test]
    fn threads_have_firecrackers_names() {
        for (name, expected) in [("vcpu3", "fc_vcpu 3"), ("api", "fc_api"), ("io0", "io0")] {
            let spawned = std::thread::Builder::new().name(name.to_owned());
            let seen = spawned.spawn(thread).unwrap().join().unwrap();
            assert_eq!(seen, expected);
        }
    }
}
