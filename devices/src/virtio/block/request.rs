//! Parses a request (virtio 1.2 §5.2.6): a chain of buffers in, what is to be done out.
//!
//! ```text
//! readable:  type u32 | reserved u32 | sector u64 | data of a write, discard or write-zeroes
//! writable:  data of a read or get-id | status u8
//! ```
//!
//! How the parts are spread over buffers is the driver's choice (§2.7.4.1). Every field is read once.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Address, GuestAddress};

use crate::host::GuestRam;
use crate::virtio::Chain;
use crate::virtio::block::disk::{Disk, Extent};
use crate::virtio::block::{MAX_DISCARD, MAX_ZEROES, SECTOR, SERIAL_LEN};

/// The bytes of a request before its data.
pub(super) const HEADER_LEN: u32 = 16;
/// The bytes of the one range that a discard or write-zeroes names (§5.2.6:
/// `virtio_blk_discard_write_zeroes`).
const RANGE_LEN: u32 = 16;

/// `VIRTIO_BLK_S_OK`: the status of a request that was done.
pub(super) const OK: u8 = 0;
/// `VIRTIO_BLK_S_IOERR`: it failed, or breaks a rule.
pub(super) const IO_ERROR: u8 = 1;
/// `VIRTIO_BLK_S_UNSUPP`: this disk does not know it.
pub(super) const UNSUPPORTED: u8 = 2;

/// What the driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read(Extent),
    Write(Extent),
    Flush,
    GetId,
    Discard(Extent),
    /// Zeros, which may free the blocks if `unmap`.
    Zero {
        extent: Extent,
        unmap: bool,
    },
}

impl Request {
    /// The bytes that the request moves, as its limits count them.
    pub(super) fn data_len(&self) -> u64 {
        match self {
            Self::Read(extent) | Self::Write(extent) => extent.len,
            _ => 0,
        }
    }
}

/// Where the status byte of a chain goes: its last writable byte. `None` when it has none, and then the
/// driver cannot be answered.
pub(super) fn status_address(chain: &Chain) -> Option<GuestAddress> {
    let last = chain.writable().last()?;
    last.address.checked_add(last.len.checked_sub(1)?.into())
}

/// Parses the chain.
///
/// # Errors
/// The status byte of a request that is refused.
pub(super) fn parse(chain: &Chain, ram: &GuestRam, disk: &Disk) -> Result<Request, u8> {
    let header: [u8; HEADER_LEN as usize] = read(chain, ram, 0)?;
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
    let kind = u32::from_le_bytes([t0, t1, t2, t3]);
    let sector = u64::from_le_bytes(sector);
    let room = chain.writable_len().saturating_sub(1);
    match kind {
        VIRTIO_BLK_T_IN => Ok(Request::Read(extent(disk, sector, room.into())?)),
        VIRTIO_BLK_T_OUT => {
            let data = chain.readable_len().saturating_sub(HEADER_LEN);
            writable(disk)?;
            Ok(Request::Write(extent(disk, sector, data.into())?))
        }
        VIRTIO_BLK_T_FLUSH => Ok(Request::Flush),
        VIRTIO_BLK_T_GET_ID if usize::try_from(room).is_ok_and(|room| room >= SERIAL_LEN) => {
            Ok(Request::GetId)
        }
        VIRTIO_BLK_T_GET_ID => Err(IO_ERROR),
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
            writable(disk)?;
            let range = Range::read(chain, ram)?;
            if kind == VIRTIO_BLK_T_DISCARD {
                range.discard(disk)
            } else {
                range.zero(disk)
            }
        }
        _ => Err(UNSUPPORTED),
    }
}

/// §5.2.6.2: a read-only device fails every request that would change it.
fn writable(disk: &Disk) -> Result<(), u8> {
    if disk.read_only {
        Err(IO_ERROR)
    } else {
        Ok(())
    }
}

/// The part of the disk from `sector` on, if it is whole sectors and ends inside the capacity.
fn extent(disk: &Disk, sector: u64, len: u64) -> Result<Extent, u8> {
    let offset = sector.checked_mul(SECTOR).ok_or(IO_ERROR)?;
    let end = offset.checked_add(len).ok_or(IO_ERROR)?;
    if end > disk.len() || !len.is_multiple_of(SECTOR) {
        return Err(IO_ERROR);
    }
    Ok(Extent { offset, len })
}

/// The range of a discard or write-zeroes.
struct Range {
    sector: u64,
    sectors: u32,
    flags: u32,
}

impl Range {
    /// One range, no more: `max_discard_seg` and `max_write_zeroes_seg` are 1.
    fn read(chain: &Chain, ram: &GuestRam) -> Result<Self, u8> {
        if chain.readable_len().checked_sub(HEADER_LEN) != Some(RANGE_LEN) {
            return Err(IO_ERROR);
        }
        let range: [u8; RANGE_LEN as usize] = read(chain, ram, HEADER_LEN)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = range;
        Ok(Self {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            sectors: u32::from_le_bytes([n0, n1, n2, n3]),
            flags: u32::from_le_bytes(flags),
        })
    }

    /// §5.2.6.2: a discard with any flag, unmap too, is unsupported.
    fn discard(&self, disk: &Disk) -> Result<Request, u8> {
        if self.flags != 0 {
            return Err(UNSUPPORTED);
        }
        Ok(Request::Discard(self.extent(disk, MAX_DISCARD)?))
    }

    /// §5.2.6.2: a write-zeroes with a flag but unmap is unsupported.
    fn zero(&self, disk: &Disk) -> Result<Request, u8> {
        if self.flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
            return Err(UNSUPPORTED);
        }
        Ok(Request::Zero {
            extent: self.extent(disk, MAX_ZEROES)?,
            unmap: self.flags != 0,
        })
    }

    fn extent(&self, disk: &Disk, longest: u64) -> Result<Extent, u8> {
        let len = u64::from(self.sectors).saturating_mul(SECTOR);
        if len > longest {
            return Err(IO_ERROR);
        }
        extent(disk, self.sector, len)
    }
}

fn read<const N: usize>(chain: &Chain, ram: &GuestRam, offset: u32) -> Result<[u8; N], u8> {
    let mut bytes = [0; N];
    chain
        .read_at(ram, offset, &mut bytes)
        .map_err(|_| IO_ERROR)?;
    Ok(bytes)
}
