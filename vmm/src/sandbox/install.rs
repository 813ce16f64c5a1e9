//! Putting a filter on the calling thread.

use devices::syscalls::Allowance;
use seccompiler::{BackendError, BpfProgram, SeccompAction, apply_filter};

use super::filter::compile;
use super::watch::{self, WatchError};
use super::{Mode, Role};

/// Why a thread could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This processor, or a fault of the lists.
    #[error("the system call filter of the {0} thread could not be made: {1}")]
    Compile(Role, BackendError),
    /// The kernel.
    #[error(
        "the kernel did not take the system call filter of the {0} thread ({1}): use a kernel with \
         CONFIG_SECCOMP_FILTER, or --no-seccomp if nothing hostile runs in the guest"
    )]
    Install(Role, seccompiler::Error),
    /// The kernel, in debug mode.
    #[error("the system calls of the {0} thread cannot be watched: {1}")]
    Watch(Role, WatchError),
    /// There is no filter for it.
    #[error("no system call filter was made for the {0} thread")]
    Missing(Role),
    /// A thread that ended before it said whether it is confined.
    #[error("the {0} thread ended before it was confined")]
    Gone(Role),
}

/// The program that confines a thread of `role` to what is listed; none where nothing is confined.
pub(super) fn prepare(
    mode: Mode,
    role: Role,
    allowances: &[Allowance],
) -> Result<BpfProgram, SandboxError> {
    let otherwise = match mode {
        Mode::Off => return Ok(BpfProgram::new()),
        Mode::Watch => SeccompAction::Trap,
        Mode::Kill => SeccompAction::KillProcess,
    };
    compile(allowances, otherwise).map_err(|error| SandboxError::Compile(role, error))
}

/// Puts a prepared program on the calling thread.
pub(super) fn install(mode: Mode, role: Role, program: &BpfProgram) -> Result<(), SandboxError> {
    match mode {
        Mode::Off => return Ok(()),
        Mode::Watch => {
            watch::install(program.clone(), role)
                .map_err(|error| SandboxError::Watch(role, error))?;
        }
        Mode::Kill => {
            apply_filter(program).map_err(|error| SandboxError::Install(role, error))?;
        }
    }
    #[cfg(feature = "redteam")]
    super::redteam::strike(role);
    Ok(())
}
