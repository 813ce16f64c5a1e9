//! Descriptor chains: the strict reader of what a driver puts into a queue (virtio 1.2 §2.7.5).
//!
//! The whole chain is read once, checked, and kept as plain addresses and lengths; a driver that
//! rewrites a descriptor afterwards changes nothing (no double fetch).

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend};

use crate::host::GuestRam;
use crate::iovec::IoVecs;

/// The size of one descriptor in bytes (virtio 1.2 §2.7.5).
const DESCRIPTOR_SIZE: u32 = 16;

/// A buffer in guest memory that is known to lie inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub address: GuestAddress,
    /// Its length in bytes, at least 1.
    pub len: u32,
}

/// What a driver did wrong in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More descriptors than the queue has: a loop, or an overlong chain (§2.7.5.3.1).
    #[error("the chain has more descriptors than its queue")]
    TooLong,
    /// A `next` or head index outside the table.
    #[error("a descriptor index lies outside the table")]
    Index,
    /// The table itself is not in guest memory.
    #[error("the descriptor table lies outside guest memory")]
    Table,
    /// A buffer is not in guest memory.
    #[error("a buffer lies outside guest memory")]
    Buffer,
    /// A readable descriptor after a writable one (§2.7.4.2).
    #[error("a readable buffer follows a writable one")]
    Order,
    /// An indirect table inside an indirect table, together with NEXT, empty, too long or not a
    /// multiple of 16 bytes (§2.7.5.3).
    #[error("an indirect descriptor is malformed")]
    Indirect,
    /// More than 2^32 - 1 bytes in total (§2.7.5.2).
    #[error("the chain's buffers have too many bytes")]
    Bytes,
    /// The chain is shorter than the structure that was to be read or written.
    #[error("the chain is too short")]
    Short,
}

/// A descriptor chain, read and checked; reusable, so that reading the next one allocates nothing.
#[derive(Debug, Default)]
pub struct Chain {
    segments: Vec<Segment>,
    readable: usize,
    readable_len: u32,
    writable_len: u32,
}

/// A descriptor table: the queue's own, or an indirect one.
#[derive(Clone, Copy)]
struct Table {
    address: GuestAddress,
    entries: u16,
}

impl Chain {
    /// An empty chain with room for `capacity` buffers.
    pub fn with_capacity(capacity: u16) -> Self {
        Self {
            segments: Vec::with_capacity(usize::from(capacity)),
            ..Self::default()
        }
    }

    /// Reads the chain that starts at `head` of the table at `address` with `entries` descriptors.
    ///
    /// # Errors
    /// Whatever the driver did wrong; the chain is empty then.
    pub(crate) fn read(
        &mut self,
        ram: &GuestRam,
        address: GuestAddress,
        entries: u16,
        head: u16,
    ) -> Result<(), ChainError> {
        self.clear();
        let table = Table { address, entries };
        let walked = self.walk(ram, table, head, entries, true);
        if walked.is_err() {
            self.clear();
        }
        walked
    }

    /// The buffers the device reads, in order.
    pub fn readable(&self) -> &[Segment] {
        self.segments.get(..self.readable).unwrap_or_default()
    }

    /// The buffers the device writes, in order.
    pub fn writable(&self) -> &[Segment] {
        self.segments.get(self.readable..).unwrap_or_default()
    }

    /// How many bytes the device may read.
    pub fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// How many bytes the device may write.
    pub fn writable_len(&self) -> u32 {
        self.writable_len
    }

    /// Copies a structure out of the readable buffers, `offset` bytes from their start.
    ///
    /// # Errors
    /// [`ChainError::Short`] when the buffers end before the structure does.
    pub fn read_obj<T: ByteValued + Default>(
        &self,
        ram: &GuestRam,
        offset: u32,
    ) -> Result<T, ChainError> {
        let mut object = T::default();
        self.read_at(ram, offset, object.as_mut_slice())?;
        Ok(object)
    }

    /// Copies `data.len()` bytes out of the readable buffers, `offset` bytes from their start.
    ///
    /// # Errors
    /// [`ChainError::Short`] when the buffers end before.
    pub fn read_at(&self, ram: &GuestRam, offset: u32, data: &mut [u8]) -> Result<(), ChainError> {
        let mut rest = data;
        each(self.readable(), offset, rest.len(), |part| {
            let (now, later) = std::mem::take(&mut rest)
                .split_at_mut_checked(len_of(part))
                .ok_or(ChainError::Short)?;
            rest = later;
            ram.read_slice(now, part.address)
                .map_err(|_| ChainError::Buffer)
        })
    }

    /// Copies `data` into the writable buffers, `offset` bytes from their start.
    ///
    /// # Errors
    /// [`ChainError::Short`] when the buffers end before.
    pub fn write_at(&self, ram: &GuestRam, offset: u32, data: &[u8]) -> Result<(), ChainError> {
        write_segments(self.writable(), ram, offset, data)
    }

    /// Adds `len` bytes of the readable buffers, `offset` bytes from their start, to `vecs`.
    ///
    /// # Errors
    /// [`ChainError::Short`] when the buffers end before.
    pub fn readable_vecs(
        &self,
        ram: &GuestRam,
        offset: u32,
        len: u32,
        vecs: &mut IoVecs,
    ) -> Result<(), ChainError> {
        push(self.readable(), ram, offset, len, vecs)
    }

