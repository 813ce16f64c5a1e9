//! virtio-net: frames out and in, without offloads (virtio 1.2 §5.1).

use crate::clock::cycles;
use crate::cmdline::{CommandLine, Requests};
use crate::line;
use crate::memory::{Arena, Region};
use crate::queue::{Descriptor, Queue, WRITE};
use crate::virtio::{self, EVENT_IDX, Error, Kind, Transport};

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
/// Bytes before each frame (virtio 1.2 §5.1.6, with VERSION_1).
const HEADER: usize = 12;
/// Room for the header and the longest frame without offloads.
const BUFFER: usize = 2048;
const RECEIVE_BUFFERS: u16 = 128;
const SHORTEST_FRAME: u32 = 14;
const LONGEST_FRAME: u32 = 1514;
/// Sent to nobody, from a local address, of a type kept for experiments (IEEE 802, 0x88b5).
const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];

/// A card with both its queues running.
struct Card {
    receive: Queue,
    transmit: Queue,
}

/// Sends frames and prints the result: up to `depth` are in flight, refilled whenever half of them are done.
///
/// # Errors
/// When no card can be used; what the card then does is printed, not returned.
pub fn send(
    command_line: CommandLine<'_>,
    requests: Requests,
    arena: &mut Arena,
) -> Result<(), Error> {
    let Requests {
        size, depth, count, ..
    } = requests;
    if !(SHORTEST_FRAME..=LONGEST_FRAME).contains(&size) {
        line!("error: a frame has {SHORTEST_FRAME} to {LONGEST_FRAME} bytes, not {size}");
        return Ok(());
    }
    let mut queue = Card::open(command_line, depth, arena)?.transmit;
    let len = HEADER + size as usize;
    let frames = arena.take(usize::from(depth) * BUFFER);
    for slot in 0..depth {
        let frame = frames.part(usize::from(slot) * BUFFER, BUFFER);
        write_frame(frame);
        queue.describe(slot, buffer(frame, len, 0));
    }
    let (mut issued, mut done, mut flying) = (0, 0, 0_u16);
    let start = cycles();
    while done < count {
        while flying < depth && issued < count {
            queue.offer(u16::try_from(issued % u32::from(depth)).unwrap_or(0));
            issued += 1;
            flying += 1;
        }
        queue.publish();
        while flying > depth / 2 || (issued == count && flying > 0) {
            if queue.wait().is_none() {
                line!("error: net stalled after {done} of {count} frames");
                return Ok(());
            }
            done += 1;
            flying -= 1;
        }
    }
    let spent = cycles() - start;
    let kicks = queue.notifications();
    line!("net tx {size} batch {depth} count {count} cycles {spent} kicks {kicks}");
    Ok(())
}

/// Waits for frames and prints the result, timed from the first one on.
///
/// # Errors
/// When no card can be used.
pub fn receive(command_line: CommandLine<'_>, count: u32, arena: &mut Arena) -> Result<(), Error> {
    let mut queue = Card::open(command_line, 1, arena)?.receive;
    let frames = arena.take(usize::from(RECEIVE_BUFFERS) * BUFFER);
    for slot in 0..RECEIVE_BUFFERS {
        queue.describe(
            slot,
            buffer(
                frames.part(usize::from(slot) * BUFFER, BUFFER),
                BUFFER,
                WRITE,
            ),
        );
        queue.offer(slot);
    }
    queue.publish();
    line!("net rx ready");
    let (mut start, mut bytes) = (0, 0_u64);
    for done in 0..count {
        let Some(used) = queue.wait() else {
            line!("error: net stalled after {done} of {count} frames");
            return Ok(());
        };
        if done == 0 {
            start = cycles();
        }
        bytes += u64::from(used.len).saturating_sub(HEADER as u64);
        queue.offer(used.head);
        queue.publish();
    }
    let spent = cycles() - start;
    let kicks = queue.notifications();
    line!("net rx count {count} bytes {bytes} cycles {spent} kicks {kicks}");
    Ok(())
}

impl Card {
    fn open(
        command_line: CommandLine<'_>,
        transmit: u16,
        arena: &mut Arena,
    ) -> Result<Self, Error> {
        let device: Transport = virtio::find(command_line, Kind::Net)?;
        let features = device.negotiate(virtio::wanted(command_line))?;
        let receive = device.queue(RECEIVE, RECEIVE_BUFFERS, features, arena)?;
        let transmit = device.queue(TRANSMIT, transmit, features, arena)?;
        device.start();
        line!("net event_idx {}", features & EVENT_IDX != 0);
        Ok(Self { receive, transmit })
    }
}

fn buffer(region: Region, len: usize, flags: u16) -> Descriptor {
    let len = u32::try_from(len).expect("a buffer has 2048 bytes");
    Descriptor {
        address: region.address(0),
        len,
        flags,
        next: 0,
    }
}

fn write_frame(frame: Region) {
    ETHERNET
        .iter()
        .enumerate()
        .for_each(|(at, byte)| frame.write8(HEADER + at, *byte));
}
