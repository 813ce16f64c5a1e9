//! Attacks on the monitor's own bounds: its memory, its rights, its limits, what it has open.

use super::Attack;
use super::call::{MINUS_ONE, call, closed, fill, flag, input, output, text};
use super::page::Page;

const MIB: usize = 1 << 20;
/// More descriptors than any VM may have.
const FILES: usize = 600;
/// More memory than may be locked.
const LOCKED: usize = 16 * MIB;
/// More memory than a VM with 16 MiB may have, in pieces.
const PIECES: usize = 16;
const PIECE: usize = 16 * MIB;
/// The capability to set the clock.
const SYS_TIME: u32 = 1 << 25;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("write-and-run", |_| {
        map(libc::PROT_WRITE | libc::PROT_EXEC, 4096).and_then(unmap)
    }),
    Attack::new("make-code", make_code),
    Attack::new("code-from-memory", code_from_memory),
    Attack::new("dumpable", dumpable),
    Attack::new("merge-memory", merge_memory),
    Attack::new("set-root", |_| call(libc::SYS_setresuid, [0, 0, 0])),
    Attack::new("set-capability", set_capability),
    Attack::new("realtime", realtime),
    Attack::new("raise-limit", raise_limit),
    Attack::new("many-files", many_files),
    Attack::new("lock-memory", lock_memory),
    Attack::new("much-memory", much_memory),
    Attack::past("type-for-user", type_for_user, &[libc::ENOTTY]),
    Attack::new("another-vm", another_vm),
    Attack::new("ask-warden", ask_warden),
];

