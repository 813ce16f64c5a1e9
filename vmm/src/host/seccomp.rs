//! Whether the kernel obeys a seccomp filter: by installing one on a thread that ends with it.

use std::collections::BTreeMap;
use std::{env, io, thread};

use rustix::io::Errno;
use rustix::process::getpriority_process;
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// What the trial's filter answers in place of the kernel: an error that `getpriority(2)` never gives.
const ANSWER: Errno = Errno::XDEV;

/// Why a filter is not to be had here.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrialError {
    /// No thread to try it on.
    #[error("there was no thread to try one on: {0}")]
    Thread(#[from] io::Error),
    /// This processor, or a fault of the trial's.
    #[error("it could not be compiled: {0}")]
    Compile(#[from] BackendError),
    /// The kernel does not take it.
    #[error("the kernel did not take it: {0}")]
    Install(#[from] seccompiler::Error),
    /// The kernel took it, and lets through what it refuses.
    #[error("the kernel took it and did not obey it: the call it refuses gave {0}")]
    Ignored(String),
}

/// Compiles a filter that refuses one harmless call, installs it on a thread of its own, and makes the call.
/// Nothing of it is left: a filter, and the promise not to gain privileges that it takes, are a thread's own.
///
/// # Errors
/// [`TrialError`]: where it went wrong.
pub(super) fn trial() -> Result<(), TrialError> {
    let filter = refuse(libc::SYS_getpriority)?;
    let thread = thread::Builder::new().name("seccomp".to_owned());
    let result = thread.spawn(move || {
        apply_filter(&filter)?;
        match getpriority_process(None) {
            Err(ANSWER) => Ok(()),
            Err(other) => Err(TrialError::Ignored(format!("the error {other}"))),
            Ok(priority) => Err(TrialError::Ignored(format!("{priority}"))),
        }
    })?;
    let died = |_| TrialError::Ignored("a panic".to_owned());
    result.join().map_err(died)?
}

/// A filter that lets every call pass but `call`.
fn refuse(call: i64) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(ANSWER.raw_os_error().unsigned_abs());
    // No condition: whatever its arguments.
    let rules = BTreeMap::from([(call, Vec::new())]);
    let processor = env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refused, processor)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_binds_no_thread_but_its_own() {
        match trial() {
            Ok(()) => {}
            Err(error) => eprintln!("SKIPPED: no seccomp filter can be had here: {error}"),
        }
        assert!(getpriority_process(None).is_ok());
        let other = thread::spawn(|| getpriority_process(None).is_ok());
        assert!(other.join().unwrap());
    }

    #[test]
    fn a_filter_names_this_processor_and_its_call() {
        let filter = refuse(libc::SYS_getpriority).unwrap();
        let number = u32::try_from(libc::SYS_getpriority).unwrap();
        assert!(filter.iter().any(|instruction| instruction.k == number));
        assert_ne!(filter, refuse(libc::SYS_setpriority).unwrap());
    }
}
