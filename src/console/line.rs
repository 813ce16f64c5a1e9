//! The terminal's line: whose text stands on it, so that nobody writes into another's.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::console::terminal;

/// Whose text stands left of the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Line {
    /// Nobody's.
    Fresh,
    /// The guest's: an unfinished line.
    Guest,
    /// The progress line, which is to disappear.
    Progress,
}

static LINE: AtomicU8 = AtomicU8::new(Line::Fresh as u8);

/// Remembers whose text stands on the terminal's line now.
pub(crate) fn set(line: Line) {
    LINE.store(line as u8, Ordering::Relaxed);
}

/// Begins a line of ravelin's own on stderr: what must be written first to have the terminal's line for
/// itself. Nothing where stderr is no terminal.
pub(crate) fn begin() -> &'static str {
    if !terminal::is_on_stderr() {
        return "";
    }
    match LINE.swap(Line::Fresh as u8, Ordering::Relaxed) {
        line if line == Line::Guest as u8 => "\n",
        line if line == Line::Progress as u8 => CLEAR,
        _ => "",
    }
}

/// Takes away what stands on the line.
pub(crate) const CLEAR: &str = "\r\x1b[K";