fn map(protection: i32, size: usize) -> Result<(usize, usize), i32> {
    let flags = flag(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let protection = flag(protection | libc::PROT_READ);
    let start = call(libc::SYS_mmap, [0, size, protection, flags, MINUS_ONE, 0])?;
    Ok((start, size))
}

fn unmap((start, size): (usize, usize)) -> Result<usize, i32> {
    call(libc::SYS_munmap, [start, size])
}

/// What was written is made code.
fn make_code(_: &Page) -> Result<usize, i32> {
    let (start, size) = map(libc::PROT_WRITE, 4096)?;
    let protection = flag(libc::PROT_READ | libc::PROT_EXEC);
    let done = call(libc::SYS_mprotect, [start, size, protection]);
    unmap((start, size))?;
    done
}

/// What was written to a file in memory is mapped as code.
fn code_from_memory(_: &Page) -> Result<usize, i32> {
    let fd = call(libc::SYS_memfd_create, [text(c"code"), 0])?;
    let _ = call(libc::SYS_ftruncate, [fd, 4096]);
    let protection = flag(libc::PROT_READ | libc::PROT_EXEC);
    let arguments = [0, 4096, protection, flag(libc::MAP_SHARED), fd, 0];
    let done = call(libc::SYS_mmap, arguments).and_then(|start| unmap((start, 4096)));
    closed(fd)?;
    done
}

fn dumpable(_: &Page) -> Result<usize, i32> {
    let now = call(libc::SYS_prctl, [flag(libc::PR_GET_DUMPABLE), 0, 0, 0, 0])?;
    call(libc::SYS_prctl, [flag(libc::PR_SET_DUMPABLE), 1, 0, 0, 0])?;
    call(libc::SYS_prctl, [flag(libc::PR_SET_DUMPABLE), now, 0, 0, 0])
}

fn merge_memory(_: &Page) -> Result<usize, i32> {
    const PR_SET_MEMORY_MERGE: usize = 67;
    call(libc::SYS_prctl, [PR_SET_MEMORY_MERGE, 1, 0, 0, 0])?;
    call(libc::SYS_prctl, [PR_SET_MEMORY_MERGE, 0, 0, 0, 0])
}

/// To set the clock, beside what there is.
fn set_capability(_: &Page) -> Result<usize, i32> {
    // Version 3, this thread; effective, permitted and inheritable, twice (capget(2)).
    let header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    call(libc::SYS_capget, [input(&header), output(&mut sets)])?;
    sets[0] |= SYS_TIME;
    sets[1] |= SYS_TIME;
    call(libc::SYS_capset, [input(&header), input(&sets)])
}

fn realtime(_: &Page) -> Result<usize, i32> {
    let (first, none): (i32, i32) = (1, 0);
    let fifo = flag(libc::SCHED_FIFO);
    call(libc::SYS_sched_setscheduler, [0, fifo, input(&first)])?;
    call(
        libc::SYS_sched_setscheduler,
        [0, flag(libc::SCHED_OTHER), input(&none)],
    )
}

/// By one, and back.
fn raise_limit(_: &Page) -> Result<usize, i32> {
    let files = usize::try_from(libc::RLIMIT_NOFILE).unwrap_or_default();
    let mut limit = [0_u64; 2];
    call(libc::SYS_prlimit64, [0, files, 0, output(&mut limit)])?;
    let more = [limit[0], limit[1].saturating_add(1)];
    call(libc::SYS_prlimit64, [0, files, input(&more), 0])?;
    call(libc::SYS_prlimit64, [0, files, input(&limit), 0])
}

fn many_files(_: &Page) -> Result<usize, i32> {
    let mut all = [0_usize; FILES];
    let mut done = Ok(0);
    for fd in &mut all {
        done = call(libc::SYS_dup, [0]);
        match done {
            Ok(number) => *fd = number,
            Err(_) => break,
        }
    }
    for fd in all.into_iter().filter(|fd| *fd != 0) {
        closed(fd)?;
    }
    done
}

fn lock_memory(_: &Page) -> Result<usize, i32> {
    let (start, size) = map(0, LOCKED)?;
    let done = call(libc::SYS_mlock, [start, size]);
    unmap((start, size))?;
    done
}

/// Where it is too much, the kernel ends the process.
fn much_memory(_: &Page) -> Result<usize, i32> {
    let mut all = [0_usize; PIECES];
    let mut done = Ok(0);
    for piece in &mut all {
        match map(libc::PROT_WRITE, PIECE) {
            Ok((start, size)) => {
                fill(start, size);
                *piece = start;
            }
            Err(error) => {
                done = Err(error);
                break;
            }
        }
    }
    for start in all.into_iter().filter(|start| *start != 0) {
        unmap((start, PIECE))?;
    }
    done
}

/// A byte as if the user had typed it: stdin is no terminal, which the kernel says to whoever may ask.
fn type_for_user(_: &Page) -> Result<usize, i32> {
    let push = usize::try_from(libc::TIOCSTI).unwrap_or_default();
    call(libc::SYS_ioctl, [0, push, text(c"x")])
}

/// By /dev/kvm, which the test finds among what is open. Where it is not, the kernel says that stdin is something else.
fn another_vm(page: &Page) -> Result<usize, i32> {
    const CREATE_VM: usize = 0xae01;
    call(libc::SYS_ioctl, [page.target(), CREATE_VM, 0]).and_then(closed)
}

/// The process outside of the jail opens files, until the guest runs; with the calls that every thread needs.
fn ask_warden(page: &Page) -> Result<usize, i32> {
    let socket = page.target();
    let ask = c"{\"Open\":{\"path\":{\"Unix\":[47,109,110,116,47,112,117,98,108,105,99]},\"flags\":0,\"mode\":0}}";
    let length = ask.to_bytes().len();
    call(libc::SYS_write, [socket, text(ask), length])?;
    let mut answer = [0_u8; 512];
    let size = answer.len();
    let got = call(libc::SYS_read, [socket, output(&mut answer), size])?;
    match answer.get(..got).unwrap_or_default() == b"\"Done\"" {
        true => Ok(0),
        false => Err(libc::EACCES),
    }
}
