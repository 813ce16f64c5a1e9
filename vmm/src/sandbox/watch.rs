//! Filters for developers: what is not listed is told, and done (seccomp_unotify(2)).
#![expect(
    unsafe_code,
    reason = "the kernel's questions come through an ioctl on structures of its own"
)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use devices::syscalls::Call;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::set_no_new_privs;
use seccompiler::BpfProgram;

use super::Role;

/// Why a thread cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no thread to watch it.
    #[error("there is no thread to do it: {0}")]
    Thread(io::Error),
    /// The kernel does not take the filter.
    #[error("the kernel does not take a filter that asks (Linux 5.5 is needed): {0}")]
    Install(io::Error),
}

/// Linux `uapi/linux/seccomp.h`: ask whoever holds the listener.
const ASK: u32 = 0x7fc0_0000;
/// `_IOWR('!', 0, struct seccomp_notif)`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
/// `_IOWR('!', 1, struct seccomp_notif_resp)`.
const ANSWER: libc::c_ulong = 0xc018_2101;

/// Installs `program` on the calling thread, with a question in place of each trap, and starts the thread that
/// says yes to each.
pub(super) fn install(mut program: BpfProgram, role: Role) -> Result<(), WatchError> {
    for instruction in &mut program {
        let returns = u32::from(instruction.code) == libc::BPF_RET | libc::BPF_K;
        if returns && instruction.k == libc::SECCOMP_RET_TRAP {
            instruction.k = ASK;
        }
    }
    let who = thread::current().name().unwrap_or("main").to_owned();
    let (listener, listeners) = channel();
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch(&listeners, &who, role))
        .map_err(WatchError::Thread)?;
    set_no_new_privs(true).map_err(|error| WatchError::Install(error.into()))?;
    let fd = listening(&program).map_err(WatchError::Install)?;
    // The watcher waits for it.
    let _ = listener.send(fd);
    Ok(())
}

fn listening(program: &BpfProgram) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies the program, which lives as long as the call; both structures of an instruction
    // are the kernel's own.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Tells of each call, and lets it be done, until the thread has ended.
fn watch(listeners: &Receiver<OwnedFd>, who: &str, role: Role) {
    let Ok(fd) = listeners.recv() else { return };
    let fd = File::from(fd);
    while let Some(question) = next(&fd) {
        let text = told(&question, who, role);
        // Nothing of it is lost when the log has another place.
        let _ = io::stderr().write_all(text.as_bytes());
        let answer = libc::seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: 0,
            flags: 1, // SECCOMP_USER_NOTIF_FLAG_CONTINUE
        };
        // SAFETY: the kernel reads `answer`, which outlives the call; a thread that is gone is an error.
        unsafe { libc::ioctl(fd.as_raw_fd(), ANSWER, &raw const answer) };
    }
}

/// The next call that is not listed; nothing when nobody can make one any more.
fn next(fd: &File) -> Option<libc::seccomp_notif> {
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        poll(&mut fds, None).ok()?;
        let [fd_state] = &fds;
        if fd_state.revents().contains(PollFlags::HUP) {
            return None;
        }
        // SAFETY: every field is an integer, and the kernel demands zeroes.
        let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes the structure, which outlives the call.
        let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), RECEIVE, &raw mut question) };
        // Else a signal has woken the thread before its question was taken: it asks again.
        if outcome == 0 {
            return Some(question);
        }
    }
}

fn told(question: &libc::seccomp_notif, who: &str, role: Role) -> String {
    let data = &question.data;
    let number = i64::from(data.nr);
    let name = Call::numbered(number).map_or("?", |call| call.name);
    let [a, b, c, d, e, f] = data.args;
    format!(
        "ravelin: seccomp: the thread {who} ({role}) made the system call {number} ({name}) with \
         ({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {f:#x}), which is not listed: \
         Allowance::when(Call::{name}, ...)\n"
    )
}
