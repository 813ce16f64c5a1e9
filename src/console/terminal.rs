//! The terminal in raw mode, and back again whatever happens.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock};

use nix::unistd::{getpgrp, tcgetpgrp};
// Not std's, here and wherever a VM runs: it keeps a buffer of 8 KiB that nobody would read from.
use rustix::stdio::stdin;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    tcgetattr, tcgetwinsize, tcsetattr,
};

/// The terminal's settings from before, while it is raw. Here and not in [`Raw`], so that the panic hook
/// finds it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal in raw mode: every key goes through. Dropping it puts the terminal back.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes the terminal on stdin raw, until the value is dropped or the process panics.
    ///
    /// # Errors
    /// When stdin is no terminal, or does not obey.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = stdin();
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        // The output too: a program in the guest may move down a column with a bare line feed.
        raw.make_raw();
        *lock() = Some(before);
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// A terminal's settings.
pub(crate) type Settings = Termios;

/// The settings of the terminal on stdin, if it is one.
pub(crate) fn settings() -> Option<Settings> {
    tcgetattr(stdin()).ok()
}

/// Puts the terminal on stdin back to settings of before, for a process that could not.
pub(crate) fn put_back(settings: &Settings) {
    // A terminal that is gone needs nothing.
    let _ = tcsetattr(stdin(), OptionalActions::Now, settings);
}

/// Puts the terminal on stdin back to settings of before, if it is still as raw as a console of ours makes it: by now it
/// may be another program's, with settings of its own.
pub(crate) fn put_back_if_raw(settings: &Settings) {
    let mut raw = settings.clone();
    raw.make_raw();
    let modes = |one: &Settings| (one.input_modes, one.output_modes, one.local_modes);
    if tcgetattr(stdin()).is_ok_and(|now| modes(&now) == modes(&raw)) {
        put_back(settings);
    }
}

/// Settings as a line of text: what raw mode changes of them.
pub(crate) fn as_text(settings: &Settings) -> String {
    let codes = &settings.special_codes;
    format!(
        "{}:{}:{}:{}:{}:{}",
        settings.input_modes.bits(),
        settings.output_modes.bits(),
        settings.control_modes.bits(),
        settings.local_modes.bits(),
        codes[SpecialCodeIndex::VMIN],
        codes[SpecialCodeIndex::VTIME],
    )
}

/// The settings of the terminal on stdin, with those of a line of text; `None` for a line that is none, or without a
/// terminal.
pub(crate) fn from_text(text: &str) -> Option<Settings> {
    let mut settings = settings()?;
    let mut numbers = text.split(':').map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    settings.input_modes = InputModes::from_bits_retain(next()?);
    settings.output_modes = OutputModes::from_bits_retain(next()?);
    settings.control_modes = ControlModes::from_bits_retain(next()?);
    settings.local_modes = LocalModes::from_bits_retain(next()?);
    settings.special_codes[SpecialCodeIndex::VMIN] = u8::try_from(next()?).ok()?;
    settings.special_codes[SpecialCodeIndex::VTIME] = u8::try_from(next()?).ok()?;
    Some(settings)
}

/// Whether what stdin has may be read. That of a terminal in whose background this process is may not: the kernel
/// stops whoever tries, or changes the terminal (`termios(3)`, SIGTTIN and SIGTTOU).
pub(crate) fn may_be_read() -> bool {
    match tcgetpgrp(stdin()) {
        // Both are 0 where the group was left outside a PID namespace, whose kernel shows no number for it.
        Ok(group) => group == getpgrp(),
        // No terminal, or nobody's.
        Err(_) => true,
    }
}

/// Whether the terminal is raw: a line feed alone then does not lead to the left edge.
pub(crate) fn is_raw() -> bool {
    lock().is_some()
}

/// Whether stderr is a terminal, asked once: before the threads are confined.
pub(crate) fn is_on_stderr() -> bool {
    static IS_TERMINAL: OnceLock<bool> = OnceLock::new();
    *IS_TERMINAL.get_or_init(|| io::stderr().is_terminal())
}

/// Puts the terminal back if it is raw.
fn restore() {
    if let Some(before) = lock().take() {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

/// Puts the terminal back before a panic speaks and ends the process.
pub(crate) fn restore_on_panic() {
    let speak = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        speak(panic);
    }));
}

/// The terminal's size as rows and columns, when stdin is a terminal that knows it.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::OpenOptions;
    use std::process::Command;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    // Not std's, here and wherever a VM runs: it keeps a buffer of 8 KiB that nobody would read from.
    use rustix::stdio::stdin;
    use rustix::termios::LocalModes;

    use super::*;

    /// Set for the process whose panic the test looks at.
    const PANICKER: &str = "RAVELIN_TEST_PANICKER";

    #[test]
    fn a_panic_puts_the_terminal_back_before_it_speaks() {
        if env::var_os(PANICKER).is_some() {
            restore_on_panic();
            // Forgotten: what puts the terminal back is the hook and not the value's drop, since ravelin does
            // not unwind.
            std::mem::forget(Raw::enter().unwrap());
            let now = tcgetattr(stdin()).unwrap();
            assert!(!now.local_modes.contains(LocalModes::ECHO));
            println!("raw");
            panic!("on purpose");
        }
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let mut options = OpenOptions::new();
        let terminal = options.read(true).write(true).open(path).unwrap();
        let name = "console::terminal::tests::a_panic_puts_the_terminal_back_before_it_speaks";
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PANICKER, "1")
            .stdin(terminal.try_clone().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("raw") && !output.status.success(),
            "{output:?}"
        );
        let after = tcgetattr(&terminal).unwrap();
        assert!(
            after
                .local_modes
                .contains(LocalModes::ECHO | LocalModes::ICANON)
        );
    }
}
