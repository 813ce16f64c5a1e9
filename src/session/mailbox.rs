//! Requests from other threads, which wait for their answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};

use rustix::event::{EventfdFlags, eventfd};
use vmm::command::{Command, CommandError, Outcome};

/// What a request comes to; `None` when the session is over.
pub(crate) type Reply = Option<Result<Outcome, CommandError>>;

/// A request and where its answer goes.
struct Letter {
    command: Command,
    answer: SyncSender<Result<Outcome, CommandError>>,
}

/// What became of an attempt to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// A request was answered.
    Answered,
    /// None waits.
    Nothing,
    /// Nobody asks any more.
    Over,
}

/// Where a session takes requests from.
pub(crate) struct Mailbox {
    letters: Receiver<Letter>,
    arrived: Arc<OwnedFd>,
}

/// The way for another thread to ask.
pub(crate) struct Caller {
    letters: Sender<Letter>,
    arrived: Arc<OwnedFd>,
}

/// Makes a connected pair.
///
/// # Errors
/// When the kernel grants no eventfd.
pub(crate) fn mailbox() -> io::Result<(Caller, Mailbox)> {
    let arrived = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let arrived = Arc::new(arrived);
    let (sender, receiver) = channel();
    let caller = Caller {
        letters: sender,
        arrived: Arc::clone(&arrived),
    };
    let mailbox = Mailbox {
        letters: receiver,
        arrived,
    };
    Ok((caller, mailbox))
}

impl Caller {
    /// Asks, and waits for the answer.
    pub(crate) fn call(&self, command: Command) -> Reply {
        let (answer, wait) = sync_channel(1);
        self.letters.send(Letter { command, answer }).ok()?;
        // A full counter wakes as well.
        let _ = rustix::io::write(&*self.arrived, &1u64.to_ne_bytes());
        wait.recv().ok()
    }
}

impl Drop for Caller {
    /// The session hears that nobody asks any more, once the queue is closed.
    fn drop(&mut self) {
        // In this order: whoever is woken finds the queue closed.
        let (closed, _) = channel();
        drop(std::mem::replace(&mut self.letters, closed));
        let _ = rustix::io::write(&*self.arrived, &1u64.to_ne_bytes());
    }
}

impl Mailbox {
    /// Readable when a request has arrived.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }

    /// Answers one request with what `handle` makes of it.
    pub(super) fn answer_next(
        &self,
        handle: impl FnOnce(Command) -> Result<Outcome, CommandError>,
    ) -> Delivery {
        // It says only that something waits, which the queue knows better.
        let _ = rustix::io::read(&*self.arrived, &mut [0; 8]);
        let letter = match self.letters.try_recv() {
            Ok(letter) => letter,
            Err(TryRecvError::Empty) => return Delivery::Nothing,
            Err(TryRecvError::Disconnected) => return Delivery::Over,
        };
        // Whoever asked may be gone; what was asked is done.
        let _ = letter.answer.send(handle(letter.command));
        Delivery::Answered
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use vmm::command::Show;

    use super::*;

    #[test]
    fn an_answer_goes_to_the_one_who_asked() {
        let (caller, mailbox) = mailbox().unwrap();
        let asks = thread::spawn(move || caller.call(Command::Show(Show::Instance)));
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            mailbox.fd(),
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).unwrap();
        let delivery = mailbox.answer_next(|_| Ok(Outcome::Metrics("7".to_owned())));
        assert_eq!(delivery, Delivery::Answered);
        let answer = asks.join().unwrap().unwrap().unwrap();
        assert_eq!(answer, Outcome::Metrics("7".to_owned()));
        assert_eq!(mailbox.answer_next(|_| Ok(Outcome::Done)), Delivery::Over);
    }

    #[test]
    fn nobody_answers_when_the_session_is_over() {
        let (caller, mailbox) = mailbox().unwrap();
        drop(mailbox);
        assert!(caller.call(Command::Pause).is_none());
    }
}
