//! An heir: a second process that lives in this one's memory, does nothing, and becomes a program when this one is gone.
//!
//! It costs the kernel's own record of a process and a page of stack, where a fork would have copied every page that
//! either of the two writes to, and the tables for all of them. **While both live it makes system calls only**: it
//! takes no lock, allocates nothing, and has no thread-local storage of its own. What it is to do stands in the memory
//! that they share, put together beforehand, so that it is whole at every moment of its maker's life; exec leaves that
//! memory behind.
#![expect(
    unsafe_code,
    reason = "two processes in one memory are what no type describes: the second reads one pointer, and only here"
)]

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{self, PipeWriter};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

/// Bytes of the heir's stack: four calls deep.
const STACK_SIZE: usize = 16 << 10;

/// The heir's stack: its pages are there once they were touched.
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: nobody but the one heir of this process ever touches it (`Heir::start` makes one).
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

/// What the heir is to do; null when it is to do nothing.
static WILL: AtomicPtr<Will> = AtomicPtr::new(ptr::null_mut());

/// A command line, ready for exec.
struct Will {
    /// The addresses of the strings, and null.
    argv: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Will {
    fn new(strings: Vec<CString>) -> Box<Self> {
        let addresses = strings.iter().map(|text| text.as_ptr());
        Box::new(Self {
            argv: addresses.chain([ptr::null()]).collect(),
            _strings: strings,
        })
    }
}

// SAFETY: the C library defines it, with this type.
unsafe extern "C" {
    /// The environment, as the C library has it (environ(7)).
    static environ: *const *const c_char;
}

/// What the heir keeps open, and what it begins with.
struct Legacy {
    /// Readable, without a byte, when its maker is gone.
    life: RawFd,
    /// What it becomes.
    program: RawFd,
    /// The environment.
    environment: *const *const c_char,
    /// The descriptors that it closes, from and to.
    closed: Vec<(u32, u32)>,
}

/// This process's heir.
#[derive(Debug)]
pub(crate) struct Heir {
    /// Only this process has it open: it closes with its life.
    _life: PipeWriter,
    pid: Pid,
}

impl Heir {
    /// Makes the heir of this process, which has one thread and no heir. It becomes `program` with the command line
    /// `will`, with the descriptors of `kept` open and no others.
    ///
    /// # Errors
    /// When the kernel makes no process.
    pub(crate) fn start(
        program: &OwnedFd,
        kept: &[BorrowedFd<'_>],
        will: Vec<CString>,
    ) -> io::Result<Self> {
        let (reader, life) = io::pipe()?;
        let mut open: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
        open.extend([reader.as_raw_fd(), program.as_raw_fd()]);
        // Here they are closed at the end of this call; the heir has its own.
        let legacy = Box::leak(Box::new(Legacy {
            life: reader.as_raw_fd(),
            program: program.as_raw_fd(),
            // SAFETY: nothing changes the environment of a process that makes an heir.
            environment: unsafe { environ },
            closed: gaps(open),
        }));
        replace_will(Some(Will::new(will)));
        let stack = STACK.0.get().cast::<u8>().wrapping_add(STACK_SIZE);
        // SAFETY: `inherit` makes system calls only and ends its process, on a stack that is nobody else's; what it is
        // given lives for ever, and the heir has a table of descriptors of its own.
        let pid = unsafe {
            libc::clone(
                inherit,
                stack.cast(),
                libc::CLONE_VM | libc::SIGCHLD,
                ptr::from_mut(legacy).cast(),
            )
        };
        match Pid::from_raw(pid).filter(|_| pid > 0) {
            Some(pid) => Ok(Self { _life: life, pid }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// Has it do something else, from this moment on.
    #[expect(
        clippy::unused_self,
        reason = "whoever has an heir may change its will"
    )]
    pub(crate) fn change(&self, will: Vec<CString>) {
        replace_will(Some(Will::new(will)));
    }

    /// Has it do nothing, and waits for its end.
    pub(crate) fn disinherit(self) {
        let Self { _life: life, pid } = self;
        replace_will(None);
        drop(life);
        while let Err(Errno::INTR) = waitpid(Some(pid), WaitOptions::empty()) {}
    }
}

/// Makes a will the one that counts. The one before goes: nobody reads it, since the heir looks when this process is
/// gone.
fn replace_will(will: Option<Box<Will>>) {
    let new = will.map_or(ptr::null_mut(), Box::into_raw);
    let old = WILL.swap(new, Ordering::AcqRel);
    if !old.is_null() {
        // SAFETY: it came from a box, and was taken out of the one place that had its address.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// All numbers of descriptors but these, as ranges from and to.
fn gaps(mut open: Vec<RawFd>) -> Vec<(u32, u32)> {
    open.sort_unstable();
    let mut ranges = Vec::new();
    let mut first = 0;
    for fd in open.into_iter().map(i32::cast_unsigned) {
        if fd > first {
            ranges.push((first, fd - 1));
        }
        first = fd + 1;
    }
    ranges.push((first, u32::MAX));
    ranges
}

/// The heir's life. Until its maker is gone it makes system calls only.
extern "C" fn inherit(legacy: *mut c_void) -> c_int {
    // SAFETY: `Heir::start` gives the address of one that lives for ever, and nobody changes it.
    let legacy = unsafe { &*legacy.cast_const().cast::<Legacy>() };
    // Away from the terminal and the caller's group; signals are blocked already. rustix makes the call itself.
    let _ = rustix::process::setsid();
    for (first, last) in &legacy.closed {
        // SAFETY: this process uses none of them, and its maker has a table of its own. The call writes `errno`, which the
        // two share, on kernels that do not have it, where there is no cell either.
        let _ = unsafe { libc::close_range(*first, *last, 0) };
    }
    // SAFETY: it stays open as long as this process lives.
    let life = unsafe { BorrowedFd::borrow_raw(legacy.life) };
    while let Err(Errno::INTR) = rustix::io::read(life, &mut [0]) {}
    // From here on this process is alone.
    // SAFETY: null, or the address of a box that its maker, who is gone, has left.
    if let Some(will) = unsafe { WILL.load(Ordering::Acquire).as_ref() } {
        // SAFETY: the path is empty and the descriptor open; both lists hold strings that end with 0, and end with null.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                legacy.program,
                c"".as_ptr(),
                will.argv.as_ptr(),
                legacy.environment,
                libc::AT_EMPTY_PATH,
            )
        };
    }
    super::leave()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_closed() {
        assert_eq!(gaps(vec![]), [(0, u32::MAX)]);
        assert_eq!(gaps(vec![5, 0, 4]), [(1, 3), (6, u32::MAX)]);
        assert_eq!(gaps(vec![1, 3]), [(0, 0), (2, 2), (4, u32::MAX)]);
    }
}
