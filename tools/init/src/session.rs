//! The session of the command: a process of its own that owns the console.
//!
//! The first process starts itself again as `guest-init session TTY -- WORDS`. That process leads a new
//! session, opens the terminal (which so becomes the controlling one), runs the words in the same process
//! group and waits. It exits with their status only after the terminal has sent everything: when a session
//! leader exits, the kernel hangs the terminal up and drops what is still queued, so a command that led its
//! own session could lose its last lines.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use rustix::termios::tcdrain;

use crate::kmsg;
use crate::raw::{self, SignalSet};
use crate::supervise;

/// The first argument that makes this program a session.
pub const MODE: &str = "session";
/// Status of a command that does not exist, as a shell has it.
const NOT_FOUND: u8 = 127;
/// Status of a command that cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// Runs a session; anything else than `session TTY -- WORDS` is refused.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    match &arguments[..] {
        [mode, tty, dashes, program, words @ ..] if mode == MODE && dashes == "--" => {
            ExitCode::from(run(Path::new(tty), program, words))
        }
        _ => {
            eprintln!(
                "guest-init is the first process of a guest, not a command: \
                 boot a kernel with it as /init of an initramfs or /sbin/init of a root"
            );
            ExitCode::from(2)
        }
    }
}

/// The terminal behind the console. `/dev/console` itself never becomes a controlling terminal.
pub fn console() -> PathBuf {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    match last_console(&active) {
        Some(name) => Path::new("/dev").join(name),
        None => "/dev/null".into(),
    }
}

/// The console that `/dev/console` means: the last one listed.
fn last_console(active: &str) -> Option<&str> {
    active.split_whitespace().last()
}

fn run(tty: &Path, program: &OsStr, words: &[OsString]) -> u8 {
    if let Err(error) = take_terminal(tty) {
        kmsg::error(&format_args!(
            "cannot use {} as the console: {error}",
            tty.display()
        ));
    }
    // Keys that signal the foreground group are for the command alone.
    raw::disregard(&[libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP]);
    // The first process has blocked what it waits for, and a program inherits that.
    SignalSet::new(&supervise::SIGNALS).unblock();
    let status = match Command::new(program).args(words).status() {
        Ok(status) => status_byte(status),
        Err(error) => refuse(program, &error),
    };
    // Not a terminal (no console): nothing is queued.
    let _ = tcdrain(rustix::stdio::stdout());
    status
}

fn take_terminal(tty: &Path) -> io::Result<()> {
    rustix::process::setsid()?;
    let terminal = OpenOptions::new().read(true).write(true).open(tty)?;
    rustix::stdio::dup2_stdin(&terminal)?;
    rustix::stdio::dup2_stdout(&terminal)?;
    rustix::stdio::dup2_stderr(&terminal)?;
    Ok(())
}

/// The exit status, or 128 and the signal's number.
pub fn status_byte(status: ExitStatus) -> u8 {
    let number = match status.signal() {
        Some(signal) => signal.saturating_add(128),
        None => status.code().unwrap_or(1),
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Says on the console why the command did not start, and gives its status.
fn refuse(program: &OsStr, error: &io::Error) -> u8 {
    let name = program.display();
    let (status, reason) = match error.kind() {
        ErrorKind::NotFound if Path::new(program).exists() => (
            NOT_FOUND,
            "its interpreter or loader is missing in the guest".into(),
        ),
        ErrorKind::NotFound => {
            let path = std::env::var("PATH").unwrap_or_default();
            (
                NOT_FOUND,
                format!("the guest has no such command (searched: {path})"),
            )
        }
        ErrorKind::PermissionDenied => (NOT_EXECUTABLE, "the file is not executable".into()),
        _ => (NOT_EXECUTABLE, error.to_string()),
    };
    eprintln!("guest-init: cannot run {name}: {reason}");
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_console_is_the_one_that_counts() {
        assert_eq!(last_console("tty0 ttyS0\n"), Some("ttyS0"));
        assert_eq!(last_console("\n"), None);
    }

    #[test]
    fn a_killed_command_has_128_and_its_signal() {
        assert_eq!(status_byte(ExitStatus::from_raw(9)), 137);
        assert_eq!(status_byte(ExitStatus::from_raw(0x0300)), 3);
        assert_eq!(status_byte(ExitStatus::from_raw(0)), 0);
        assert_eq!(status_byte(ExitStatus::from_raw(0xff00)), 255);
    }

    #[test]
    fn a_missing_command_is_127_and_a_refused_one_126() {
        assert_eq!(
            refuse(OsStr::new("nonsense"), &ErrorKind::NotFound.into()),
            127
        );
        assert_eq!(
            refuse(
                OsStr::new("/etc/passwd"),
                &ErrorKind::PermissionDenied.into()
            ),
            126
        );
        assert_eq!(
            refuse(
                OsStr::new("x"),
                &io::Error::from_raw_os_error(libc::ENOEXEC)
            ),
            126
        );
    }
}
