//! Attacks on other processes: the test's victim, and however many of one's own.

use super::Attack;
use super::call::{MINUS_ONE, call, child, closed, flag, input, output, wait};
use super::page::Page;

/// More processes than any VM may have.
const BOMB: usize = 200;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("ptrace", ptrace),
    Attack::past("read-memory", read_memory, &[libc::EFAULT]),
    // Signal 0 asks whether one may.
    Attack::new("kill", |page| call(libc::SYS_kill, [page.target(), 0])),
    Attack::new("kill-all", |_| call(libc::SYS_kill, [MINUS_ONE, 0])),
    Attack::new("pidfd-open", |page| pidfd(page).and_then(closed)),
    Attack::new("pidfd-getfd", pidfd_getfd),
    Attack::new("prlimit", prlimit),
    Attack::new("setns", setns),
    Attack::new("unshare", |_| {
        call(libc::SYS_unshare, [flag(libc::CLONE_NEWUTS)])
    }),
    Attack::new("new-user-namespace", |_| fork(flag(libc::CLONE_NEWUSER))),
    Attack::new("fork", |_| fork(0)),
    Attack::new("fork-bomb", fork_bomb),
];

/// Seizes, stops, and lets go.
fn ptrace(page: &Page) -> Result<usize, i32> {
    const SEIZE: usize = 0x4206;
    const INTERRUPT: usize = 0x4207;
    const DETACH: usize = 17;
    let victim = page.target();
    call(libc::SYS_ptrace, [SEIZE, victim, 0, 0])?;
    let _ = call(libc::SYS_ptrace, [INTERRUPT, victim, 0, 0]);
    let _ = call(libc::SYS_wait4, [victim, 0, flag(libc::__WALL), 0]);
    call(libc::SYS_ptrace, [DETACH, victim, 0, 0])
}

/// At an address where nothing is: who may not does not get as far.
fn read_memory(page: &Page) -> Result<usize, i32> {
    let mut space = [0_u8; 8];
    let local = [output(&mut space), space.len()];
    let remote = [4096_usize, space.len()];
    let arguments = [page.target(), input(&local), 1, input(&remote), 1, 0];
    call(libc::SYS_process_vm_readv, arguments)
}

fn pidfd(page: &Page) -> Result<usize, i32> {
    call(libc::SYS_pidfd_open, [page.target(), 0])
}

fn pidfd_getfd(page: &Page) -> Result<usize, i32> {
    let process = pidfd(page)?;
    let done = call(libc::SYS_pidfd_getfd, [process, 0, 0]).and_then(closed);
    closed(process)?;
    done
}

/// Another's limits are read.
fn prlimit(page: &Page) -> Result<usize, i32> {
    let mut limit = [0_u64; 2];
    let core = usize::try_from(libc::RLIMIT_CORE).unwrap_or_default();
    call(
        libc::SYS_prlimit64,
        [page.target(), core, 0, output(&mut limit)],
    )
}

fn setns(page: &Page) -> Result<usize, i32> {
    let process = pidfd(page)?;
    let done = call(libc::SYS_setns, [process, flag(libc::CLONE_NEWUTS)]);
    closed(process)?;
    done
}

fn fork(flags: usize) -> Result<usize, i32> {
    child(|| 0, flags).map(|_| 0)
}

/// All at once, and all ended again.
fn fork_bomb(_: &Page) -> Result<usize, i32> {
    let mut children = [0_usize; BOMB];
    let mut failure = None;
    for child in &mut children {
        match call(libc::SYS_clone, [flag(libc::SIGCHLD), 0, 0, 0, 0]) {
            Ok(0) => loop {
                let _ = call(libc::SYS_pause, []);
            },
            Ok(pid) => *child = pid,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    for pid in children.into_iter().filter(|pid| *pid != 0) {
        let _ = call(libc::SYS_kill, [pid, flag(libc::SIGKILL)]);
        let _ = wait(pid);
    }
    failure.map_or(Ok(0), Err)
}
