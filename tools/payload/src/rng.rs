//! virtio-rng (virtio 1.2 §5.4).

use core::fmt::{self, Display};

use crate::cmdline::CommandLine;
use crate::line;
use crate::memory::{Arena, Region};
use crate::queue::{Descriptor, WRITE};
use crate::virtio::{self, Error, Kind};

/// Reads `wanted` bytes and prints how many came, and the first 16 of them.
///
/// # Errors
/// When no source of entropy can be used.
pub fn read(command_line: CommandLine<'_>, wanted: u32, arena: &mut Arena) -> Result<(), Error> {
    let device = virtio::find(command_line, Kind::Entropy)?;
    let features = device.negotiate(virtio::wanted(command_line))?;
    let mut queue = device.queue(0, 1, features, arena)?;
    device.start();
    let buffer = arena.take(wanted as usize);
    queue.describe(
        0,
        Descriptor {
            address: buffer.address(0),
            len: wanted,
            flags: WRITE,
            next: 0,
        },
    );
    queue.offer(0);
    queue.publish();
    match queue.wait() {
        Some(used) => line!(
            "rng wanted {wanted} got {} first {}",
            used.len,
            Hex(buffer, wanted.min(16))
        ),
        None => line!("error: rng stalled"),
    }
    Ok(())
}

/// The first bytes of a region in hexadecimal.
struct Hex(Region, u32);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.1 as usize).try_for_each(|at| write!(f, "{:02x}", self.0.read8(at)))
    }
}
