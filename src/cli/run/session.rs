//! A running guest between its user, its signals and its end.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm::command::Command;
use vmm::controller::{Draft, Live};

use super::args::{Args, Console};
use super::ending::Ending;
use super::input::Input;
use super::signals::Signals;
use super::{Failure, failure};
use crate::cli::progress::Progress;
use crate::console::escape::{self, Action};
use crate::console::sink::Sink;
use crate::console::terminal::{self, Raw};
use crate::{logger, resident};

/// After this long without a word of the guest, its user hears whether the host is the reason.
const SILENCE: Duration = Duration::from_secs(5);

/// What is there before the guest is.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// Where the guest's output goes.
    pub(super) sink: Sink,
    /// Who may end it.
    pub(super) signals: Signals,
    /// What the user sees until it speaks.
    pub(super) progress: Progress,
}

/// A guest that runs, and everything its user sees of it.
pub(super) struct Session {
    live: Live,
    around: Surroundings,
    input: Input,
    deadline: Option<Deadline>,
    /// Until the guest has spoken: when its silence is worth a word.
    silence: Option<Deadline>,
    /// Whether the power button was pressed.
    asked_to_end: bool,
    quiet: bool,
    /// Last, so that the terminal is put back when everything else is gone.
    raw: Option<Raw>,
}

/// When the guest's time is over.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    after: Duration,
}

/// Which descriptors a turn found ready.
struct Ready {
    ended: bool,
    signal: bool,
    output: bool,
    input: bool,
    input_room: bool,
}

impl Session {
    /// Boots the guest, and connects it to what the command line says.
    pub(super) fn start(
        draft: Draft,
        mut around: Surroundings,
        args: &Args,
    ) -> Result<Self, Failure> {
        around.progress.say("loading");
        let live = draft.boot().map_err(failure)?;
        // Now that the guest runs: nothing of this may delay its first instruction.
        resident::let_go_of_code();
        around.progress.say("booting");
        let open = args.console == Console::Tty;
        let interactive = open && io::stdin().is_terminal();
        if interactive {
            terminal::restore_on_panic();
        }
        Ok(Self {
            live,
            around,
            input: Input::new(open, interactive),
            deadline: args.timeout.and_then(Deadline::after),
            silence: Deadline::after(SILENCE),
            asked_to_end: false,
            quiet: args.quiet,
            raw: interactive
                .then(Raw::enter)
                .transpose()
                .map_err(Failure::run)?,
        })
    }

