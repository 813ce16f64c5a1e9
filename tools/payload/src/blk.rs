//! virtio-blk: benchmark and verification (virtio 1.2 §5.2).

use crate::clock::cycles;
use crate::cmdline::{CommandLine, Requests};
use crate::line;
use crate::memory::{Arena, Region};
use crate::queue::{Descriptor, NEXT, Queue, TABLE, WRITE, write_descriptor};
use crate::virtio::{self, EVENT_IDX, Error, INDIRECT, Kind};

/// VIRTIO_BLK_F_FLUSH.
const FLUSH: u64 = 1 << 9;
/// VIRTIO_BLK_F_WRITE_ZEROES.
const WRITE_ZEROES: u64 = 1 << 14;
const SECTOR: u64 = 512;
const BLOCK: u32 = 4096;
const HEADER: usize = 16;
/// A range of sectors and its flags.
const RANGE: u32 = 16;
/// Descriptors of a request: header, data, status.
const CHAIN: u16 = 3;
/// No status: what the driver leaves where the device writes 0, 1 or 2.
const UNSET: u8 = 0xff;

/// Request types (virtio 1.2 §5.2.6).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    In = 0,
    Out = 1,
    Flush = 4,
    Zero = 13,
}

/// A disk with a fixed place in memory for each request in flight.
struct Disk {
    queue: Queue,
    capacity: u64,
    indirect: bool,
    headers: Region,
    statuses: Region,
    tables: Region,
    data: Region,
    size: u32,
}

/// Runs a benchmark and prints its result.
///
/// # Errors
/// When no disk can be used; what the disk then does is printed, not returned.
pub fn bench(
    command_line: CommandLine<'_>,
    requests: Requests,
    arena: &mut Arena,
) -> Result<(), Error> {
    let mut disk = Disk::open(command_line, requests.depth, requests.size, arena)?;
    let kind = if requests.outward {
        Type::Out
    } else {
        Type::In
    };
    let blocks = disk.capacity * SECTOR / u64::from(requests.size);
    if blocks == 0 {
        line!(
            "error: the disk holds {} sectors, less than one request",
            disk.capacity
        );
        return Ok(());
    }
    let mut places = Places::new(blocks, requests.size);
    let (mut issued, mut done, mut errors) = (0, 0, 0);
    let start = cycles();
    while issued < requests.count.min(u32::from(requests.depth)) {
        disk.submit(slot_of(issued), kind, places.next());
        issued += 1;
    }
    disk.queue.publish();
    while done < requests.count {
        let Some(mut used) = disk.queue.wait() else {
            line!(
                "error: blk stalled after {done} of {} requests",
                requests.count
            );
            return Ok(());
        };
        loop {
            let slot = disk.slot(used.head);
            errors += u32::from(disk.status(slot) != 0);
            done += 1;
            if issued < requests.count {
                disk.submit(slot, kind, places.next());
                issued += 1;
            }
            match disk.queue.take() {
                Some(next) => used = next,
                None => break,
            }
        }
        disk.queue.publish();
    }
    let spent = cycles() - start;
    let name = if requests.outward { "write" } else { "read" };
    let Requests {
        size, depth, count, ..
    } = requests;
    let kicks = disk.queue.notifications();
    line!(
        "blk {name} {size} depth {depth} count {count} cycles {spent} errors {errors} kicks {kicks}"
    );
    Ok(())
}

/// Writes `count` blocks, each with a content of its own, flushes, reads them back and compares.
///
/// # Errors
/// When no disk can be used; what the disk then does is printed, not returned.
pub fn verify(command_line: CommandLine<'_>, count: u32, arena: &mut Arena) -> Result<(), Error> {
    let mut disk = Disk::open(command_line, 1, BLOCK, arena)?;
    let room = disk.capacity / (u64::from(BLOCK) / SECTOR);
    let count = count.min(u32::try_from(room).unwrap_or(u32::MAX));
    let mut errors = 0;
    for block in 0..count {
        disk.fill(block);
        errors += u32::from(disk.one(Type::Out, block) != 0);
    }
    errors += u32::from(disk.one(Type::Flush, 0) != 0);
    let mut wrong = 0;
    for block in 0..count {
        disk.data.fill(0);
        errors += u32::from(disk.one(Type::In, block) != 0);
        wrong += u32::from(!disk.holds(block));
    }
    line!("blk verify {BLOCK} count {count} errors {errors} wrong {wrong}");
    Ok(())
}

/// Has a block zeroed that held something, not discarded, by a range (virtio 1.2 §5.2.6), and reads it back.
///
/// # Errors
/// When no disk can be used; what the disk then does is printed, not returned.
pub fn zero(command_line: CommandLine<'_>, arena: &mut Arena) -> Result<(), Error> {
    let mut disk = Disk::open(command_line, 1, BLOCK, arena)?;
    disk.fill(0);
    let mut errors = u32::from(disk.one(Type::Out, 0) != 0);
    disk.data.write64(0, 0);
    disk.data.write32(8, BLOCK / 512);
    disk.data.write32(12, 0);
    errors += u32::from(disk.one(Type::Zero, 0) != 0);
    disk.fill(0);
    errors += u32::from(disk.one(Type::In, 0) != 0);
    let wrong = words().filter(|at| disk.data.read32(*at) != 0).count();
    line!("blk zero {BLOCK} errors {errors} wrong {wrong}");
    Ok(())
}

