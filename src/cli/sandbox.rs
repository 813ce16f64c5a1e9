//! The flags of the walls around the monitor, the same for every subcommand that runs a guest.

use vmm::sandbox::Mode;

/// The heading of what surrounds the monitor.
const WALLS: &str = "Walls";

/// What of the walls is left out.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct Walls {
    /// Run without system call filters: whoever breaks out of the guest may then ask the kernel for anything
    #[arg(long, conflicts_with = "seccomp_log", help_heading = WALLS)]
    no_seccomp: bool,
    /// For developers: tell on stderr what the system call filters would kill the process for, and do it
    #[arg(long, help_heading = WALLS)]
    seccomp_log: bool,
}

impl Walls {
    /// What becomes of a system call that no filter lists.
    pub(super) fn seccomp(self) -> Mode {
        match (self.no_seccomp, self.seccomp_log) {
            (true, _) => Mode::Off,
            (_, true) => Mode::Watch,
            _ => Mode::Kill,
        }
    }

    /// What the user is to be warned of.
    pub(super) fn warning(self) -> Option<&'static str> {
        warning(self.seccomp())
    }
}

/// What the user of a VM with such filters is to be warned of.
pub(super) fn warning(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Kill => None,
        Mode::Off => Some(
            "--no-seccomp: no system call is forbidden to this process: whoever breaks out of the guest may ask \
             the kernel for anything",
        ),
        Mode::Watch => Some(
            "--seccomp-log: forbidden system calls are told and done: whoever breaks out of the guest may ask the \
             kernel for anything",
        ),
    }
}
