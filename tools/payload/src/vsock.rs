//! virtio-vsock: one connection to a port of the host, and data one way (virtio 1.2 §5.10).

use crate::clock::cycles;
use crate::cmdline::{CommandLine, Requests};
use crate::line;
use crate::memory::{Arena, Region};
use crate::queue::{Descriptor, Queue, WRITE};
use crate::virtio::{self, Error, Kind, Transport};

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const HEADER: u32 = 44;
/// The context ids and ports of the benchmark: guest and host.
const GUEST: (u32, u32) = (3, 1024);
const HOST: (u32, u32) = (2, 5000);
/// Linux's receive buffers: a page each.
const BUFFER: usize = 4096;
const BUFFERS: u16 = 128;
/// What the host may send without news, and after how much there is some.
const WINDOW: u32 = 256 * 1024;
const NEWS: u32 = 64 * 1024;
const ENTRIES: u16 = 64;
/// The descriptor of packets without data; the others are for data.
const CONTROL: u16 = ENTRIES - 1;
const LONGEST: u32 = 64 * 1024;
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;

struct Connection {
    receive: Queue,
    transmit: Queue,
    buffers: Region,
    control: Region,
    /// The host's window, and how much of ours it has taken.
    window: u32,
    forwarded: u32,
    /// How much of the host's was taken, and told.
    taken: u32,
    told: u32,
}

/// Sends packets of `size` bytes, `depth` of them in flight, and prints the result.
///
/// # Errors
/// When no device can be used; what it then does is printed, not returned.
pub fn send(
    command_line: CommandLine<'_>,
    requests: Requests,
    arena: &mut Arena,
) -> Result<(), Error> {
    let Requests {
        size, depth, count, ..
    } = requests;
    if size > LONGEST || depth >= CONTROL {
        line!("error: packets have up to {LONGEST} bytes, and fewer than {CONTROL} are in flight");
        return Ok(());
    }
    let Some(mut connection) = Connection::open(command_line, arena)? else {
        return Ok(());
    };
    let room = (HEADER + size).next_multiple_of(4096) as usize;
    let packets = arena.take(usize::from(depth) * room);
    for slot in 0..depth {
        let packet = packets.part(usize::from(slot) * room, room);
        write_header(packet, RW, size, 0);
        let descriptor = buffer(packet, HEADER + size, 0);
        connection.transmit.describe(slot, descriptor);
    }
    let (mut issued, mut done, mut sent) = (0, 0, 0_u32);
    let start = cycles();
    while done < count {
        connection.hear();
        while issued < count && issued - done < u32::from(depth) {
            let waiting = sent.wrapping_sub(connection.forwarded);
            if waiting + size > connection.window {
                break;
            }
            connection
                .transmit
                .offer(u16::try_from(issued % u32::from(depth)).unwrap_or(0));
            issued += 1;
            sent = sent.wrapping_add(size);
        }
        connection.transmit.publish();
        while connection.transmit.take().is_some() {
            done += 1;
        }
    }
    let spent = cycles() - start;
    let kicks = connection.transmit.notifications();
    line!("vsock tx {size} depth {depth} count {count} cycles {spent} kicks {kicks}");
    Ok(())
}

/// Waits for `mib` MiB from the host and prints the result, timed from the first packet on.
///
/// # Errors
/// When no device can be used.
pub fn receive(command_line: CommandLine<'_>, mib: u32, arena: &mut Arena) -> Result<(), Error> {
    let Some(mut connection) = Connection::open(command_line, arena)? else {
        return Ok(());
    };
    let (mut start, mut bytes) = (0, 0_u64);
    while bytes < u64::from(mib) << 20 {
        let before = connection.taken;
        connection.hear();
        let len = connection.taken.wrapping_sub(before);
        if bytes == 0 && len > 0 {
            start = cycles();
        }
        bytes += u64::from(len);
        if connection.taken.wrapping_sub(connection.told) >= NEWS
            && connection.say(CREDIT_UPDATE).is_none()
        {
            return Ok(());
        }
    }
    let spent = cycles() - start;
    line!("vsock rx {mib} bytes {bytes} cycles {spent}");
    Ok(())
}

impl Connection {
    /// A connection to the host's port; none when the host does not take it, which is printed.
    fn open(command_line: CommandLine<'_>, arena: &mut Arena) -> Result<Option<Self>, Error> {
        let device: Transport = virtio::find(command_line, Kind::Vsock)?;
        let features = device.negotiate(virtio::wanted(command_line))?;
        let receive = device.queue(RECEIVE, BUFFERS, features, arena)?;
        let transmit = device.queue(TRANSMIT, ENTRIES, features, arena)?;
        device.start();
        let mut connection = Self {
            receive,
            transmit,
            buffers: arena.take(usize::from(BUFFERS) * BUFFER),
            control: arena.take(BUFFER),
            window: 0,
            forwarded: 0,
            taken: 0,
            told: 0,
        };
        for slot in 0..BUFFERS {
            let place = connection.buffers.part(usize::from(slot) * BUFFER, BUFFER);
            let len = u32::try_from(BUFFER).unwrap_or(0);
            connection.receive.describe(slot, buffer(place, len, WRITE));
            connection.receive.offer(slot);
        }
        connection.receive.publish();
        if connection.say(REQUEST).is_none() {
            return Ok(None);
        }
        let Some(used) = connection.receive.wait() else {
            line!("error: vsock: the host says nothing");
            return Ok(None);
        };
        let op = connection.take(used.head);
        connection.receive.publish();
        if op != RESPONSE {
            line!("error: vsock: the host answers with operation {op}");
            return Ok(None);
        }
        Ok(Some(connection))
    }

    /// Sends a packet without data, and waits until it was taken.
    fn say(&mut self, op: u16) -> Option<()> {
        write_header(self.control, op, 0, self.taken);
        self.told = self.taken;
        let descriptor = buffer(self.control, HEADER, 0);
        self.transmit.describe(CONTROL, descriptor);
        self.transmit.offer(CONTROL);
        self.transmit.publish();
        self.transmit.wait().map(drop)
    }

    /// Takes what the host has sent by now.
    fn hear(&mut self) {
        let mut is_any = false;
        while let Some(used) = self.receive.take() {
            self.take(used.head);
            is_any = true;
        }
        if is_any {
            self.receive.publish();
        }
    }

    /// The operation of the packet in a buffer, which is given back.
    fn take(&mut self, head: u16) -> u16 {
        let packet = self.buffers.part(usize::from(head) * BUFFER, BUFFER);
        self.taken = self.taken.wrapping_add(packet.read32(24));
        self.window = packet.read32(36);
        self.forwarded = packet.read32(40);
        let op = packet.read16(30);
        self.receive.offer(head);
        op
    }
}

fn write_header(packet: Region, op: u16, len: u32, taken: u32) {
    packet.write64(0, GUEST.0.into());
    packet.write64(8, HOST.0.into());
    packet.write32(16, GUEST.1);
    packet.write32(20, HOST.1);
    packet.write32(24, len);
    packet.write16(28, 1);
    packet.write16(30, op);
    packet.write32(32, 0);
    packet.write32(36, WINDOW);
    packet.write32(40, taken);
}

fn buffer(region: Region, len: u32, flags: u16) -> Descriptor {
    Descriptor {
        address: region.address(0),
        len,
        flags,
        next: 0,
    }
}
