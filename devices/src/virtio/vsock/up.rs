//! From the guest: each packet is read once, believed in nothing, and obeyed as far as its connection allows.

use std::os::fd::AsFd;

use event_manager::EventOps;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::connection::{Connection, Stage, owed};
use super::hub::Hub;
use super::packet::{HEADER, HOST_CID, Header, NEITHER, NO_RECEIVE, NO_SEND, STREAM, op};
use crate::host::GuestRam;
use crate::iovec::IoVecs;
use crate::virtio::Chain;
use crate::virtio::chain::ChainError;

/// A packet's data where the guest has it.
pub(super) struct Data<'a> {
    pub(super) ram: &'a GuestRam,
    pub(super) chain: &'a Chain,
    /// Room for the list of its parts.
    pub(super) vecs: &'a mut IoVecs,
}

/// What became of data.
enum Delivered {
    /// Taken, or waiting.
    Yes,
    /// The guest has sent more than it may, or what it has sent cannot be read.
    Wrong,
}

impl Hub {
    /// Takes the packet in `data`'s chain.
    pub(super) fn take(&mut self, data: &mut Data<'_>, events: &mut EventOps<'_>) {
        let mut bytes = [0; 44];
        if data.chain.read_at(data.ram, 0, &mut bytes).is_err() {
            self.metrics.malformed.increment();
            return;
        }
        let header = Header::from_bytes(&bytes);
        self.metrics.tx_packets_count.increment();
        // A guest speaks for itself, and to the host (§5.10.6.1).
        if header.dst_cid != HOST_CID || header.src_cid != u64::from(self.cid) {
            self.metrics.strays.increment();
            return;
        }
        let ports = header.ports();
        let slot = self.by_ports.get(&ports).copied();
        match slot {
            _ if header.kind != STREAM => self.refuse(&header),
            None if header.op == op::REQUEST => {
                if let Some(slot) = self.called(ports, STREAM, events) {
                    self.hear(slot, &header);
                }
            }
            None => self.refuse(&header),
            Some(slot) => {
                self.hear(slot, &header);
                self.obey(slot, &header, data, events);
                self.queue(slot);
            }
        }
    }

    /// There is no such connection (§5.10.6.4.1). Nobody answers to an end with an end.
    fn refuse(&mut self, header: &Header) {
        if header.op != op::RST {
            self.reply(header.ports(), header.kind);
        }
    }

    fn hear(&mut self, slot: u16, header: &Header) {
        if let Some(connection) = self.get(slot) {
            connection.down.hear(header);
        }
    }

