//! What the user types, or pipes in, on its way to the guest.

use rustix::io::Errno;
use rustix::stdio::stdin;
use vmm::machine::Console;

use crate::console::escape::{Action, Escape};

/// How much is read at a time, in bytes.
const CHUNK: usize = 256;
/// How much typed ahead a guest can be that does not read, in bytes.
const AHEAD: usize = 4096;

/// The guest's input: stdin, where it is the console's.
#[derive(Debug)]
pub(super) struct Input {
    open: bool,
    /// Only on a terminal: what comes through a pipe is all the guest's.
    escape: Option<Escape>,
    /// Read, and not yet taken by the guest.
    waiting: Vec<u8>,
}

impl Input {
    /// Input from stdin if it is `open`; from a terminal, with escape keys, if it is `interactive`.
    pub(super) fn new(open: bool, interactive: bool) -> Self {
        Self {
            open,
            escape: interactive.then(Escape::default),
            waiting: Vec::with_capacity(CHUNK),
        }
    }

    /// Whether somebody types.
    pub(super) fn is_interactive(&self) -> bool {
        self.escape.is_some()
    }

    /// Whether the guest has yet to take something.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether stdin is to be read now: a pipe waits until the guest has taken what there is, a user does
    /// not, since the escape keys must work when the guest hangs.
    pub(super) fn wants_more(&self) -> bool {
        self.open && (self.escape.is_some() || !self.is_behind())
    }

    /// Reads what stdin has, and returns what of it is meant for ravelin.
    pub(super) fn read(&mut self) -> Vec<Action> {
        let mut typed = [0; CHUNK];
        // Not through std's buffer: of what it holds back, no poll would tell.
        let count = match rustix::io::read(stdin(), &mut typed) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Vec::new(),
            Err(_) => 0,
        };
        // The end of a pipe: the guest's input ends, the guest does not.
        self.open = count > 0;
        let typed = typed.get(..count).unwrap_or_default();
        match &mut self.escape {
            Some(escape) => {
                let actions = escape.feed(typed, &mut self.waiting);
                // Keys for a guest that has not read so many are lost, as on a real line.
                self.waiting.truncate(AHEAD);
                actions
            }
            None => {
                self.waiting.extend(typed);
                Vec::new()
            }
        }
    }

    /// Offers the guest what it has not taken yet.
    pub(super) fn offer(&mut self, console: &Console) {
        let taken = console.input(&self.waiting);
        self.waiting.drain(..taken);
    }
}
