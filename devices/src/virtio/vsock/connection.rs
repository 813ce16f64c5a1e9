//! One connection: where it stands, and what each direction may carry.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use event_manager::Events;
use vmm_sys_util::epoll::EventSet;

use super::backlog::Backlog;
use super::packet::{Header, NEITHER, NO_RECEIVE, NO_SEND, Ports, op};

/// How much of a guest's data waits for the host's side to take it, in bytes: what the guest may send without news of it
/// (§5.10.6.3). The first connections of a device have the larger window.
pub(super) const WIDE: u32 = 256 * 1024;
pub(super) const NARROW: u32 = 64 * 1024;
/// How many have the larger one: together with the others' they stay below 80 MiB.
pub(super) const MOST_WIDE: usize = 64;
/// Buffers of the guest that one read fills at most.
pub(super) const LONGEST_BURST: usize = 16;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A process of the host has come and not said yet to which port.
    Greeting,
    /// The guest was asked, or is to be.
    Requested,
    /// The guest has asked; its port on the host is being called.
    Dialing,
    /// Data may flow.
    Open,
    /// The host's side is gone and the guest was told; it is to confirm that.
    Leaving,
    /// The guest's side is gone; what it has sent is still on its way to the host's.
    Flushing,
}

/// Packets that a connection has for the guest besides data: one bit each.
pub(super) mod owed {
    pub(in super::super) const REQUEST: u8 = 1;
    pub(in super::super) const RESPONSE: u8 = 2;
    pub(in super::super) const SHUTDOWN: u8 = 4;
    pub(in super::super) const UPDATE: u8 = 8;
    pub(in super::super) const QUESTION: u8 = 16;
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) stage: Stage,
    /// The host's side, once there is one.
    pub(super) stream: Option<OwnedFd>,
    /// A set of [`owed`].
    pub(super) owed: u8,
    /// Whether it stands among those that have something for the guest.
    pub(super) is_queued: bool,
    /// Which call it waits for, while it is [`Stage::Dialing`].
    pub(super) ticket: u32,
    /// When it has waited long enough for the guest or a call.
    pub(super) deadline: Option<Instant>,
    pub(super) down: Down,
    pub(super) up: Up,
}

/// From the host to the guest.
#[derive(Debug)]
pub(super) struct Down {
    /// Whether the host's side may have something to read.
    pub(super) is_readable: bool,
    /// Whether the host's side writes no more: what there is to read has an end.
    pub(super) is_ending: bool,
    /// Whether the host's side is gone in both directions.
    pub(super) is_hung_up: bool,
    /// What the host's side does no more, and which of that the guest was told: sets of `NO_RECEIVE` and `NO_SEND`.
    pub(super) ended: u8,
    pub(super) told: u8,
    /// The guest's buffer, how much has left it, and how much was sent; the last two wrap.
    alloc: u32,
    forwarded: u32,
    sent: u32,
    /// Whether the guest was asked for news of its buffer.
    pub(super) has_asked: bool,
    /// How many of the guest's buffers the next read may fill.
    pub(super) burst: usize,
}

/// From the guest to the host.
#[derive(Debug)]
pub(super) struct Up {
    /// How much the guest may have sent that was not taken yet, in bytes.
    pub(super) window: u32,
    /// How much was taken, and how much of it the guest knows of; both wrap.
    pub(super) taken: u32,
    pub(super) told: u32,
    pub(super) backlog: Backlog,
    /// What the guest's side does no more.
    pub(super) ended: u8,
}

impl Connection {
    pub(super) fn new(ports: Ports, stage: Stage, window: u32) -> Self {
        Self {
            ports,
            stage,
            stream: None,
            owed: 0,
            is_queued: false,
            ticket: 0,
            deadline: None,
            down: Down {
                is_readable: false,
                is_ending: false,
                is_hung_up: false,
                ended: 0,
                told: 0,
                alloc: 0,
                forwarded: 0,
                sent: 0,
                has_asked: false,
                burst: 1,
            },
            up: Up {
                window,
                taken: 0,
                told: 0,
                backlog: Backlog::default(),
                ended: 0,
            },
        }
    }

    /// Whether the guest knows of it, or soon will.
    pub(super) fn is_known(&self) -> bool {
        match self.stage {
            Stage::Greeting | Stage::Flushing => false,
            Stage::Requested => self.owed & owed::REQUEST == 0,
            Stage::Dialing | Stage::Open | Stage::Leaving => true,
        }
    }

    /// Whether there is something for the guest now.
    pub(super) fn has_word(&self) -> bool {
        self.owed != 0 || self.may_read() && (self.down.credit() > 0 || !self.down.has_asked)
    }

