//! The control queue (virtio 1.2 §5.1.6.5): which offloads the guest takes from now on.
//!
//! A command is a class and a code of one byte each, then its data; the answer is one byte. Every command
//! but `VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET` is refused.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_ERR,
    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_OK,
};

use crate::host::GuestRam;
use crate::virtio::net::offloads::Offloads;
use crate::virtio::net::worker::Common;
use crate::virtio::queue::Popped;
use crate::virtio::{Chain, QueueError, VirtQueue};

/// Commands served before other devices of the thread get their turn. A driver gives one at a time.
const COMMANDS_PER_TURN: u32 = 16;
/// Where a command's data begin.
const DATA: u32 = 2;

/// The control queue in work.
pub(super) struct Control {
    pub(super) queue: VirtQueue,
    chain: Chain,
}

impl Control {
    pub(super) fn new(queue: VirtQueue) -> Self {
        Self {
            chain: Chain::with_capacity(queue.size()),
            queue,
        }
    }

    /// Answers the guest's commands; `set` puts the offloads that the guest asks for into force and says
    /// whether that went well.
    ///
    /// # Errors
    /// When the queue is broken.
    pub(super) fn serve(
        &mut self,
        net: &mut Common,
        mut set: impl FnMut(&mut Common, Offloads) -> bool,
    ) -> Result<(), QueueError> {
        for _ in 0..COMMANDS_PER_TURN {
            let (head, written) = match self.queue.pop(&net.ram, &mut self.chain)? {
                Popped::Empty => return self.queue.notify(&net.ram, &net.interrupt),
                Popped::Malformed(head, _) => {
                    net.metrics.commands_refused.increment();
                    (head, 0)
                }
                Popped::Chain(head) => {
                    net.metrics.commands.increment();
                    let asked = requested(&self.chain, &net.ram, net);
                    let is_done = asked.is_some_and(|offloads| set(net, offloads));
                    net.metrics.commands_refused.add((!is_done).into());
                    (head, answer(&self.chain, &net.ram, is_done))
                }
            };
            self.queue.complete(&net.ram, head, written)?;
        }
        self.queue.notify(&net.ram, &net.interrupt)?;
        // More may be waiting: come back after the thread's other devices.
        let _ = self.queue.doorbell().write(1);
        Ok(())
    }
}

/// The offloads that a command asks for; `None` for any other command, and for one that asks for what was
/// not negotiated (virtio 1.2 §5.1.6.5.6.2).
fn requested(chain: &Chain, ram: &GuestRam, net: &Common) -> Option<Offloads> {
    let [class, code]: [u8; 2] = read(chain, ram, 0)?;
    let is_ours = u32::from(class) == VIRTIO_NET_CTRL_GUEST_OFFLOADS
        && u32::from(code) == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET;
    if !is_ours || !net.has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) {
        return None;
    }
    let bits = u64::from_le_bytes(read(chain, ram, DATA)?);
    Offloads::requested(bits, net.features)
}

fn read<const N: usize>(chain: &Chain, ram: &GuestRam, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    chain.read_at(ram, offset, &mut bytes).ok()?;
    Some(bytes)
}

/// Writes the answer; the bytes written.
fn answer(chain: &Chain, ram: &GuestRam, is_done: bool) -> u32 {
    let answer = if is_done {
        VIRTIO_NET_OK
    } else {
        VIRTIO_NET_ERR
    };
    let [answer, ..] = answer.to_le_bytes();
    chain.write_at(ram, 0, &[answer]).is_ok().into()
}
