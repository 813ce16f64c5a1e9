//! What the test and the monitor share: the first page of the file that is stderr.
#![expect(unsafe_code, reason = "memory that is shared with the test")]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

/// What the page begins with.
const MAGIC: &[u8; 16] = b"RAVELIN_REDTEAM\n";
/// Its size in bytes.
const SIZE: usize = 4096;
/// The longest name of an attack.
const NAME: usize = 32;

/// What the test does and what the monitor does, in turn.
const BEGUN: u32 = 2;
const DONE: u32 = 3;

/// What came of an attack.
const THROUGH: u32 = 1;
const STOPPED: u32 = 2;
const UNKNOWN: u32 = 3;

/// The page. `tests/redteam/page.rs` has the same layout.
#[repr(C)]
pub(super) struct Page {
    magic: [AtomicU8; 16],
    /// How many attacks there are, once the process listens.
    attacks: AtomicU32,
    state: AtomicU32,
    verdict: AtomicU32,
    /// The system call's error, 0 for none.
    errno: AtomicI32,
    /// The process, or the descriptor, that is attacked.
    target: AtomicI32,
    spare: [AtomicU32; 3],
    /// Which attack; zeros behind it.
    name: [AtomicU8; NAME],
}

/// A real-time signal that nothing else uses.
pub(super) fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

/// The page, if stderr has one.
pub(super) fn find() -> Option<&'static Page> {
    let stderr = std::io::stderr();
    let size = rustix::fs::fstat(stderr.as_fd()).ok()?.st_size;
    if usize::try_from(size).ok()? < SIZE {
        return None;
    }
    // SAFETY: a mapping at a place of the kernel's choice.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            libc::STDERR_FILENO,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: it is as large as a page, aligned, never unmapped, and all of it is atomic.
    let page: &'static Page = unsafe { &*start.cast() };
    let magic = page.magic.iter().map(|byte| byte.load(Ordering::Acquire));
    magic.eq(MAGIC.iter().copied()).then_some(page)
}

impl Page {
    /// The test may ask.
    pub(super) fn arm(&self, attacks: u32) {
        self.attacks.store(attacks, Ordering::Release);
    }

    /// What is asked.
    pub(super) fn begin(&self) -> Name {
        self.state.store(BEGUN, Ordering::Release);
        Name::of(&self.name)
    }

    /// The process, or the descriptor, that is attacked.
    pub(super) fn target(&self) -> usize {
        let number = self.target.load(Ordering::Acquire);
        usize::try_from(number).unwrap_or_default()
    }

    pub(super) fn through(&self, errno: i32) {
        self.end(THROUGH, errno);
    }

    pub(super) fn stopped(&self, errno: i32) {
        self.end(STOPPED, errno);
    }

    pub(super) fn unknown(&self) {
        self.end(UNKNOWN, 0);
    }

    fn end(&self, verdict: u32, errno: i32) {
        self.errno.store(errno, Ordering::Release);
        self.verdict.store(verdict, Ordering::Release);
        self.state.store(DONE, Ordering::Release);
    }
}

/// An attack's name.
pub(super) struct Name {
    bytes: [u8; NAME],
    length: usize,
}

impl Name {
    fn of(name: &[AtomicU8; NAME]) -> Self {
        let bytes = name.each_ref().map(|byte| byte.load(Ordering::Acquire));
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        Self { bytes, length }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
