//! Runs the guest's one command or its shell, reaps what is orphaned, and hears what else may end the guest.
//!
//! | signal | from | ending |
//! | --- | --- | --- |
//! | SIGINT | Ctrl-Alt-Del | reboot |
//! | SIGTERM | busybox `reboot` | reboot |
//! | SIGPWR | the power button | power off |
//! | SIGUSR1, SIGUSR2 | busybox `halt`, `poweroff` | power off: a halted guest would hold its memory for ever |

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::cmdline::{Options, Size};
use crate::power::Ending;
use crate::raw::SignalSet;
use crate::{button, kmsg, session};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_TERM: &str = "vt220";
const SHELL: &str = "/bin/sh";

/// What the first process waits for.
pub const SIGNALS: [libc::c_int; 6] = [
    libc::SIGCHLD,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGPWR,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The command's session cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the session of the command: {0}")]
pub struct SuperviseError(#[from] io::Error);

/// Runs what the options name until it ends, or until a signal ends the guest.
pub fn run(options: &Options) -> Result<Ending, SuperviseError> {
    let signals = SignalSet::new(&SIGNALS);
    signals.block();
    // Ctrl-Alt-Del asks this process instead of resetting at once.
    if let Err(error) = reboot(RebootCommand::CadOff) {
        kmsg::error(&format_args!("cannot take over Ctrl-Alt-Del: {error}"));
    }
    button::watch();
    let session = start(options)?;
    loop {
        let ending = match signals.wait(None) {
            Some(libc::SIGCHLD) => reap(session).map(|status| Ending::PowerOff { status }),
            Some(libc::SIGINT | libc::SIGTERM) => Some(Ending::Reboot),
            Some(_) => Some(Ending::PowerOff { status: 0 }),
            None => None,
        };
        if let Some(ending) = ending {
            return Ok(ending);
        }
    }
}

/// Starts the session and gives its process.
fn start(options: &Options) -> io::Result<Pid> {
    let tty = session::console();
    if let Some(size) = options.size
        && let Err(error) = resize(&tty, size)
    {
        kmsg::error(&format_args!(
            "cannot set the size of {}: {error}",
            tty.display()
        ));
    }
    let shell = [SHELL, "-l"].map(OsString::from);
    let words = options.command.as_deref().unwrap_or(&shell);
    let child = Command::new("/proc/self/exe")
        .arg0("guest-init")
        .arg(session::MODE)
        .arg(&tty)
        .arg("--")
        .args(words)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("SHELL", SHELL)
        .env("TERM", options.term.as_deref().unwrap_or(DEFAULT_TERM))
        .spawn()?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the kernel gave a process number that is none"))
}

fn resize(tty: &Path, size: Size) -> io::Result<()> {
    let terminal = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY)
        .open(tty)?;
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(&terminal, size)?)
}

/// Takes the status of every process that has ended; gives the session's if it is among them.
fn reap(session: Pid) -> Option<u8> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == session {
            return Some(session::status_byte(ExitStatus::from_raw(status.as_raw())));
        }
    }
    None
}
