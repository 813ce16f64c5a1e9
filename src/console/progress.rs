//! One line on the terminal that says what is going on, and disappears.

use std::io::{self, Write};

use crate::console::line::{self, Line};
use crate::console::terminal;

/// A progress line on stderr; silent where nobody would see it.
#[derive(Debug)]
pub(crate) struct Progress {
    enabled: bool,
    shown: bool,
}

impl Progress {
    /// A line that shows itself on a terminal, if it is `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            enabled: wanted && terminal::is_on_stderr(),
            shown: false,
        }
    }

    /// Shows `text` in place of what was there.
    pub(crate) fn say(&mut self, text: &str) {
        if self.enabled {
            write(&format!("{}{text}...", line::CLEAR));
            line::set(Line::Progress);
            self.shown = true;
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            write(line::begin());
        }
    }
}

/// A terminal that is gone sees no progress.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
