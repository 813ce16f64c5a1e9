//! A running guest between its user, its signals and its end.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm::command::Command;
use vmm::controller::Live;
use vmm::end::{Finish, GuestEnd};

use super::signals::Signals;
use super::{Args, Console, Failure};
use crate::cli::progress::Progress;
use crate::console::escape::{self, Action, Escape};
use crate::console::sink::Sink;
use crate::console::terminal::{self, Raw};

/// How long the end of the output waits for a reader that does not read.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How much input is read ahead of the guest.
const INPUT: usize = 256;

/// Why the guest is no longer running.
enum Ending {
    /// Its own doing.
    Guest(GuestEnd),
    /// `--timeout`.
    Timeout(Duration),
    /// Ctrl-A x or SIGINT.
    Stopped,
    /// A second SIGTERM or SIGHUP.
    Terminated,
}

/// A guest that runs, and everything its user sees of it.
pub(super) struct Session {
    live: Live,
    signals: Signals,
    progress: Progress,
    sink: Sink,
    stdin: Stdin,
    timeout: Option<(Instant, Duration)>,
    asked_to_end: bool,
    quiet: bool,
    /// Last, so that the terminal is put back when everything else is gone.
    raw: Option<Raw>,
}

/// What is typed, or comes through a pipe.
struct Stdin {
    open: bool,
    escape: Option<Escape>,
    /// Read, and not yet taken by the guest.
    waiting: Vec<u8>,
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
    /// Connects a guest to what the command line says.
    pub(super) fn new(
        live: Live,
        signals: Signals,
        progress: Progress,
        args: &Args,
    ) -> Result<Self, Failure> {
        let sink = match &args.console {
            Console::Tty => Sink::stdout().map_err(Failure::run)?,
            Console::Off => Sink::nowhere(),
            Console::File(path) => Sink::file(path).map_err(|error| {
                let path = path.display();
                Failure::run(format!(
                    "the console file {path} cannot be written: {error}"
                ))
            })?,
        };
        let open = args.console == Console::Tty;
        let interactive = open && io::stdin().is_terminal();
        let raw = if interactive {
            terminal::restore_on_panic();
            Some(Raw::enter().map_err(Failure::run)?)
        } else {
            None
        };
        Ok(Self {
            live,
            signals,
            progress,
            sink,
            stdin: Stdin {
                open,
                escape: interactive.then(Escape::default),
                waiting: Vec::new(),
            },
            timeout: args.timeout.map(|time| (Instant::now() + time, time)),
            asked_to_end: false,
            quiet: args.quiet,
            raw,
        })
    }

    /// Serves the guest to its end.
    pub(super) fn serve(mut self) -> Result<ExitCode, Failure> {
        let ending = loop {
            if let Some(ending) = self.turn()? {
                break ending;
            }
        };
        self.finish(&ending)
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
        match self.timeout {
            Some((deadline, time)) if Instant::now() >= deadline => Ok(Some(Ending::Timeout(time))),
            _ => Ok(None),
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let stdin = io::stdin();
        let console = self.live.console();
        // Output waits for the guest to speak, or for the reader to take what it has spoken.
        let (output, direction) = match self.sink.fd() {
            Some(fd) if self.sink.is_behind() => (fd, PollFlags::OUT),
            _ => (console.output_ready(), PollFlags::IN),
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.live.ended(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(output, direction),
        ];
        // Input waits for the user, or for the guest to read what it has.
        let has_input = !self.stdin.waiting.is_empty();
        if has_input {
            fds.push(PollFd::from_borrowed_fd(
                console.input_room(),
                PollFlags::IN,
            ));
        } else if self.stdin.open {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        let timeout = self.timeout.map(|(deadline, _)| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            })
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |place: usize| fds.get(place).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            ended: is_ready(0),
            signal: is_ready(1),
            output: is_ready(2),
            input: is_ready(3) && !has_input,
            input_room: is_ready(3) && has_input,
        })
    }

