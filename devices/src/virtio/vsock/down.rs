//! To the guest: refusals first, then whoever has something, one after the other.

use std::os::fd::AsFd;

use super::connection::{LONGEST_BURST, Stage, owed};
use super::hub::{Hub, MOST_REPLIES};
use super::packet::{Header, NEITHER, NO_SEND, op};
use super::rx::{Read, Rx};
use crate::host::GuestRam;
use crate::virtio::QueueError;

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The guest was given something, or somebody has found nothing to give.
    Done,
    /// Nobody has anything for the guest.
    Idle,
    /// The guest has no buffers.
    Starved,
}

impl Hub {
    /// Whether more of the guest's packets may be taken: each may need an answer.
    pub(super) fn has_room(&self) -> bool {
        self.replies.len() < MOST_REPLIES
    }

    /// Gives the guest one thing.
    pub(super) fn speak(&mut self, ram: &GuestRam, rx: &mut Rx) -> Result<Turn, QueueError> {
        if let Some(reply) = self.replies.front().copied() {
            let mut header = Header::to_guest(self.cid, reply.ports, op::RST);
            header.kind = reply.kind;
            if !rx.send(ram, || header)? {
                return Ok(Turn::Starved);
            }
            self.replies.pop_front();
            self.metrics.rx_packets_count.increment();
            return Ok(Turn::Done);
        }
        let Some(slot) = self.ready.front().copied() else {
            return Ok(Turn::Idle);
        };
        let is_done = match self.owes(slot) {
            true => self.send_owed(slot, ram, rx)?,
            false => self.send_data(slot, ram, rx)?,
        };
        if !is_done {
            return Ok(Turn::Starved);
        }
        // Its turn is over; it may be gone too, and then its place was taken out.
        if self.ready.front() == Some(&slot) {
            self.ready.pop_front();
            if let Some(connection) = self.get(slot) {
                connection.is_queued = false;
            }
        }
        self.queue(slot);
        Ok(Turn::Done)
    }

    fn owes(&mut self, slot: u16) -> bool {
        self.get(slot)
            .is_some_and(|connection| connection.owed != 0)
    }

    /// Sends the packet that is owed first. False: the guest has no buffers.
    fn send_owed(&mut self, slot: u16, ram: &GuestRam, rx: &mut Rx) -> Result<bool, QueueError> {
        let cid = self.cid;
        let Some(connection) = self.get(slot) else {
            return Ok(true);
        };
        let sent = rx.send(ram, || connection.next_owed(cid).unwrap_or_default())?;
        let is_leaving = connection.stage == Stage::Leaving && connection.deadline.is_none();
        if sent {
            self.metrics.rx_packets_count.increment();
        }
        if is_leaving {
            let deadline = self.deadline();
            if let Some(connection) = self.get(slot) {
                connection.deadline = deadline;
            }
        }
        Ok(sent)
    }

    /// Reads from the host's side into the guest's buffers. False: there are none.
    fn send_data(&mut self, slot: u16, ram: &GuestRam, rx: &mut Rx) -> Result<bool, QueueError> {
        let cid = self.cid;
        let metrics = std::sync::Arc::clone(&self.metrics);
        let Some(connection) = self.get(slot) else {
            return Ok(true);
        };
        if !connection.may_read() {
            return Ok(true);
        }
        let credit = connection.down.credit();
        if credit == 0 {
            if !connection.down.has_asked {
                connection.down.has_asked = true;
                connection.owed |= owed::QUESTION;
            }
            return Ok(true);
        }
        let burst = connection.down.burst;
        let Some(stream) = connection.stream.take() else {
            return Ok(true);
        };
        let read = rx.read(ram, stream.as_fd(), credit, burst, |_| {
            metrics.rx_packets_count.increment();
            connection.header(cid, op::RW)
        });
        connection.stream = Some(stream);
        let down = &mut connection.down;
        match read? {
            Read::Starved => return Ok(false),
            Read::Nothing => {
                down.is_readable = false;
                down.burst = 1;
            }
            Read::Bytes(n, is_full) => {
                metrics.rx_bytes_count.add(n.into());
                down.count(n);
                // A stream that gave less than it could has no more, and says so when it has (epoll(7)).
                down.is_readable = is_full || down.is_ending;
                down.burst = match is_full {
                    true => down.burst.saturating_mul(2).min(LONGEST_BURST),
                    false => 1,
                };
            }
            Read::End => {
                let which = if down.is_hung_up { NEITHER } else { NO_SEND };
                connection.end_host(which);
            }
            Read::Failed => {
                metrics.rx_read_fails.increment();
                connection.end_host(NEITHER);
            }
        }
        Ok(true)
    }
}
