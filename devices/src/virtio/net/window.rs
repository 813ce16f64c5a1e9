//! The guest's receive buffers, taken from its queue in advance and read into without a copy.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use crate::host::GuestRam;
use crate::iovec::IoVecs;
use crate::virtio::chain::{ChainError, Segment, write_segments};
use crate::virtio::net::{HEADER, LONGEST};
use crate::virtio::{Chain, Head, QueueError, VirtQueue};

/// What one `readv(2)` takes: `UIO_MAXIOV` without the spare buffer.
const MOST_SEGMENTS: usize = 1023;
/// The bytes after the guest's buffers that catch what they cannot hold: more than any frame.
const SPARE: usize = LONGEST + 64;

/// Buffers in the order of the queue. **The front of the list is where the next frame begins.**
#[derive(Debug)]
pub(super) struct Window {
    buffers: VecDeque<Buffer>,
    segments: Vec<Segment>,
    vecs: IoVecs,
    spare: Box<[u8]>,
}

/// One chain of the queue.
#[derive(Debug)]
struct Buffer {
    head: Head,
    len: usize,
    segments: usize,
}

/// A frame that was read, with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// All its bytes.
    pub(super) len: usize,
    /// Those that went straight into the guest's buffers; the rest is in the spare one.
    direct: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            buffers: VecDeque::new(),
            segments: Vec::new(),
            vecs: IoVecs::with_capacity(0),
            spare: vec![0; SPARE].into_boxed_slice(),
        }
    }

    /// How many bytes the buffers have.
    pub(super) fn room(&self) -> usize {
        self.vecs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// How many chains there are.
    pub(super) fn count(&self) -> usize {
        self.buffers.len()
    }

    /// Whether another chain, of at most `longest` buffers, has no place any more.
    pub(super) fn is_full(&self, longest: u16) -> bool {
        self.segments.len().saturating_add(longest.into()) > MOST_SEGMENTS
    }

    /// Adds a chain at the end.
    pub(super) fn push(&mut self, ram: &GuestRam, head: Head, chain: &Chain) {
        let segments = chain.writable();
        let len = chain.writable_len();
        chain
            .writable_vecs(ram, 0, len, &mut self.vecs)
            .expect("a chain that was read lies inside guest memory");
        self.segments.extend_from_slice(segments);
        self.buffers.push_back(Buffer {
            head,
            len: usize::try_from(len).unwrap_or(usize::MAX),
            segments: segments.len(),
        });
    }

    /// Reads one frame into the buffers, and what they cannot hold into the spare one.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn read(&mut self, port: BorrowedFd<'_>) -> io::Result<Frame> {
        let room = self.room();
        let len = self.vecs.readv_with_spare(port, &mut self.spare)?;
        Ok(Frame {
            len,
            direct: len.min(room),
        })
    }

    /// Puts a frame of the host's own, behind an empty header, where [`Window::read`] would have put it.
    ///
    /// # Errors
    /// [`ChainError::Short`] when it is longer than any frame.
    pub(super) fn fill(&mut self, ram: &GuestRam, frame: &[u8]) -> Result<Frame, ChainError> {
        let len = HEADER.saturating_add(frame.len());
        let room = self.room();
        let in_header = HEADER.min(room);
        let header = [0; HEADER];
        let (direct, behind) = header
            .split_at_checked(in_header)
            .ok_or(ChainError::Short)?;
        self.write_at(ram, 0, direct)?;
        let split = room.saturating_sub(in_header).min(frame.len());
        let (direct, tail) = frame.split_at_checked(split).ok_or(ChainError::Short)?;
        self.write_at(ram, in_header, direct)?;
        let spare = self.spare.iter_mut().zip(behind.iter().chain(tail));
        spare.for_each(|(spare, byte)| *spare = *byte);
        Ok(Frame {
            len,
            direct: len.min(room),
        })
    }

    /// Whether `frame` may have lost its end: it filled all there was.
    pub(super) fn is_cut(&self, frame: Frame) -> bool {
        frame.len.saturating_sub(frame.direct) >= self.spare.len()
    }

    /// Moves what is in the spare buffer behind the rest of `frame`, for which there is room by now.
    ///
    /// # Errors
    /// [`ChainError::Short`] when there is not.
    pub(super) fn join(&self, ram: &GuestRam, frame: Frame) -> Result<(), ChainError> {
        let tail = frame.len.saturating_sub(frame.direct);
        match self.spare.get(..tail) {
            Some([]) => Ok(()),
            Some(tail) => self.write_at(ram, frame.direct, tail),
            None => Err(ChainError::Short),
        }
    }

    /// Writes `data` into the buffers, `offset` bytes from the front.
    ///
    /// # Errors
    /// [`ChainError::Short`] when they end before.
    pub(super) fn write_at(
        &self,
        ram: &GuestRam,
        offset: usize,
        data: &[u8],
    ) -> Result<(), ChainError> {
        let offset = u32::try_from(offset).map_err(|_| ChainError::Short)?;
        write_segments(&self.segments, ram, offset, data)
    }

    /// How many chains from the front `len` bytes take: at least 1.
    pub(super) fn chains_for(&self, len: usize) -> usize {
        let mut left = len;
        let before = self.buffers.iter().take_while(|buffer| {
            let reaches = left > buffer.len;
            left = left.saturating_sub(buffer.len);
            reaches
        });
        before.count().saturating_add(1)
    }

    /// Gives the first `chains` chains to the driver, all at once, with `len` bytes in them.
    ///
    /// # Errors
    /// When the used ring is outside guest memory.
    pub(super) fn complete(
        &mut self,
        ram: &GuestRam,
        queue: &mut VirtQueue,
        chains: usize,
        len: usize,
    ) -> Result<(), QueueError> {
        let mut left = len;
        let (mut room, mut segments) = (0_usize, 0_usize);
        let given = self.buffers.drain(..chains.min(self.buffers.len()));
        let outcome = queue.complete_all(
            ram,
            given.map(|buffer| {
                let written = buffer.len.min(left);
                left = left.saturating_sub(written);
                room = room.saturating_add(buffer.len);
                segments = segments.saturating_add(buffer.segments);
                (buffer.head, u32::try_from(written).unwrap_or(u32::MAX))
            }),
        );
        self.vecs.advance(room);
        self.segments.drain(..segments.min(self.segments.len()));
        outcome
    }

    /// Puts all chains back into the queue, as if they had never been taken.
    pub(super) fn undo(&mut self, queue: &mut VirtQueue) {
        while let Some(buffer) = self.buffers.pop_back() {
            queue.undo_pop(buffer.head);
        }
        self.segments.clear();
        self.vecs.clear();
    }
}

impl Drop for Window {
    /// A worker that ends with its thread takes its queues with it: nobody waits for these chains.
    fn drop(&mut self) {
        for buffer in self.buffers.drain(..) {
            std::mem::forget(buffer.head);
        }
    }
}
