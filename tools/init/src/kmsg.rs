//! What this init has to say: to the kernel's log, and errors on the console as well, where a quiet kernel
//! would not show them.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::OnceLock;

/// Who speaks.
static NAME: OnceLock<&'static str> = OnceLock::new();

/// Has this process say its lines under another name than `guest-init`; the first name stands.
pub fn speak_as(name: &'static str) {
    // The first name stands.
    let _ = NAME.set(name);
}

fn name() -> &'static str {
    NAME.get().copied().unwrap_or("guest-init")
}

/// Says what a user need not act on (kernel level 6: on the console unless the kernel is quiet).
pub fn info(message: &dyn Display) {
    write(6, message);
}

/// Says what went wrong: on the console, and in the log at a level (7) that does not print it there twice.
pub fn error(message: &dyn Display) {
    write(7, message);
    // Nowhere to say it: nothing can be done about that.
    let _ = writeln!(std::io::stderr(), "{}: {message}", name());
}

fn write(level: u8, message: &dyn Display) {
    let line = format!("<{level}>{}: {message}\n", name());
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // The log is a courtesy: a guest without it runs as well.
        let _ = log.write_all(line.as_bytes());
    }
}