    /// Moves the guest's output on; true when there is no more of it.
    fn pump_output(&mut self) -> bool {
        let output = self.live.console().output();
        let progress = &mut self.progress;
        self.sink.pump(|most| {
            let said = output.take(most);
            if !said.is_empty() {
                progress.clear();
            }
            said
        })
    }

    fn pump_input(&mut self, ready: &Ready) -> Option<Ending> {
        if ready.input {
            let mut typed = [0; INPUT];
            // Not through std's buffer: what it holds back, no poll would tell of.
            let count = match rustix::io::read(io::stdin(), &mut typed) {
                Ok(count) => count,
                Err(Errno::INTR | Errno::AGAIN) => return None,
                Err(_) => 0,
            };
            // The end of a pipe: the guest's input ends, the guest does not.
            self.stdin.open = count > 0;
            let typed = typed.get(..count).unwrap_or_default();
            for action in self.stdin.take(typed) {
                match action {
                    Action::Stop => return Some(Ending::Stopped),
                    Action::Help => self.say(escape::HELP.trim_end()),
                }
            }
        }
        let taken = self.live.console().input(&self.stdin.waiting);
        self.stdin.waiting.drain(..taken);
        None
    }

    fn take_signal(&mut self) -> Option<Ending> {
        match self.signals.next()? {
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
    fn finish(mut self, ending: &Ending) -> Result<ExitCode, Failure> {
        let finish = self.live.finish();
        self.drain_output();
        self.progress.clear();
        self.raw = None;
        match ending {
            Ending::Guest(end) => self.report_guest(*end, finish),
            Ending::Timeout(time) => Ok(self.report(
                &format!("the guest was ended: its time of {time:?} is over"),
                124,
            )),
            Ending::Stopped => Ok(self.report("the guest was ended by its user", 130)),
            Ending::Terminated => Ok(self.report("the guest was ended by a second signal", 143)),
        }
    }

    fn report_guest(&self, end: GuestEnd, finish: Finish) -> Result<ExitCode, Failure> {
        match end {
            GuestEnd::PowerOff => {
                let status = finish.exit_status.unwrap_or(0);
                let text = match finish.exit_status {
                    Some(status) => {
                        format!("the guest powered off; its command's status was {status}")
                    }
                    None => "the guest powered off".to_owned(),
                };
                Ok(self.report(&text, status))
            }
            GuestEnd::Reset if finish.panicked => {
                Ok(self.report("the guest's kernel panicked", 121))
            }
            GuestEnd::Reset => Ok(self.report(
                "the guest rebooted; run ravelin again to boot it again",
                120,
            )),
            GuestEnd::TripleFault => {
                Ok(self.report("the guest's processor shut down (triple fault)", 122))
            }
            // What KVM could not go on with, the host's examination may explain.
            broken => Err(match vmm::host::explain() {
                Some(sentence) => Failure::run(format!("{broken}: {sentence}")),
                None => Failure::run(broken.to_string()),
            }),
        }
    }

    /// Waits for the reader to take the last output, but not for ever.
    fn drain_output(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        while !self.pump_output() {
            let left = deadline.saturating_duration_since(Instant::now());
            let (Some(fd), Ok(left)) = (self.sink.fd(), Timespec::try_from(left)) else {
                return;
            };
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
            if !matches!(poll(&mut fds, Some(&left)), Ok(ready) if ready > 0) {
                log::warn!("nobody reads the guest's last output: it is lost");
                return;
            }
        }
    }

    fn report(&self, text: &str, status: u8) -> ExitCode {
        self.say(text);
        ExitCode::from(status)
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "\rravelin: {text}");
        }
    }
}

impl Stdin {
    /// Takes what was typed: the guest's part waits for it, ravelin's part is returned.
    fn take(&mut self, typed: &[u8]) -> Vec<Action> {
        match &mut self.escape {
            Some(escape) => escape.feed(typed, &mut self.waiting),
            None => {
                self.waiting.extend(typed);
                Vec::new()
            }
        }
    }
}
