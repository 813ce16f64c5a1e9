//! A VM between its user, its socket, its signals and its end: the main thread's loop.

mod deadline;
mod ending;
mod host;
mod input;
mod mailbox;
mod signals;
mod suspicion;

use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};
use rustix::stdio::stdin;
use vmm::command::Command;
use vmm::controller::{Controller, Live, StartError};
use vmm::end::Finish;
use vmm::events::Event;
use vmm::machine::Console;

use self::deadline::{Deadline, wait_for};
pub(crate) use self::ending::{Ending, LastWord, last_word};
pub(crate) use self::host::{ProcessHost, Sinks, Watch};
use self::input::Input;
use self::mailbox::Delivery;
pub(crate) use self::mailbox::{Caller, Mailbox, Reply, mailbox};
pub(crate) use self::signals::Signals;
pub(crate) use self::suspicion::Suspicion;
use crate::console::escape::{self, Action};
use crate::console::progress::Progress;
use crate::console::sink::Sink;
use crate::console::terminal::{self, Raw};
use crate::failure::Failure;
use crate::{logger, resident};

/// After this long without a word of the guest, its user hears whether the host is the reason.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a socket's VM waits for a reader of its last output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is there before the guest is.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Where the guest's output goes, and from where other places for it come.
    pub(crate) sink: Sink,
    /// Other places for it, as they are set.
    pub(crate) sinks: Sinks,
    /// Whether stdin is the guest's input.
    pub(crate) has_input: bool,
    /// Who may end it.
    pub(crate) signals: Signals,
    /// What the user sees until it speaks.
    pub(crate) progress: Progress,
    /// How long the guest may run.
    pub(crate) timeout: Option<Duration>,
    /// How its user is treated.
    pub(crate) manners: Manners,
    /// What is said of the host where the guest does not get on.
    pub(crate) suspicion: Suspicion,
}

/// How the user of a session is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Somebody looks at the guest: signals ask it to end, its silence is explained.
    Attended {
        /// Nothing but errors is said.
        quiet: bool,
    },
    /// A program looks after it: signals ask it to end.
    Polite,
    /// A program looks after it: signals end it at once.
    Obedient,
}

/// A VM, and everything its user sees of it.
pub(crate) struct Session {
    controller: Controller,
    mailbox: Option<Mailbox>,
    around: Surroundings,
    input: Input,
    deadline: Option<Deadline>,
    /// Until the guest has spoken: when its silence is worth a word.
    silence: Option<Deadline>,
    /// Whether the power button was pressed.
    asked_to_end: bool,
    is_started: bool,
    /// Last, so that the terminal is put back when everything else is gone.
    raw: Option<Raw>,
}

/// What wakes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Ended,
    Signal,
    Output,
    InputRoom,
    Input,
    Mail,
    Metrics,
}

impl Session {
    /// A session with a VM that has not started; `mailbox` is where others ask for things.
    pub(crate) fn new(
        controller: Controller,
        mailbox: Option<Mailbox>,
        around: Surroundings,
    ) -> Self {
        logger::count_into(&controller.metrics().process().logger);
        let interactive = around.has_input && stdin().is_terminal();
        Self {
            controller,
            mailbox,
            input: Input::new(around.has_input, interactive),
            around,
            deadline: None,
            silence: None,
            asked_to_end: false,
            is_started: false,
            raw: None,
        }
    }

    /// Boots the guest.
    ///
    /// # Errors
    /// What kept it from starting.
    pub(crate) fn start(&mut self) -> Result<(), Box<StartError>> {
        self.take_sink();
        self.around.progress.say("loading");
        self.controller.start()?;
        self.around.progress.say("booting");
        Ok(())
    }

    /// Serves the VM to its end, and says why it has ended and what a guest has left.
    ///
    /// # Errors
    /// When nothing can be waited for, or the terminal does not obey.
    pub(crate) fn serve(&mut self) -> io::Result<(Ending, Option<Finish>)> {
        if self.live().is_none() {
            resident::let_go_of_flags();
        }
        loop {
            self.notice_start()?;
            if let Some(ending) = self.turn()? {
                let finish = self.finish(ending);
                self.controller.metrics_mut().tick();
                return Ok((ending, finish));
            }
        }
    }