    fn obey(&mut self, slot: u16, header: &Header, data: &mut Data<'_>, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        match (header.op, connection.stage) {
            (op::RESPONSE, Stage::Requested) => self.accepted(slot, events),
            (op::RST, _) => self.hung_up(slot, events),
            (op::SHUTDOWN, Stage::Open | Stage::Leaving) => {
                let which = u8::try_from(header.flags & u32::from(NEITHER)).unwrap_or(NEITHER);
                self.ended(slot, which, events);
            }
            (op::RW, Stage::Open) => match self.deliver(slot, header.len, data, events) {
                Delivered::Yes => {}
                Delivered::Wrong => {
                    self.metrics.malformed.increment();
                    self.reset(slot, events);
                }
            },
            // The host's side is gone, and the guest did not know it yet.
            (op::RW, Stage::Leaving) => {}
            (op::CREDIT_UPDATE, Stage::Open | Stage::Leaving) => {}
            (op::CREDIT_REQUEST, Stage::Open | Stage::Leaving) => connection.owed |= owed::UPDATE,
            _ => self.reset(slot, events),
        }
    }

    /// The guest has accepted what a process of the host has asked for: that one hears of it, and from which port.
    fn accepted(&mut self, slot: u16, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        connection.stage = Stage::Open;
        connection.deadline = None;
        let line = format!("OK {}\n", connection.ports.host);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let said = connection
            .stream
            .as_ref()
            .map(|stream| send(stream, line.as_bytes(), flags));
        if said != Some(Ok(line.len())) {
            // Gone, or it reads nothing: nothing was said to it before.
            self.reset(slot, events);
        }
    }

    /// The guest has ended the connection at once, or confirms its end.
    fn hung_up(&mut self, slot: u16, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        let is_orderly = connection.up.ended & NO_SEND != 0;
        self.leave(slot, is_orderly, events);
    }

    /// The guest's side does `which` no more (§5.10.6.6).
    fn ended(&mut self, slot: u16, which: u8, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        let new = which & !connection.up.ended;
        connection.up.ended |= which;
        if connection.up.ended == NEITHER {
            let ports = connection.ports;
            self.reply(ports, STREAM);
            self.leave(slot, true, events);
            return;
        }
        if new & NO_RECEIVE != 0 {
            connection.close(Shutdown::Read);
        }
        if new & NO_SEND != 0 && connection.up.backlog.is_empty() {
            connection.close(Shutdown::Write);
        }
    }

    /// The guest's side is gone. What it has sent before still reaches the host's, if the guest meant that.
    fn leave(&mut self, slot: u16, is_orderly: bool, events: &mut EventOps<'_>) {
        let Some(connection) = self.get(slot) else {
            return;
        };
        let is_rest = !connection.up.backlog.is_empty() && !connection.down.is_hung_up;
        if !(is_orderly && is_rest) {
            self.remove(slot, events);
            return;
        }
        let ports = connection.ports;
        connection.stage = Stage::Flushing;
        connection.owed = 0;
        connection.deadline = None;
        connection.close(Shutdown::Read);
        self.forget_ports(ports, slot);
    }

    /// Gives `len` bytes of data to the host's side. **What it does not take at once waits here, never more than the
    /// window that the guest was told of.**
    fn deliver(
        &mut self,
        slot: u16,
        len: u32,
        data: &mut Data<'_>,
        events: &mut EventOps<'_>,
    ) -> Delivered {
        let metrics = std::sync::Arc::clone(&self.metrics);
        let Some(connection) = self.get(slot) else {
            return Delivered::Yes;
        };
        let is_there = HEADER
            .checked_add(len)
            .is_some_and(|whole| whole <= data.chain.readable_len());
        if !is_there || connection.up.ended & NO_SEND != 0 || !connection.up.has_room(len) {
            return Delivered::Wrong;
        }
        metrics.tx_bytes_count.add(len.into());
        if connection.down.ended & NO_RECEIVE != 0 {
            connection.took(usize::try_from(len).unwrap_or_default());
            return Delivered::Yes;
        }
        let written = match connection.up.backlog.is_empty() {
            true => match connection.write(len, data) {
                Ok(written) => written,
                Err(Errno::AGAIN) => 0,
                Err(_) => {
                    metrics.tx_write_fails.increment();
                    connection.deafen(len);
                    return Delivered::Yes;
                }
            },
            false => 0,
        };
        connection.took(usize::try_from(written).unwrap_or_default());
        let rest = len.saturating_sub(written);
        if rest == 0 {
            return Delivered::Yes;
        }
        let was_empty = connection.up.backlog.is_empty();
        let from = HEADER.saturating_add(written);
        if connection.keep(from, rest, data).is_err() {
            return Delivered::Wrong;
        }
        if was_empty {
            self.watch(slot, events);
        }
        Delivered::Yes
    }

    /// The host's side has room again.
    pub(super) fn flush(&mut self, slot: u16, events: &mut EventOps<'_>) {
        let metrics = std::sync::Arc::clone(&self.metrics);
        let Some(connection) = self.get(slot) else {
            return;
        };
        if connection.up.backlog.is_empty() {
            return;
        }
        if connection.flush().is_err() {
            metrics.tx_flush_fails.increment();
            let rest = connection.up.backlog.len();
            connection.up.backlog = Default::default();
            connection.deafen(u32::try_from(rest).unwrap_or_default());
        }
        if !connection.up.backlog.is_empty() {
            return;
        }
        match connection.stage {
            Stage::Flushing => self.remove(slot, events),
            _ => {
                if connection.up.ended & NO_SEND != 0 {
                    connection.close(Shutdown::Write);
                }
                self.watch(slot, events);
            }
        }
    }
}

impl Connection {
    /// Ends a direction of the host's side.
    fn close(&self, how: Shutdown) {
        if let Some(stream) = &self.stream {
            // It may be gone.
            let _ = shutdown(stream, how);
        }
    }

    /// `len` bytes of the guest's have left its window.
    fn took(&mut self, len: usize) {
        if self.up.count(len) && self.stage == Stage::Open {
            self.owed |= owed::UPDATE;
        }
    }

    /// The host's side reads no more: `len` bytes are lost with all that may follow.
    fn deafen(&mut self, len: u32) {
        self.took(usize::try_from(len).unwrap_or_default());
        self.end_host(NO_RECEIVE);
    }

    /// Writes data from where the guest has it; how much the host's side took.
    fn write(&self, len: u32, data: &mut Data<'_>) -> Result<u32, Errno> {
        let stream = self.stream.as_ref().ok_or(Errno::PIPE)?;
        data.vecs.clear();
        data.chain
            .readable_vecs(data.ram, HEADER, len, data.vecs)
            .map_err(|_| Errno::INVAL)?;
        if data.vecs.is_empty() {
            return Ok(0);
        }
        let written = data.vecs.send(stream.as_fd());
        let written = written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(u32::try_from(written).unwrap_or(len))
    }

    /// Copies `len` bytes of data, `from` bytes from the packet's start, to what waits.
    fn keep(&mut self, from: u32, len: u32, data: &Data<'_>) -> Result<(), ChainError> {
        let (mut from, mut left) = (from, usize::try_from(len).unwrap_or_default());
        while left > 0 {
            let put = self
                .up
                .backlog
                .put(left, |room| data.chain.read_at(data.ram, from, room))?;
            from = from.saturating_add(u32::try_from(put).unwrap_or_default());
            left = left.saturating_sub(put);
        }
        Ok(())
    }

    /// Writes what waits, as far as there is room for it.
    fn flush(&mut self) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while !self.up.backlog.is_empty() {
            let stream = self.stream.as_ref().ok_or(Errno::PIPE)?;
            match send(stream, self.up.backlog.first(), flags) {
                Ok(n) => {
                    self.up.backlog.take(n);
                    self.took(n);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