    /// Whether the host's side is to be read, as soon as the guest has room.
    pub(super) fn may_read(&self) -> bool {
        self.stage == Stage::Open
            && self.down.is_readable
            && self.down.ended & NO_SEND == 0
            && self.up.ended & NO_RECEIVE == 0
    }

    /// What the host's side does no more is for the guest to know.
    pub(super) fn end_host(&mut self, which: u8) {
        self.down.ended |= which;
        if self.down.ended != self.down.told && self.stage == Stage::Open {
            self.owed |= owed::SHUTDOWN;
        }
    }

    /// The packet without data that is owed first, if any; it counts as sent.
    pub(super) fn next_owed(&mut self, cid: u32) -> Option<Header> {
        let (bit, op) = [
            (owed::REQUEST, op::REQUEST),
            (owed::RESPONSE, op::RESPONSE),
            (owed::SHUTDOWN, op::SHUTDOWN),
            (owed::UPDATE, op::CREDIT_UPDATE),
            (owed::QUESTION, op::CREDIT_REQUEST),
        ]
        .into_iter()
        .find(|(bit, _)| self.owed & bit != 0)?;
        self.owed &= !bit;
        let mut header = self.header(cid, op);
        if bit == owed::SHUTDOWN {
            header.flags = self.down.ended.into();
            self.down.told = self.down.ended;
            if self.down.told == NEITHER {
                self.stage = Stage::Leaving;
            }
        }
        Some(header)
    }

    /// A header of this connection's; the guest knows from it how much was taken.
    pub(super) fn header(&mut self, cid: u32, op: u16) -> Header {
        self.up.told = self.up.taken;
        self.owed &= !owed::UPDATE;
        Header {
            buf_alloc: self.up.window,
            fwd_cnt: self.up.taken,
            ..Header::to_guest(cid, self.ports, op)
        }
    }

    /// What to watch the host's side for. Room only while something waits for it: whatever its reader takes makes an edge.
    pub(super) fn events(&self, data: u32) -> Option<Events> {
        let fd = self.stream.as_ref()?.as_raw_fd();
        let mut set = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        if !self.up.backlog.is_empty() {
            set |= EventSet::OUT;
        }
        Some(Events::with_data_raw(fd, data, set))
    }
}

impl Down {
    /// News of the guest's buffer, which every packet brings.
    pub(super) fn hear(&mut self, header: &Header) {
        self.alloc = header.buf_alloc;
        self.forwarded = header.fwd_cnt;
        self.has_asked = false;
    }

    /// How much the guest has room for (§5.10.6.3). A guest that lies about it gets nothing.
    pub(super) fn credit(&self) -> u32 {
        let waiting = self.sent.wrapping_sub(self.forwarded);
        self.alloc.saturating_sub(waiting)
    }

    /// `len` bytes were sent.
    pub(super) fn count(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }
}

impl Up {
    /// Whether the guest may send `len` bytes now.
    pub(super) fn has_room(&self, len: u32) -> bool {
        let window = usize::try_from(self.window).unwrap_or_default();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.backlog.len().saturating_add(len) <= window
    }

    /// `len` bytes were taken. True when it is time that the guest knows.
    pub(super) fn count(&mut self, len: usize) -> bool {
        let len = u32::try_from(len).unwrap_or_default();
        self.taken = self.taken.wrapping_add(len);
        let news = self.taken.wrapping_sub(self.told);
        news >= self.window.checked_div(4).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(alloc: u32, forwarded: u32, sent: u32) -> Down {
        let mut down = Connection::new(Ports::default(), Stage::Open, NARROW).down;
        (down.alloc, down.forwarded, down.sent) = (alloc, forwarded, sent);
        down
    }

    #[test]
    fn a_guest_has_room_for_its_buffer_less_what_is_in_it() {
        for (alloc, forwarded, sent, credit) in [
            (1000, 0, 0, 1000),
            (1000, 0, 400, 600),
            (1000, 400, 400, 1000),
            (1000, u32::MAX - 99, 100, 800),
            (1000, 0, 1000, 0),
        ] {
            let down = down(alloc, forwarded, sent);
            assert_eq!(down.credit(), credit, "{alloc} {forwarded} {sent}");
        }
    }

    #[test]
    fn a_guest_that_lies_about_its_buffer_gets_nothing() {
        assert_eq!(down(500, 0, 1000).credit(), 0, "it has shrunk its buffer");
        assert_eq!(
            down(1000, 500, 400).credit(),
            0,
            "it has read what was never sent"
        );
    }

    #[test]
    fn a_guest_learns_of_its_room_a_quarter_at_a_time() {
        let mut up = Connection::new(Ports::default(), Stage::Open, NARROW).up;
        assert!(!up.count(16 * 1024 - 1));
        assert!(up.count(1));
        up.told = up.taken;
        assert!(!up.count(1));
    }
}