impl Disk {
    fn open(
        command_line: CommandLine<'_>,
        depth: u16,
        size: u32,
        arena: &mut Arena,
    ) -> Result<Self, Error> {
        let device = virtio::find(command_line, Kind::Block)?;
        let features = device.negotiate(FLUSH | WRITE_ZEROES | virtio::wanted(command_line))?;
        let indirect = features & INDIRECT != 0;
        // A chain is no longer than its queue, indirect or not (virtio 1.2 §2.7.5.3.1).
        let needed = if indirect {
            depth.max(CHAIN)
        } else {
            depth.saturating_mul(CHAIN)
        };
        let queue = device.queue(0, needed, features, arena)?;
        let capacity = device.config64(0);
        device.start();
        line!(
            "blk capacity {capacity} event_idx {} indirect {indirect}",
            features & EVENT_IDX != 0
        );
        let slots = usize::from(depth);
        Ok(Self {
            queue,
            capacity,
            indirect,
            headers: arena.take(slots * HEADER),
            statuses: arena.take(slots),
            tables: arena.take(slots * usize::from(CHAIN) * HEADER),
            data: arena.take(slots * size as usize),
            size,
        })
    }

    /// Offers the request of `slot`; the queue still has to publish it.
    fn submit(&mut self, slot: u16, kind: Type, sector: u64) {
        let at = usize::from(slot);
        let header = self.headers.part(at * HEADER, HEADER);
        header.write32(0, kind as u32);
        header.write64(8, sector);
        self.statuses.write8(at, UNSET);
        let direction = if kind == Type::In { WRITE } else { 0 };
        let buffers = [
            (header.address(0), 16, 0),
            (
                self.data.address(at * self.size as usize),
                if kind == Type::Zero { RANGE } else { self.size },
                direction,
            ),
            (self.statuses.address(at), 1, WRITE),
        ];
        let skip = usize::from(kind == Type::Flush); // a flush has no data
        let chain = buffers.iter().take(1).chain(buffers.iter().skip(1 + skip));
        let first = if self.indirect { 0 } else { slot * CHAIN };
        let table = self.tables.part(at * TABLE_LEN, TABLE_LEN);
        let last = 2 - skip;
        for ((index, number), (address, len, flags)) in (first..).zip(0..).zip(chain) {
            let flags = if number < last { flags | NEXT } else { *flags };
            let next = if number < last { index + 1 } else { 0 };
            let descriptor = Descriptor {
                address: *address,
                len: *len,
                flags,
                next,
            };
            if self.indirect {
                write_descriptor(table, index, descriptor);
            } else {
                self.queue.describe(index, descriptor);
            }
        }
        if self.indirect {
            let len = if skip == 0 { 48 } else { 32 };
            let reference = Descriptor {
                address: table.address(0),
                len,
                flags: TABLE,
                next: 0,
            };
            self.queue.describe(slot, reference);
            self.queue.offer(slot);
        } else {
            self.queue.offer(first);
        }
    }

    /// One request alone; its status, or [`UNSET`] when the device stalls.
    fn one(&mut self, kind: Type, block: u32) -> u8 {
        self.submit(0, kind, u64::from(block) * u64::from(BLOCK) / SECTOR);
        self.queue.publish();
        self.queue.wait().map_or(UNSET, |_| self.status(0))
    }

    fn status(&self, slot: u16) -> u8 {
        self.statuses.read8(usize::from(slot))
    }

    fn slot(&self, head: u16) -> u16 {
        if self.indirect { head } else { head / CHAIN }
    }

    fn fill(&self, block: u32) {
        words().for_each(|at| self.data.write32(at, pattern(block, at)));
    }

    fn holds(&self, block: u32) -> bool {
        words().all(|at| self.data.read32(at) == pattern(block, at))
    }
}

const TABLE_LEN: usize = CHAIN as usize * HEADER;

fn words() -> impl Iterator<Item = usize> {
    (0..BLOCK as usize).step_by(4)
}

/// A word that depends on its block and its place, and on both beyond their low bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a hash keeps the bits it has room for"
)]
fn pattern(block: u32, at: usize) -> u32 {
    (block ^ 0x5bd1).wrapping_mul(0x9e37_79b1) ^ (at as u32).wrapping_mul(0x85eb_ca6b)
}

/// Slots are numbered from 0 in a depth of at most 2^16 - 1.
fn slot_of(issued: u32) -> u16 {
    u16::try_from(issued).expect("the first requests are no more than the depth")
}

/// Pseudo-random places on a disk, the same in every run.
struct Places {
    state: u64,
    blocks: u64,
    size: u64,
}

impl Places {
    fn new(blocks: u64, size: u32) -> Self {
        Self {
            state: 0x2545_f491_4f6c_dd1d,
            blocks,
            size: u64::from(size),
        }
    }

    /// The first sector of the next place.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13; // Marsaglia, Xorshift RNGs
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.blocks * self.size / SECTOR
    }
}
