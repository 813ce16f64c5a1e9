//! A thread's filters, read from the kernel (ptrace(2), `PTRACE_SECCOMP_GET_FILTER`).
//!
//! The thread stands still for as long as its filters are copied, and for [`PATIENCE`] at most. **It is let go
//! whatever happens**: by the guard below, and by the kernel, since each thread is traced by a thread of ours
//! that ends with it. `PTRACE_SEIZE` sends no signal, and a signal that arrives meanwhile is passed on.
#![expect(
    unsafe_code,
    reason = "ptrace(2) has no safe wrapper for reading filters"
)]

use std::io;
#[cfg(target_arch = "x86_64")]
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::bpf::{Call, Instruction, outcomes};
use super::calls::X86_64;
use super::outcome::{Action, Outcomes};

/// How long a thread may take to stand still.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long to wait before looking again whether it does.
const PAUSE: Duration = Duration::from_micros(100);
/// Requests (Linux `uapi/linux/ptrace.h`); C libraries do not agree on their type.
#[cfg(target_arch = "x86_64")]
const GET_REGISTERS: u64 = 12;
#[cfg(target_arch = "x86_64")]
const SET_REGISTERS: u64 = 13;
const DETACH: u64 = 17;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const GET_FILTER: u64 = 0x420c;
/// `BPF_MAXINSNS`: the kernel takes no longer program.
const LONGEST: usize = 4096;
/// More filters than anybody stacks; the kernel bounds their length together.
const MOST: u64 = 256;

/// Why filters could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Tracing is refused.
    #[error("ptrace is refused: {0}")]
    Attach(#[source] io::Error),
    /// The thread did not stand still in time.
    #[error("the thread did not stand still within half a second")]
    Late,
    /// The thread has ended.
    #[error("the thread has ended")]
    Ended,
    /// Filters are not shown.
    #[error("the kernel does not show filters: {0}")]
    Filter(#[source] io::Error),
    /// No thread to trace from.
    #[error("there was no thread to trace from: {0}")]
    Thread(#[source] io::Error),
}

/// The filters of a thread of another process.
///
/// # Errors
/// See [`ReadError`]. The kernel wants `CAP_SYS_ADMIN` and a caller without filters of its own.
pub(super) fn filters(tid: u32) -> Result<Vec<Vec<Instruction>>, ReadError> {
    let tracer = thread::Builder::new().name("audit".to_owned());
    let tracer = tracer
        .spawn(move || {
            let tid = libc::pid_t::try_from(tid).map_err(|_| ReadError::Ended)?;
            let seized = Seized::new(tid)?;
            let filters = seized.filters();
            if !filters.as_deref().is_ok_and(restarts) {
                seized.end_wait();
            }
            filters
        })
        .map_err(ReadError::Thread)?;
    tracer.join().unwrap_or(Err(ReadError::Ended))
}

/// Whether filters let a thread go on with a wait that was interrupted.
fn restarts(filters: &[Vec<Instruction>]) -> bool {
    let arch = X86_64;
    let number = u32::try_from(libc::SYS_restart_syscall).expect("a call's number is small");
    let allowed = Outcomes::only(Action::Allow);
    filters
        .iter()
        .all(|filter| outcomes(filter, Call { arch, number }) == Ok(allowed))
}

/// A thread that is traced. Dropping it lets it go on.
struct Seized {
    tid: libc::pid_t,
    /// A signal on its way to the thread when it stopped.
    signal: i32,
}

impl Seized {
    fn new(tid: libc::pid_t) -> Result<Self, ReadError> {
        // SAFETY: seizing takes no address and, without options, stores nothing.
        unsafe { ptrace(SEIZE, tid, 0, ptr::null_mut()) }.map_err(ReadError::Attach)?;
        let mut seized = Self { tid, signal: 0 };
        // SAFETY: interrupting takes neither address nor data.
        unsafe { ptrace(INTERRUPT, tid, 0, ptr::null_mut()) }.map_err(ReadError::Attach)?;
        seized.wait()?;
        Ok(seized)
    }

    fn wait(&mut self) -> Result<(), ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let pid = Pid::from_raw(self.tid).ok_or(ReadError::Ended)?;
        loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => match status.stopping_signal() {
                    Some(signal) => {
                        // The upper half is the event; a stop without one is a signal's (ptrace(2)).
                        let event = status.as_raw() >> 16;
                        self.signal = if event == 0 { signal } else { 0 };
                        return Ok(());
                    }
                    None => return Err(ReadError::Ended),
                },
                Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
                Ok(None) => return Err(ReadError::Late),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(ReadError::Ended),
            }
        }
    }

    fn filters(&self) -> Result<Vec<Vec<Instruction>>, ReadError> {
        let mut found = Vec::new();
        for index in 0..MOST {
            match self.filter(index) {
                Ok(filter) => found.push(filter),
                // The index is past the last filter.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
                Err(error) => return Err(ReadError::Filter(error)),
            }
        }
        Err(ReadError::Filter(io::ErrorKind::FileTooLarge.into()))
    }

    fn filter(&self, index: u64) -> io::Result<Vec<Instruction>> {
        // SAFETY: without a buffer the kernel only answers how long the program is.
        let length = unsafe { ptrace(GET_FILTER, self.tid, index, ptr::null_mut()) }?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut program = vec![Instruction::default(); length];
        // SAFETY: the thread stands still, so the program has the length that the kernel has just told, and
        // `program` has room for it; an instruction has the layout of `sock_filter`.
        unsafe { ptrace(GET_FILTER, self.tid, index, program.as_mut_ptr().cast()) }?;
        Ok(program)
    }
}