    /// Serves the guest to its end.
    pub(super) fn serve(mut self) -> Result<ExitCode, Failure> {
        loop {
            if let Some(ending) = self.turn()? {
                return self.finish(ending);
            }
        }
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> Result<Option<Ending>, Failure> {
        let ready = self.wait().map_err(Failure::run)?;
        if ready.output {
            self.pump_output();
        }
        if (ready.input_room || ready.input)
            && let Some(ending) = self.pump_input(&ready)
        {
            return Ok(Some(ending));
        }
        if ready.ended
            && let Some(end) = self.live.end()
        {
            return Ok(Some(Ending::Guest(end)));
        }
        if ready.signal
            && let Some(ending) = self.take_signal()
        {
            return Ok(Some(ending));
        }
        self.explain_silence();
        let over = self.deadline.filter(|deadline| deadline.is_over());
        Ok(over.map(|deadline| Ending::Timeout(deadline.after)))
    }

    fn wait(&self) -> io::Result<Ready> {
        let stdin = io::stdin();
        let console = self.live.console();
        // Output waits for the guest to speak, or for the reader to take what it has spoken.
        let (output, direction) = match self.around.sink.fd() {
            Some(fd) if self.around.sink.is_behind() => (fd, PollFlags::OUT),
            _ => (console.output_ready(), PollFlags::IN),
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.live.ended(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.around.signals.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(output, direction),
        ];
        // Input waits for the guest to read what it has, and for the user.
        let (behind, wanted) = (self.input.is_behind(), self.input.wants_more());
        if behind {
            fds.push(PollFd::from_borrowed_fd(
                console.input_room(),
                PollFlags::IN,
            ));
        }
        if wanted {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let deadlines = [self.deadline, self.silence].into_iter().flatten();
        wait_for(&mut fds, deadlines.min_by_key(|deadline| deadline.at))?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |waited_for: bool| waited_for && ready.next() == Some(true);
        Ok(Ready {
            ended: next(true),
            signal: next(true),
            output: next(true),
            input_room: next(behind),
            input: next(wanted),
        })
    }

    /// Moves the guest's output on; true when there is no more of it.
    fn pump_output(&mut self) -> bool {
        let output = self.live.console().output();
        let (progress, silence) = (&mut self.around.progress, &mut self.silence);
        self.around.sink.pump(|most| {
            let said = output.take(most);
            if !said.is_empty() {
                progress.clear();
                *silence = None;
            }
            said
        })
    }

    /// A host that cannot boot Linux does not always refuse: some only take hours.
    fn explain_silence(&mut self) {
        if self.silence.is_some_and(Deadline::is_over) {
            self.silence = None;
            if let Some(sentence) = vmm::host::explain() {
                self.say(&format!("the guest has said nothing so far: {sentence}"));
            }
        }
    }

    fn pump_input(&mut self, ready: &Ready) -> Option<Ending> {
        if ready.input {
            for action in self.input.read() {
                match action {
                    Action::Stop => return Some(Ending::Stopped),
                    Action::Help => logger::tell(escape::HELP),
                }
            }
        }
        self.input.offer(self.live.console());
        None
    }

    fn take_signal(&mut self) -> Option<Ending> {
        match self.around.signals.next()? {
            Signal::SIGINT => Some(Ending::Stopped),
            _ if self.asked_to_end => Some(Ending::Terminated),
            _ => {
                self.asked_to_end = true;
                if let Err(error) = self.live.handle(Command::PressPowerButton) {
                    log::warn!("the power button could not be pressed: {error}");
                }
                self.say("pressed the guest's power button; a second signal ends it at once");
                None
            }
        }
    }

    /// Ends the machine, lets the last output through, and says how it ended.
    fn finish(mut self, ending: Ending) -> Result<ExitCode, Failure> {
        let finish = self.live.finish();
        let all_out = self.pump_output();
        if !all_out && matches!(ending, Ending::Guest(_)) {
            self.await_reader();
        }
        self.around.progress.clear();
        self.raw = None;
        let last = ending.last_word(&finish)?;
        self.say(&last.text);
        Ok(ExitCode::from(last.status))
    }

    /// Waits for the reader to take the last output of a guest that has ended by itself, as any program
    /// would. A signal or the end of the guest's time ends that too.
    fn await_reader(&mut self) {
        while !self.pump_output() {
            let Some(reader) = self.around.sink.fd() else {
                return;
            };
            let signals = self.around.signals.fd();
            let mut fds = [
                PollFd::from_borrowed_fd(reader, PollFlags::OUT),
                PollFd::from_borrowed_fd(signals, PollFlags::IN),
            ];
            let waited = wait_for(&mut fds, self.deadline);
            let over = self.deadline.is_some_and(Deadline::is_over);
            let [_, signal] = fds;
            if waited.is_err() || over || !signal.revents().is_empty() {
                log::warn!("nobody reads the guest's last output: it is lost");
                return;
            }
        }
    }

    fn say(&self, text: &str) {
        if self.quiet {
            logger::note(text);
        } else {
            logger::tell(text);
        }
    }
}

impl Deadline {
    /// `None` for a time so long that no clock reaches its end.
    fn after(after: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(after)?;
        Some(Self { at, after })
    }

    fn is_over(self) -> bool {
        self.left().is_zero()
    }

    fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Waits until one of `fds` is ready, or `deadline` has come, or a signal handler has run.
fn wait_for(fds: &mut [PollFd<'_>], deadline: Option<Deadline>) -> io::Result<()> {
    // What no timespec holds is longer than anybody waits.
    let left = deadline.and_then(|deadline| Timespec::try_from(deadline.left()).ok());
    match poll(fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
