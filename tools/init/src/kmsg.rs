//! What this init has to say: to the kernel's log, and errors on the console as well, where a quiet kernel
//! would not show them.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The console's level and the level of `quiet` (printk(9)): messages below it are printed.
const CONSOLE_LEVEL: &str = "/proc/sys/kernel/printk";
const QUIET: u8 = 4;

/// Says what a user need not act on (kernel level 6: on the console unless the kernel is quiet).
pub(crate) fn info(message: &dyn Display) {
    write(6, message);
}

/// Says what went wrong: on the console, and in the log at a level (7) that does not print it there twice.
pub(crate) fn error(message: &dyn Display) {
    write(7, message);
    // Nowhere to say it: nothing can be done about that.
    let _ = writeln!(std::io::stderr(), "guest-init: {message}");
}

/// Keeps a quiet kernel from saying at the highest level that it powers off: a command's output ends with its
/// last line.
pub(crate) fn stay_quiet() {
    let levels = std::fs::read_to_string(CONSOLE_LEVEL).unwrap_or_default();
    if is_quiet(&levels) {
        // A kernel that does not take it says one line more.
        let _ = std::fs::write(CONSOLE_LEVEL, "0");
    }
}

/// Whether the first of printk's four levels is that of `quiet` or lower.
fn is_quiet(levels: &str) -> bool {
    let level = levels
        .split_whitespace()
        .next()
        .and_then(|level| level.parse::<u8>().ok());
    level.is_some_and(|level| level <= QUIET)
}

fn write(level: u8, message: &dyn Display) {
    let line = format!("<{level}>guest-init: {message}\n");
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // The log is a courtesy: a guest without it runs as well.
        let _ = log.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_quiet_up_to_level_four() {
        assert!(is_quiet("4\t4\t1\t7\n"));
        assert!(is_quiet("1 4 1 7"));
        assert!(!is_quiet("7\t4\t1\t7\n"));
        assert!(!is_quiet(""));
    }
}
