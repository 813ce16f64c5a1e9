//! Vectored I/O straight into guest memory: the one place where a guest address becomes a pointer.
#![expect(
    unsafe_code,
    reason = "the kernel takes guest memory as raw pointers; each was bounds-checked by vm-memory"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryError};

use crate::host::GuestRam;

/// A reusable list of guest buffers for one vectored system call.
///
/// The pointers stay valid as long as the [`GuestRam`] that made them; whoever keeps an `IoVecs` over
/// an asynchronous call keeps that memory too (a worker owns both).
#[derive(Debug, Default)]
pub struct IoVecs {
    list: Vec<libc::iovec>,
    len: usize,
}

// SAFETY: the pointers lead into guest memory, which is shared and may be used from any thread.
unsafe impl Send for IoVecs {}

impl IoVecs {
    /// An empty list with room for `capacity` buffers.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            list: Vec::with_capacity(capacity),
            len: 0,
        }
    }

    /// Forgets the buffers and keeps the room.
    pub fn clear(&mut self) {
        self.list.clear();
        self.len = 0;
    }

    /// Adds `len` bytes of guest memory at `address`.
    ///
    /// # Errors
    /// When the bytes are not all inside one region of guest memory.
    pub fn push(
        &mut self,
        ram: &GuestRam,
        address: GuestAddress,
        len: usize,
    ) -> Result<(), GuestMemoryError> {
        let slice = ram.get_slice(address, len)?;
        self.list.push(libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: len,
        });
        self.len = self.len.saturating_add(len);
        Ok(())
    }

    /// Drops the first `n` bytes: a transfer was short and the rest is to follow.
    pub fn advance(&mut self, n: usize) {
        let mut left = n;
        let whole = self.list.iter().take_while(|vec| {
            let is_done = left >= vec.iov_len;
            left = left.saturating_sub(if is_done { vec.iov_len } else { 0 });
            is_done
        });
        let whole = whole.count();
        self.list.drain(..whole);
        if let Some(first) = self.list.first_mut() {
            first.iov_base = first.iov_base.cast::<u8>().wrapping_add(left).cast();
            first.iov_len = first.iov_len.saturating_sub(left);
        }
        self.len = self.len.saturating_sub(n);
    }

    /// The total of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to transfer.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The list itself, for an io_uring entry that names it.
    pub fn as_slice(&self) -> &[libc::iovec] {
        &self.list
    }

    /// `preadv(2)` into the buffers; the bytes read.
    ///
    /// # Errors
    /// What the kernel said, with EINTR already retried.
    pub fn preadv(&self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let offset = position(offset)?;
        retry(|| {
            // SAFETY: each iovec was checked by `push` against live guest memory.
            unsafe { libc::preadv(fd.as_raw_fd(), self.list.as_ptr(), self.count(), offset) }
        })
    }

    /// `pwritev(2)` from the buffers; the bytes written.
    ///
    /// # Errors
    /// What the kernel said, with EINTR already retried.
    pub fn pwritev(&self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let offset = position(offset)?;
        retry(|| {
            // SAFETY: as in `preadv`.
            unsafe { libc::pwritev(fd.as_raw_fd(), self.list.as_ptr(), self.count(), offset) }
        })
    }

    /// `readv(2)` into the buffers; the bytes read.
    ///
    /// # Errors
    /// What the kernel said, with EINTR already retried.
    pub fn readv(&self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        retry(|| {
            // SAFETY: as in `preadv`.
            unsafe { libc::readv(fd.as_raw_fd(), self.list.as_ptr(), self.count()) }
        })
    }

    /// `readv(2)` into the buffers, and what they cannot hold into `spare`; the bytes read into both.
    ///
    /// # Errors
    /// What the kernel said, with EINTR already retried.
    pub fn readv_with_spare(&mut self, fd: BorrowedFd<'_>, spare: &mut [u8]) -> io::Result<usize> {
        self.list.push(libc::iovec {
            iov_base: spare.as_mut_ptr().cast(),
            iov_len: spare.len(),
        });
        // The list has `spare` in it for the time of the borrow only.
        let read = self.readv(fd);
        self.list.pop();
        read
    }

    /// `writev(2)` from the buffers; the bytes written.
    ///
    /// # Errors
    /// What the kernel said, with EINTR already retried.
    pub fn writev(&self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        retry(|| {
            // SAFETY: as in `preadv`.
            unsafe { libc::writev(fd.as_raw_fd(), self.list.as_ptr(), self.count()) }
        })
    }

    /// `sendmsg(2)` from the buffers to a connected socket, which neither waits nor raises SIGPIPE; the bytes sent.
    ///
    /// # Errors
    /// What the kernel said, with EINTR already retried.
    pub fn send(&self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: a message of zeros is one without address and anything beside it.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.list.as_ptr().cast_mut();
        message.msg_iovlen = self.list.len();
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        retry(|| {
            // SAFETY: as in `preadv`; the kernel does not write to the list.
            unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) }
        })
    }

    fn count(&self) -> libc::c_int {
        libc::c_int::try_from(self.list.len()).unwrap_or(libc::c_int::MAX)
    }
}

fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn retry(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(n) => return Ok(n),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
