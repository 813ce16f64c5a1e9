//! What the guest has sent and the host's side has not taken yet: in pieces of one size, made on need.

use std::collections::VecDeque;

/// Bytes of a piece.
const PIECE: usize = 32 * 1024;

/// Bytes that wait, in their order. **It holds no more than one piece above what was put and not taken**, and nothing when
/// it is empty.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pieces: VecDeque<Vec<u8>>,
    /// How much of the first piece was taken.
    taken: usize,
    len: usize,
}

impl Backlog {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether none do.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for up to `len` more bytes behind those that wait, and has `fill` write them: zeros until then. How many
    /// there is room for; the caller comes again for the rest.
    pub(super) fn put<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        if self.pieces.back().is_none_or(|last| last.len() >= PIECE) {
            self.pieces.push_back(Vec::with_capacity(PIECE));
        }
        let Some(last) = self.pieces.back_mut() else {
            return Ok(0);
        };
        let start = last.len();
        let now = len.min(PIECE.saturating_sub(start));
        last.resize(start.saturating_add(now), 0);
        let filled = fill(last.get_mut(start..).unwrap_or_default());
        if let Err(error) = filled {
            last.truncate(start);
            return Err(error);
        }
        self.len = self.len.saturating_add(now);
        Ok(now)
    }

    /// The bytes that wait for the longest time; empty when none do.
    pub(super) fn first(&self) -> &[u8] {
        let first = self.pieces.front().map(Vec::as_slice).unwrap_or_default();
        first.get(self.taken..).unwrap_or_default()
    }

    /// The first `n` bytes of [`Self::first`] were taken.
    pub(super) fn take(&mut self, n: usize) {
        self.taken = self.taken.saturating_add(n);
        self.len = self.len.saturating_sub(n);
        if self.first().is_empty() {
            self.pieces.pop_front();
            self.taken = 0;
        }
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(backlog: &mut Backlog, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = backlog.put::<()>(bytes.len(), |room| {
                room.copy_from_slice(&bytes[..room.len()]);
                Ok(())
            });
            bytes = &bytes[n.unwrap()..];
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let data: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let mut backlog = Backlog::default();
        let mut out = Vec::new();
        for part in data.chunks(7001) {
            put(&mut backlog, part);
            let n = backlog.first().len().min(5000);
            out.extend_from_slice(&backlog.first()[..n]);
            backlog.take(n);
        }
        while !backlog.is_empty() {
            out.extend_from_slice(backlog.first());
            backlog.take(backlog.first().len());
        }
        assert!(out == data);
    }

    #[test]
    fn many_small_parts_take_no_more_room_than_their_bytes() {
        let mut backlog = Backlog::default();
        for _ in 0..100_000 {
            put(&mut backlog, b"x");
        }
        assert_eq!(backlog.len(), 100_000);
        assert_eq!(backlog.pieces.len(), 100_000_usize.div_ceil(PIECE));
    }

    #[test]
    fn what_could_not_be_read_is_not_there() {
        let mut backlog = Backlog::default();
        put(&mut backlog, b"ab");
        assert_eq!(backlog.put(3, |_| Err(1)), Err(1));
        assert_eq!((backlog.len(), backlog.first()), (2, &b"ab"[..]));
    }

    #[test]
    fn an_empty_backlog_keeps_no_memory() {
        let mut backlog = Backlog::default();
        put(&mut backlog, &[1; 40_000]);
        backlog.take(PIECE);
        backlog.take(40_000 - PIECE);
        assert_eq!(backlog.pieces.capacity(), 0);
    }
}
