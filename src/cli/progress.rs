//! One line on the terminal that says what is going on, and disappears.

use std::io::{self, IsTerminal, Write};

/// A progress line on stderr; silent where nobody would see it.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    enabled: bool,
}

impl Progress {
    /// A line that shows itself on a terminal, unless `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            shown: false,
            enabled: !quiet && io::stderr().is_terminal(),
        }
    }

    /// Shows `text` in place of what was there.
    pub(crate) fn say(&mut self, text: &str) {
        if self.enabled {
            eprint!("\r\x1b[K{text}...");
            let _ = io::stderr().flush();
            self.shown = true;
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
