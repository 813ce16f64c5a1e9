//! The queue towards the guest: buffers taken a few at a time, filled, and given back.

use std::os::fd::BorrowedFd;

use super::connection::LONGEST_BURST;
use super::packet::{HEADER, Header};
use crate::host::GuestRam;
use crate::iovec::IoVecs;
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, Head, QueueError, VirtQueue};

/// The most data of one read, in bytes: Linux takes no longer packets (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`), and one read is
/// one or more packets.
const LONGEST: u32 = 64 * 1024;

/// The queue, and what was taken from it and not given back.
pub(super) struct Rx {
    pub(super) queue: VirtQueue,
    chains: Vec<Chain>,
    heads: Vec<Head>,
    vecs: IoVecs,
}

/// What became of a read.
#[derive(Debug)]
pub(super) enum Read {
    /// Bytes that are with the guest, and whether they filled all that was offered.
    Bytes(u32, bool),
    /// The guest has no buffers.
    Starved,
    /// Nothing to read now.
    Nothing,
    /// Nothing any more.
    End,
    /// The host's side has failed.
    Failed,
}

impl Rx {
    pub(super) fn new(queue: VirtQueue) -> Self {
        let size = queue.size();
        Self {
            chains: (0..LONGEST_BURST)
                .map(|_| Chain::with_capacity(8))
                .collect(),
            heads: Vec::with_capacity(LONGEST_BURST),
            vecs: IoVecs::with_capacity(usize::from(size)),
            queue,
        }
    }

    /// Sends a packet without data. False: the guest has no buffers.
    pub(super) fn send(
        &mut self,
        ram: &GuestRam,
        header: impl FnOnce() -> Header,
    ) -> Result<bool, QueueError> {
        if self.fetch(ram, 1)? == 0 {
            return Ok(false);
        }
        self.fill(ram, 0, header(), 0);
        self.give(ram, 1, |_| HEADER)?;
        Ok(true)
    }

    /// Reads up to `most` bytes from the host's side into up to `burst` buffers; `header` is asked for each packet.
    pub(super) fn read(
        &mut self,
        ram: &GuestRam,
        stream: BorrowedFd<'_>,
        most: u32,
        burst: usize,
        mut header: impl FnMut(u32) -> Header,
    ) -> Result<Read, QueueError> {
        let fetched = self.fetch(ram, burst.clamp(1, LONGEST_BURST))?;
        if fetched == 0 {
            return Ok(Read::Starved);
        }
        let offered = self.offer(ram, most.min(LONGEST));
        let read = match self.vecs.readv(stream) {
            Ok(n) => u32::try_from(n).unwrap_or_default(),
            Err(error) => {
                self.undo(0);
                let is_empty = error.kind() == std::io::ErrorKind::WouldBlock;
                return Ok(if is_empty {
                    Read::Nothing
                } else {
                    Read::Failed
                });
            }
        };
        let mut left = read;
        let mut used = 0_usize;
        while left > 0 && used < fetched {
            let len = self.room(used).min(left);
            self.fill(ram, used, header(len), len);
            left = left.saturating_sub(len);
            used = used.saturating_add(1);
        }
        self.undo(used);
        let mut left = read;
        let rooms: [u32; LONGEST_BURST] = std::array::from_fn(|at| {
            let len = self.room(at).min(left);
            left = left.saturating_sub(len);
            len.saturating_add(HEADER)
        });
        self.give(ram, used, |at| rooms.get(at).copied().unwrap_or_default())?;
        Ok(match read {
            0 => Read::End,
            read => Read::Bytes(read, read == offered),
        })
    }

    /// The queue, with everything in it that was not given back.
    pub(super) fn into_queue(mut self) -> VirtQueue {
        self.undo(0);
        self.queue
    }

    /// Takes up to `wanted` buffers that hold at least a header and a byte; how many there were. The others go back empty.
    fn fetch(&mut self, ram: &GuestRam, wanted: usize) -> Result<usize, QueueError> {
        while self.heads.len() < wanted {
            let Some(chain) = self.chains.get_mut(self.heads.len()) else {
                break;
            };
            match self.queue.pop(ram, chain)? {
                Popped::Chain(head) if chain.writable_len() > HEADER => self.heads.push(head),
                Popped::Chain(head) | Popped::Malformed(head, _) => {
                    // Behind those that were taken before it: they must not be put back over it.
                    if !self.heads.is_empty() {
                        self.queue.undo_pop(head);
                        break;
                    }
                    self.queue.complete(ram, head, 0)?;
                }
                Popped::Empty if !self.heads.is_empty() => break,
                Popped::Empty => {
                    if !self.queue.listen(ram)? {
                        break;
                    }
                    self.queue.hush(ram)?;
                }
            }
        }
        Ok(self.heads.len())
    }

    /// How much data the buffer at `at` holds.
    fn room(&self, at: usize) -> u32 {
        let len = self.chains.get(at).map_or(0, Chain::writable_len);
        len.saturating_sub(HEADER)
    }

    /// Lists up to `most` bytes of the buffers' room for data; how many.
    fn offer(&mut self, ram: &GuestRam, most: u32) -> u32 {
        self.vecs.clear();
        let mut offered = 0_u32;
        for at in 0..self.heads.len() {
            let len = self.room(at).min(most.saturating_sub(offered));
            let Some(chain) = self.chains.get(at).filter(|_| len > 0) else {
                break;
            };
            // It was checked to be there when it was taken.
            if chain
                .writable_vecs(ram, HEADER, len, &mut self.vecs)
                .is_err()
            {
                break;
            }
            offered = offered.saturating_add(len);
        }
        offered
    }

    fn fill(&self, ram: &GuestRam, at: usize, mut header: Header, len: u32) {
        header.len = len;
        if let Some(chain) = self.chains.get(at) {
            // As above; and a buffer that is gone all the same stays as it is.
            let _ = chain.write_at(ram, 0, &header.to_bytes());
        }
    }

    /// Gives the first `count` buffers to the guest with so many bytes in each.
    fn give(
        &mut self,
        ram: &GuestRam,
        count: usize,
        written: impl Fn(usize) -> u32,
    ) -> Result<(), QueueError> {
        let count = count.min(self.heads.len());
        let heads = self.heads.drain(..count).enumerate();
        self.queue
            .complete_all(ram, heads.map(|(at, head)| (head, written(at))))
    }

    /// Puts all but the first `keep` buffers back into the queue.
    fn undo(&mut self, keep: usize) {
        while self.heads.len() > keep
            && let Some(head) = self.heads.pop()
        {
            self.queue.undo_pop(head);
        }
    }
}
