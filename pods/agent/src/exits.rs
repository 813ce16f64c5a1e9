//! Who has ended, and how: the agent is the parent of every process that has no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{WaitOptions, WaitStatus, wait};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The most ends that are kept of processes which nobody has asked for yet.
const MOST_UNCLAIMED: usize = 4096;

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// 0 to 255; 128 and the signal's number where one ended it.
    pub(crate) status: u8,
    /// Nanoseconds since 1970.
    pub(crate) at_ns: u64,
}

/// The ends of all processes.
#[derive(Default)]
pub(crate) struct Exits(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// Who waits for a process.
    awaited: BTreeMap<u32, watch::Sender<Option<Exit>>>,
    /// How many processes are being made whose numbers are not known yet.
    unborn: usize,
    /// Ends that came before somebody asked; kept only while there are unborn ones.
    unclaimed: BTreeMap<u32, Exit>,
}

/// While this exists an end is kept until somebody asks for it.
pub(crate) struct Expecting(Arc<Exits>);

impl Exits {
    /// Takes statuses for ever.
    ///
    /// # Errors
    ///
    /// The signal cannot be heard.
    pub(crate) fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        let exits = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                exits.take_all();
                if ended.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Takes the status of every process that has ended.
    pub(crate) fn take_all(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
            self.note(pid, Exit::new(status));
        }
    }

    /// Says that a process is about to be made.
    pub(crate) fn expect(self: &Arc<Self>) -> Expecting {
        self.table().unborn += 1;
        Expecting(Arc::clone(self))
    }

    /// Tells how the process ends.
    pub(crate) fn of(&self, pid: u32) -> watch::Receiver<Option<Exit>> {
        let mut table = self.table();
        let already = table.unclaimed.remove(&pid);
        let sender = watch::Sender::new(already);
        let receiver = sender.subscribe();
        if already.is_none() {
            table.awaited.insert(pid, sender);
        }
        receiver
    }

    fn note(&self, pid: u32, exit: Exit) {
        let mut table = self.table();
        if let Some(sender) = table.awaited.remove(&pid) {
            sender.send_replace(Some(exit));
        } else if table.unborn > 0 && table.unclaimed.len() < MOST_UNCLAIMED {
            table.unclaimed.insert(pid, exit);
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut table = self.0.table();
        table.unborn -= 1;
        if table.unborn == 0 {
            table.unclaimed.clear();
        }
    }
}

impl Exit {
    fn new(status: WaitStatus) -> Self {
        let number = match status.terminating_signal() {
            Some(signal) => signal.saturating_add(128),
            None => status.exit_status().unwrap_or(255),
        };
        Self::now(u8::try_from(number).unwrap_or(u8::MAX))
    }

    /// One with this status, now.
    pub(crate) fn now(status: u8) -> Self {
        let now = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let rest = u64::try_from(now.tv_nsec).unwrap_or_default();
        Self {
            status,
            at_ns: seconds.saturating_mul(1_000_000_000).saturating_add(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_before_the_question_is_kept_while_somebody_expects_one() {
        let exits = Arc::new(Exits::default());
        let expecting = exits.expect();
        exits.note(7, Exit::now(3));
        assert_eq!(exits.of(7).borrow().unwrap().status, 3);
        drop(expecting);
        exits.note(8, Exit::now(4));
        assert!(exits.of(8).borrow().is_none());
    }

    #[test]
    fn who_waits_is_told() {
        let exits = Arc::new(Exits::default());
        let told = exits.of(9);
        exits.note(9, Exit::now(1));
        assert_eq!(told.borrow().unwrap().status, 1);
    }
}
