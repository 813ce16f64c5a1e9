//! How far an image has come, as one line on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use image::manifest::Progress;

/// How often the line changes.
const TICK: Duration = Duration::from_millis(100);
const WIDTH: u64 = 24;

/// The line. It is taken away at its end.
pub(super) struct Bar {
    name: String,
    is_shown: bool,
    was_shown: bool,
    next: Instant,
}

impl Bar {
    /// For an image; nothing is shown to who is no terminal.
    pub(super) fn new(quiet: bool, name: &str) -> Self {
        Self {
            name: name.chars().filter(|c| !c.is_control()).take(40).collect(),
            is_shown: !quiet && io::stderr().is_terminal(),
            was_shown: false,
            next: Instant::now() + TICK,
        }
    }

    /// Shows it.
    pub(super) fn show(&mut self, progress: Progress) {
        if !self.is_shown || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + TICK;
        self.was_shown = true;
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[K{} {}", self.name, line(progress));
        let _ = err.flush();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.was_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(progress: Progress) -> String {
    let Progress {
        layer,
        layers,
        read,
        size,
    } = progress;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    match size.filter(|size| *size > 0) {
        Some(size) => {
            let done = (read.min(size) * WIDTH / size).min(WIDTH);
            let bar: String = (0..WIDTH)
                .map(|at| if at < done { '#' } else { '.' })
                .collect();
            format!(
                "layer {layer}/{layers} [{bar}] {}/{} MiB",
                mib(read),
                mib(size)
            )
        }
        None => format!("layer {layer}/{layers} {} MiB", mib(read)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_of_what() {
        let progress = Progress {
            layer: 2,
            layers: 3,
            read: 1 << 20,
            size: Some(4 << 20),
        };
        assert_eq!(
            line(progress),
            "layer 2/3 [######..................] 1.0/4.0 MiB"
        );
    }
}