/// Standing still interrupts a wait with a time limit (`poll`, `futex`), and the kernel goes on with it by a
/// call of its own making, `restart_syscall`, which the thread's filter is asked about: **one that does not
/// know that call would kill the thread because we looked**. So such a wait ends as by a signal's handler,
/// with `EINTR` (restart_syscall(2), Linux `arch/x86/kernel/signal.c`).
impl Seized {
    #[cfg(target_arch = "x86_64")]
    fn end_wait(&self) {
        /// `ERESTART_RESTARTBLOCK` (Linux `linux/errno.h`): only the kernel and a tracer ever see it.
        const RESTART: i64 = -516;
        let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
        let place = registers.as_mut_ptr().cast();
        // SAFETY: the kernel fills the whole structure, for which there is room.
        if unsafe { ptrace(GET_REGISTERS, self.tid, 0, place) }.is_err() {
            return;
        }
        // SAFETY: the call above has succeeded.
        let mut registers = unsafe { registers.assume_init() };
        let in_a_call = registers.orig_rax.cast_signed() >= 0;
        if in_a_call && registers.rax.cast_signed() == RESTART {
            registers.rax = i64::from(-libc::EINTR).cast_unsigned();
            let place = (&raw mut registers).cast();
            // SAFETY: the kernel reads the structure, which outlives the call.
            let _ = unsafe { ptrace(SET_REGISTERS, self.tid, 0, place) };
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn end_wait(&self) {}
}

impl Drop for Seized {
    fn drop(&mut self) {
        let signal = ptr::without_provenance_mut(usize::try_from(self.signal).unwrap_or(0));
        // A thread that does not stand still cannot be let go by this; the end of this thread does it.
        // SAFETY: the data of a detach is a signal's number, never followed as a pointer.
        let _ = unsafe { ptrace(DETACH, self.tid, 0, signal) };
    }
}

/// # Safety
/// `data` must be what the request demands, and stay valid for the call.
unsafe fn ptrace(
    request: u64,
    tid: libc::pid_t,
    address: u64,
    data: *mut libc::c_void,
) -> io::Result<i64> {
    // SAFETY: by this function's own contract.
    match unsafe { libc::syscall(libc::SYS_ptrace, request, tid, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}
