//! What stands between a serial port and the world: a bounded buffer for what the guest says.
//!
//! When nobody reads, the guest waits, as it would for a real line; nothing is lost and nothing grows.
//! Sealing the buffer ends that: what was said can still be read, what is said from then on is forgotten.
//! It is sealed when a guest has left its exit status, so that a command's output ends where the command
//! ended, and by whoever ends the guest, so that no vCPU stays waiting.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How much a guest may say before somebody reads.
pub const CAPACITY: usize = 64 * 1024;
/// A waiting vCPU looks this often whether it was told to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What the guest has said and nobody has read yet; one writer, one reader.
#[derive(Clone, Debug)]
pub struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    said: Mutex<Said>,
    room: Condvar,
    ready: EventFd,
}

#[derive(Debug, Default)]
struct Said {
    bytes: VecDeque<u8>,
    sealed: bool,
}

impl Output {
    /// An empty buffer.
    ///
    /// # Errors
    /// When the kernel grants no eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            said: Mutex::default(),
            room: Condvar::new(),
            ready: EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
        })))
    }

    /// Readable when the buffer has gone from empty to not empty.
    pub fn ready(&self) -> &EventFd {
        &self.0.ready
    }

    /// Takes up to `most` bytes out, in the order they were said.
    pub fn take(&self, most: usize) -> Vec<u8> {
        let _ = self.0.ready.read();
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        let count = said.bytes.len().min(most);
        let taken = said.bytes.drain(..count).collect();
        if !said.bytes.is_empty() {
            let _ = self.0.ready.write(1);
        }
        self.0.room.notify_all();
        taken
    }

    /// From now on what is said is forgotten, and nobody waits to say it. What was said stays to be taken.
    pub fn seal(&self) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.sealed = true;
        self.0.room.notify_all();
    }

    fn say(&self, bytes: &[u8]) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        while said.bytes.len() >= CAPACITY && !said.sealed {
            let (waited, _) = self
                .0
                .room
                .wait_timeout(said, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            said = waited;
        }
        if said.sealed {
            return;
        }
        let was_empty = said.bytes.is_empty();
        said.bytes.extend(bytes);
        if was_empty {
            let _ = self.0.ready.write(1);
        }
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.say(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_said_is_read_in_order() {
        let mut output = Output::new().unwrap();
        output.write_all(b"hello ").unwrap();
        output.write_all(b"world").unwrap();
        assert_eq!(output.take(3), b"hel");
        assert_eq!(output.take(100), b"lo world");
    }

    #[test]
    fn a_guest_that_says_more_than_fits_waits_until_somebody_reads() {
        let output = Output::new().unwrap();
        let mut guest = output.clone();
        let writer = thread::spawn(move || {
            for _ in 0..CAPACITY + 10 {
                guest.write_all(b"x").unwrap();
            }
        });
        let mut read = 0;
        while read < CAPACITY + 10 {
            let taken = output.take(usize::MAX).len();
            assert!(taken <= CAPACITY);
            read += taken;
        }
        writer.join().unwrap();
        assert_eq!(read, CAPACITY + 10);
    }

    #[test]
    fn a_sealed_buffer_lets_a_waiting_guest_go() {
        let output = Output::new().unwrap();
        let mut guest = output.clone();
        let writer = thread::spawn(move || {
            guest
                .write_all(&[b'x'; 2 * CAPACITY])
                .and_then(|()| guest.write_all(b"y"))
        });
        output.seal();
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn what_was_said_before_the_seal_is_read_and_what_is_said_after_it_is_not() {
        let mut output = Output::new().unwrap();
        output.write_all(b"its output\n").unwrap();
        output.seal();
        output.write_all(b"reboot: Power down\n").unwrap();
        assert_eq!(output.take(100), b"its output\n");
        assert_eq!(output.take(100), b"");
    }
}
