//! The places for connections.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};

use super::MAX_CONNECTIONS;
use super::connection::Connection;

/// Places beside those of clients, for connections that are on their way out.
const LEAVING: usize = 4;

/// The connections, each with what epoll watches it for.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: [Option<(Connection, EventFlags)>; MAX_CONNECTIONS + LEAVING],
}

impl Slots {
    /// Is every client's place taken?
    pub(super) fn are_full(&self) -> bool {
        let clients = self.iter().filter(|connection| !connection.is_leaving());
        clients.count() >= MAX_CONNECTIONS
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots
            .iter()
            .flatten()
            .map(|(connection, _)| connection)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        let slots = self.slots.iter_mut().flatten();
        slots.map(|(connection, _)| connection)
    }

    pub(super) fn get(&mut self, index: usize) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(index)?.as_mut();
        slot.map(|(connection, _)| connection)
    }

    /// How many indices there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Puts a connection into a free place; without one, into that of a connection that is leaving.
    pub(super) fn admit(&mut self, mut connection: Connection, now: Instant, epoll: impl AsFd) {
        let free = self.slots.iter().position(Option::is_none);
        let leaving = || {
            let leaves = |(connection, _): &(Connection, _)| connection.is_leaving();
            let mut slots = self.slots.iter();
            slots.position(|slot| slot.as_ref().is_some_and(leaves))
        };
        let (Some(index), Some(interest)) = (free.or_else(leaving), connection.settle(now)) else {
            return;
        };
        let token = EventData::new_u64(index as u64);
        if epoll::add(epoll, &connection, token, interest).is_ok() {
            self.slots[index] = Some((connection, interest));
        }
    }

    /// Watches a connection for something else, or drops it (`None`). A dropped socket leaves epoll by itself.
    pub(super) fn watch(&mut self, index: usize, interest: Option<EventFlags>, epoll: impl AsFd) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        match (slot.as_mut(), interest) {
            (Some((connection, watched)), Some(interest)) => {
                let token = EventData::new_u64(index as u64);
                let same = *watched == interest;
                if !same && epoll::modify(epoll, &*connection, token, interest).is_err() {
                    *slot = None;
                } else {
                    *watched = interest;
                }
            }
            _ => *slot = None,
        }
    }
}
