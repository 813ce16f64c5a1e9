//! A process of a container, as containerd sees it: one state after another, never back.

use std::time::SystemTime;

use containerd_shim_protos::api::Status;
use tokio::sync::watch;

use crate::stdio::{Feed, Paths, Pump};

/// The status of what was killed: 128 and SIGKILL.
pub(crate) const KILLED: u32 = 137;
/// The status of what ended with its VM, and nobody knows how.
pub(crate) const LOST: u32 = 255;

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// 0 to 255.
    pub(crate) status: u32,
    /// When.
    pub(crate) at: SystemTime,
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made and not started.
    Created,
    /// Started.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Stopped(Exit),
}

impl Phase {
    /// In containerd's words.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Created => Status::CREATED,
            Self::Running => Status::RUNNING,
            Self::Paused => Status::PAUSED,
            Self::Stopped(_) => Status::STOPPED,
        }
    }

    /// Whether it may still do something.
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self, Self::Stopped(_))
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number: the monitor's for a container's first, the guest's for others.
    pub(crate) pid: u32,
    /// Where its streams are.
    pub(crate) paths: Paths,
    phase: watch::Sender<Phase>,
    pub(crate) stdin: Option<Feed>,
    pub(crate) outputs: Vec<Pump>,
}

impl Process {
    /// One that is made and not started.
    pub(crate) fn new(pid: u32, paths: Paths) -> Self {
        Self {
            pid,
            paths,
            phase: watch::Sender::new(Phase::Created),
            stdin: None,
            outputs: Vec::new(),
        }
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// It does something else now; what has ended stays so.
    pub(crate) fn advance(&self, next: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let may = phase.is_alive();
            if may {
                *phase = next;
            }
            may
        })
    }

    /// For waiting until it has ended.
    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

/// Waits until a process has ended; if it is forgotten before, it is lost.
pub(crate) async fn ended(mut phases: watch::Receiver<Phase>) -> Exit {
    match phases
        .wait_for(|phase| !phase.is_alive())
        .await
        .map(|phase| *phase)
    {
        Ok(Phase::Stopped(exit)) => exit,
        _ => Exit {
            status: LOST,
            at: SystemTime::now(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_ended_stays_so_and_everybody_who_waits_hears_it() {
        let process = Process::new(1, Paths::default());
        let waiting = tokio::spawn(ended(process.watch()));
        assert!(process.advance(Phase::Running));
        let exit = Exit {
            status: 7,
            at: SystemTime::now(),
        };
        assert!(process.advance(Phase::Stopped(exit)));
        assert!(!process.advance(Phase::Running));
        assert!(!process.advance(Phase::Stopped(Exit { status: 0, ..exit })));
        assert_eq!(waiting.await.unwrap(), exit);
        assert_eq!(ended(process.watch()).await, exit);
    }
}