    /// Adds `len` bytes of the writable buffers, `offset` bytes from their start, to `vecs`.
    ///
    /// # Errors
    /// [`ChainError::Short`] when the buffers end before.
    pub fn writable_vecs(
        &self,
        ram: &GuestRam,
        offset: u32,
        len: u32,
        vecs: &mut IoVecs,
    ) -> Result<(), ChainError> {
        push(self.writable(), ram, offset, len, vecs)
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
    }

    /// Follows one table. **Bound: `budget` descriptors, the queue's size, whatever the table says.**
    fn walk(
        &mut self,
        ram: &GuestRam,
        table: Table,
        head: u16,
        budget: u16,
        may_indirect: bool,
    ) -> Result<(), ChainError> {
        let mut index = head;
        for _ in 0..budget {
            let descriptor = table.descriptor(ram, index)?;
            if descriptor.refers_to_indirect_table() {
                if !may_indirect || descriptor.has_next() {
                    return Err(ChainError::Indirect);
                }
                let inner = Table::indirect(&descriptor)?;
                return self.walk(ram, inner, 0, budget, false);
            }
            self.push(ram, &descriptor)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(ChainError::TooLong)
    }

    fn push(&mut self, ram: &GuestRam, descriptor: &Descriptor) -> Result<(), ChainError> {
        let writable = descriptor.is_write_only();
        if !writable && self.readable < self.segments.len() {
            return Err(ChainError::Order);
        }
        let len = descriptor.len();
        self.readable_len
            .checked_add(self.writable_len)
            .and_then(|total| total.checked_add(len))
            .ok_or(ChainError::Bytes)?;
        if len == 0 {
            return Ok(());
        }
        let segment = Segment {
            address: descriptor.addr(),
            len,
        };
        ram.get_slice(segment.address, len_of(segment))
            .map_err(|_| ChainError::Buffer)?;
        self.segments.push(segment);
        let total = if writable {
            &mut self.writable_len
        } else {
            self.readable = self.segments.len();
            &mut self.readable_len
        };
        *total = total.checked_add(len).ok_or(ChainError::Bytes)?;
        Ok(())
    }
}

impl Table {
    fn indirect(descriptor: &Descriptor) -> Result<Self, ChainError> {
        let len = descriptor.len();
        let entries = len.checked_div(DESCRIPTOR_SIZE).unwrap_or_default();
        match u16::try_from(entries) {
            Ok(entries) if entries > 0 && len.is_multiple_of(DESCRIPTOR_SIZE) => Ok(Self {
                address: descriptor.addr(),
                entries,
            }),
            _ => Err(ChainError::Indirect),
        }
    }

    fn descriptor(self, ram: &GuestRam, index: u16) -> Result<Descriptor, ChainError> {
        if index >= self.entries {
            return Err(ChainError::Index);
        }
        let offset = u64::from(index).saturating_mul(u64::from(DESCRIPTOR_SIZE));
        let address = self.address.checked_add(offset).ok_or(ChainError::Table)?;
        ram.read_obj(address).map_err(|_| ChainError::Table)
    }
}

/// Copies `data` into `segments`, `offset` bytes from their start.
///
/// # Errors
/// [`ChainError::Short`] when the segments end before.
pub(crate) fn write_segments(
    segments: &[Segment],
    ram: &GuestRam,
    offset: u32,
    data: &[u8],
) -> Result<(), ChainError> {
    let mut rest = data;
    each(segments, offset, rest.len(), |part| {
        let (now, later) = rest
            .split_at_checked(len_of(part))
            .ok_or(ChainError::Short)?;
        rest = later;
        ram.write_slice(now, part.address)
            .map_err(|_| ChainError::Buffer)
    })
}

/// A segment's length as a size in memory.
fn len_of(segment: Segment) -> usize {
    usize::try_from(segment.len).unwrap_or(usize::MAX)
}

/// Calls `act` on the parts of `segments` that make up `len` bytes from `offset`.
fn each(
    segments: &[Segment],
    offset: u32,
    len: usize,
    mut act: impl FnMut(Segment) -> Result<(), ChainError>,
) -> Result<(), ChainError> {
    let mut skip = offset;
    let mut left = u32::try_from(len).map_err(|_| ChainError::Short)?;
    for segment in segments {
        if left == 0 {
            break;
        }
        let Some(available) = segment.len.checked_sub(skip).filter(|n| *n > 0) else {
            skip = skip.saturating_sub(segment.len);
            continue;
        };
        let part = Segment {
            address: segment
                .address
                .checked_add(u64::from(skip))
                .ok_or(ChainError::Buffer)?,
            len: available.min(left),
        };
        skip = 0;
        left = left.saturating_sub(part.len);
        act(part)?;
    }
    if left == 0 {
        Ok(())
    } else {
        Err(ChainError::Short)
    }
}

fn push(
    segments: &[Segment],
    ram: &GuestRam,
    offset: u32,
    len: u32,
    vecs: &mut IoVecs,
) -> Result<(), ChainError> {
    let len = usize::try_from(len).map_err(|_| ChainError::Short)?;
    each(segments, offset, len, |part| {
        vecs.push(ram, part.address, len_of(part))
            .map_err(|_| ChainError::Buffer)
    })
}
