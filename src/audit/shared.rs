//! Whether two threads share what is usually shared (kcmp(2)).
#![expect(unsafe_code, reason = "no library has this system call")]

/// What threads may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// The table of descriptors.
    Files,
    /// Root and working directory, and with them the mount namespace (unshare(2), `CLONE_NEWNS`).
    Places,
}

/// Linux `uapi/linux/kcmp.h`.
const KCMP_FILES: libc::c_int = 2;
const KCMP_FS: libc::c_int = 3;

/// Whether two threads surely share it. Where the kernel does not say so they may still: each is to be looked at.
pub(super) fn share(what: Shared, one: u32, other: u32) -> bool {
    let kind = match what {
        Shared::Files => KCMP_FILES,
        Shared::Places => KCMP_FS,
    };
    // SAFETY: the call takes numbers alone and changes nothing.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, kind, 0, 0) };
    one == other || order == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_shares_with_its_process_and_not_with_another() {
        let process = std::process::id();
        let thread = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get());
        let mut other = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        for what in [Shared::Files, Shared::Places] {
            assert!(share(what, process, process));
            assert!(!share(what, process, other.id()));
        }
        other.kill().unwrap();
        other.wait().unwrap();
        // It has ended: nothing is sure.
        let gone = thread.join().unwrap().unsigned_abs();
        assert!(!share(Shared::Files, process, gone));
    }
}