    /// The VM.
    pub(crate) fn controller(&mut self) -> &mut Controller {
        &mut self.controller
    }

    /// Says how it has ended to those who watch, and to the user; a failure the user hears later.
    pub(crate) fn tell_end(&mut self, ended: Result<&LastWord, &Failure>) {
        let (reason, exit_code) = match ended {
            Ok(last) => (last.text.clone(), last.status),
            Err(failure) => (failure.text(), failure.status()),
        };
        self.controller.tell(&Event::Ended { reason, exit_code });
        if let Ok(last) = ended {
            self.say(&last.text);
        }
    }

    /// What is said of the host where the guest did not get on.
    pub(crate) fn suspicion(&self) -> &Suspicion {
        &self.around.suspicion
    }

    /// Tells the user, unless it is not to be told.
    fn say(&self, text: &str) {
        match self.around.manners {
            Manners::Attended { quiet: false } | Manners::Polite => logger::tell(text),
            _ => logger::note(text),
        }
    }

    /// Takes up a guest that runs now.
    fn notice_start(&mut self) -> io::Result<()> {
        if self.is_started || self.controller.live().is_none() {
            return Ok(());
        }
        self.is_started = true;
        // Now that the guest runs: nothing of this may delay its first instruction.
        resident::let_go_of_start();
        self.deadline = self.around.timeout.and_then(Deadline::after);
        if let Manners::Attended { .. } = self.around.manners {
            self.silence = Deadline::after(SILENCE);
        }
        if self.input.is_interactive() {
            terminal::restore_on_panic();
            self.raw = Some(Raw::enter()?);
        }
        Ok(())
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> io::Result<Option<Ending>> {
        let sources = self.wait()?;
        for source in sources {
            let ending = match source {
                Source::Output => {
                    self.pump_output();
                    None
                }
                Source::Input | Source::InputRoom => self.pump_input(source),
                Source::Ended => self.take_notices(),
                Source::Signal => self.take_signal(),
                Source::Mail => self.take_mail(),
                Source::Metrics => {
                    self.controller.metrics_mut().tick();
                    None
                }
            };
            if ending.is_some() {
                return Ok(ending);
            }
        }
        self.explain_silence();
        let over = self.deadline.filter(|deadline| deadline.is_over());
        Ok(over.map(|deadline| Ending::Timeout(deadline.after)))
    }

    /// Waits until something is to be done, and says what, the guest's output before its end.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut waits = vec![(Source::Signal, self.around.signals.fd(), PollFlags::IN)];
        if let Some(mailbox) = &self.mailbox {
            waits.push((Source::Mail, mailbox.fd(), PollFlags::IN));
        }
        if let Some(timer) = self.controller.metrics().timer() {
            waits.push((Source::Metrics, timer, PollFlags::IN));
        }
        if let Some(live) = self.live() {
            self.wait_for_guest(live, &mut waits);
        }
        let mut fds: Vec<_> = waits
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let deadlines = [self.deadline, self.silence].into_iter().flatten();
        wait_for(&mut fds, deadlines.min_by_key(|deadline| deadline.at))?;
        let ready = waits.iter().zip(&fds);
        Ok(ready
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((source, ..), _)| *source)
            .collect())
    }

    fn wait_for_guest<'a>(
        &'a self,
        live: &'a Live,
        waits: &mut Vec<(Source, BorrowedFd<'a>, PollFlags)>,
    ) {
        let console = live.console();
        // Output waits for the guest to speak, or for the reader to take what it has spoken.
        let (output, direction) = match self.around.sink.fd() {
            Some(fd) if self.around.sink.is_behind() => (fd, PollFlags::OUT),
            _ => (console.output_ready(), PollFlags::IN),
        };
        waits.push((Source::Output, output, direction));
        // Input waits for the guest to read what it has, and for the user.
        if self.input.is_behind() {
            waits.push((Source::InputRoom, console.input_room(), PollFlags::IN));
        }
        if self.input.wants_more() {
            waits.push((Source::Input, stdin(), PollFlags::IN));
        }
        waits.push((Source::Ended, live.ended(), PollFlags::IN));
    }

    fn live(&self) -> Option<&Live> {
        self.controller.live()
    }

    fn console(&self) -> Option<&Console> {
        self.live().map(Live::console)
    }

    /// Moves the guest's output on; true when there is no more of it.
    fn pump_output(&mut self) -> bool {
        let Some(output) = self.console().map(Console::output) else {
            return true;
        };
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
            if let Some(sentence) = self.around.suspicion.sentence() {
                self.say(&format!("the guest has said nothing so far: {sentence}"));
            }
        }
    }

    fn pump_input(&mut self, source: Source) -> Option<Ending> {
        if source == Source::Input {
            for action in self.input.read() {
                match action {
                    Action::Stop => return Some(Ending::Stopped),
                    Action::Help => logger::tell(escape::HELP),
                }
            }
        }
        if let Some(live) = self.controller.live() {
            self.input.offer(live.console());
        }
        None
    }

    /// The guest has ended, or a device of it has failed.
    fn take_notices(&mut self) -> Option<Ending> {
        let failed = self.live().map(Live::failed_devices).unwrap_or_default();
        for id in failed {
            self.controller.tell(&Event::DeviceFailed { id });
        }
        self.live().and_then(Live::end).map(Ending::Guest)
    }

    fn take_mail(&mut self) -> Option<Ending> {
        let (mailbox, controller) = (self.mailbox.as_ref()?, &mut self.controller);
        if mailbox.answer_next(|command| controller.handle(command)) == Delivery::Over {
            return Some(Ending::Unserved);
        }
        if self.controller.is_spent() {
            return Some(Ending::Spent);
        }
        self.take_sink();
        None
    }

    /// Takes up another place for the guest's output, if one was set.
    fn take_sink(&mut self) {
        if let Some(sink) = self.around.sinks.latest() {
            self.around.sink = sink;
        }
    }

    fn take_signal(&mut self) -> Option<Ending> {
        let signal = self.around.signals.next()?;
        match (self.around.manners, signal) {
            _ if self.live().is_none() => Some(Ending::Signal(signal)),
            (Manners::Obedient, signal) => Some(Ending::Signal(signal)),
            (_, Signal::SIGINT) => Some(Ending::Stopped),
            (_, signal) if self.asked_to_end => Some(Ending::Signal(signal)),
            _ => {
                self.asked_to_end = true;
                if let Err(error) = self.controller.handle(Command::PressPowerButton) {
                    log::warn!("the power button could not be pressed: {error}");
                }
                self.say("pressed the guest's power button; a second signal ends it at once");
                None
            }
        }
    }

    /// Ends the machine and lets the last output through.
    fn finish(&mut self, ending: Ending) -> Option<Finish> {
        let finish = self.controller.live_mut().map(Live::finish);
        let all_out = self.pump_output();
        if !all_out && matches!(ending, Ending::Guest(_)) {
            self.await_reader();
        }
        self.around.progress.clear();
        self.raw = None;
        finish
    }

    /// Waits for the reader to take the last output of a guest that has ended by itself, as any program
    /// would. A signal or the end of the guest's time ends that too; a program that looks after many guests
    /// may have forgotten this one's output.
    fn await_reader(&mut self) {
        let deadline = match self.around.manners {
            Manners::Attended { .. } => self.deadline,
            Manners::Polite | Manners::Obedient => Deadline::after(LAST_WORDS),
        };
        while !self.pump_output() {
            let Some(reader) = self.around.sink.fd() else {
                return;
            };
            let signals = self.around.signals.fd();
            let mut fds = [
                PollFd::from_borrowed_fd(reader, PollFlags::OUT),
                PollFd::from_borrowed_fd(signals, PollFlags::IN),
            ];
            let waited = wait_for(&mut fds, deadline);
            let over = deadline.is_some_and(Deadline::is_over);
            let [_, signal] = fds;
            if waited.is_err() || over || !signal.revents().is_empty() {
                log::warn!("nobody reads the guest's last output: it is lost");
                return;
            }
        }
    }
}
