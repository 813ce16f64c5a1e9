//! A guest, from its description to its end.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::kit;
use crate::transcript::Transcript;

/// The longest that a guest may live: a stock kernel in an emulated machine on a busy host takes half a minute to boot.
const LIFETIME: Duration = Duration::from_secs(240);

/// The ravelin that is tested.
pub(crate) fn ravelin() -> PathBuf {
    std::env::var_os("RAVELIN_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_ravelin").into(), PathBuf::from)
}

/// A guest that is described and not yet started.
pub(crate) struct Guest {
    /// A command that is to run ravelin: its words, to which ravelin and its own words are appended.
    wrapper: Vec<OsString>,
    words: Vec<OsString>,
    script: Option<String>,
}

/// A guest that runs. It is killed when dropped.
pub(crate) struct Running {
    ravelin: Child,
    deadline: Instant,
    input: Option<ChildStdin>,
    console: Transcript,
    errors: Transcript,
}

/// What is left of a guest.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// ravelin's exit status; a negative number is the signal that has killed it.
    pub(crate) status: i32,
    /// What the guest has said on its console.
    pub(crate) console: String,
    /// What ravelin has said on stderr.
    pub(crate) errors: String,
}

impl Guest {
    /// Debian's kernel as an ELF file, with its initramfs.
    pub(crate) fn stock() -> Self {
        Self::new().kernel("vmlinux").initrd("initramfs")
    }

    /// The trimmed kernel as an ELF file, with the same initramfs, whose modules it does not load.
    pub(crate) fn trimmed() -> Self {
        Self::new().kernel("vmlinux-trimmed").initrd("initramfs")
    }

    /// Neither kernel nor anything else.
    pub(crate) fn new() -> Self {
        Self {
            wrapper: Vec::new(),
            words: vec!["run".into()],
            script: None,
        }
    }

    /// A kernel of the kit.
    pub(crate) fn kernel(self, name: &str) -> Self {
        self.flag("--kernel", kit::file(name))
    }

    /// An initrd of the kit.
    pub(crate) fn initrd(self, name: &str) -> Self {
        self.flag("--initrd", kit::file(name))
    }

    /// A flag of `ravelin run` and its value.
    pub(crate) fn flag(mut self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        self.words.extend([flag.into(), value.as_ref().to_owned()]);
        self
    }

    /// A flag of `ravelin run` without a value.
    pub(crate) fn switch(mut self, flag: &str) -> Self {
        self.words.push(flag.into());
        self
    }

    /// A shell script that the guest runs in place of an interactive shell.
    pub(crate) fn script(mut self, text: &str) -> Self {
        self.script = Some(text.to_owned());
        self
    }

    /// A command that runs ravelin.
    pub(crate) fn wrapped(mut self, words: &[&OsStr]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(self) -> Outcome {
        self.start().end()
    }

    /// Starts it with pipes for stdin, stdout and stderr.
    pub(crate) fn start(self) -> Running {
        let mut ravelin = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let console = Transcript::of(ravelin.stdout.take().unwrap());
        Running::new(ravelin, console)
    }

    /// Starts it with a terminal as stdin and stdout; `console` reads from the terminal's other end.
    pub(crate) fn start_on(self, terminal: impl Fn() -> Stdio, console: Transcript) -> Running {
        let ravelin = self
            .command()
            .stdin(terminal())
            .stdout(terminal())
            .spawn()
            .unwrap();
        Running::new(ravelin, console)
    }

    fn command(self) -> Command {
        let mut words = self.wrapper;
        words.push(ravelin().into());
        words.extend(self.words);
        if let Some(script) = self.script {
            words.extend(["--", "sh", "-c", &script].map(OsString::from));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stderr(Stdio::piped());
        command
    }
}

impl Running {
    /// A process whose stderr is a pipe, and what its guest says.
    pub(crate) fn new(mut ravelin: Child, console: Transcript) -> Self {
        Self {
            deadline: Instant::now() + LIFETIME,
            input: ravelin.stdin.take(),
            errors: Transcript::of(ravelin.stderr.take().unwrap()),
            console,
            ravelin,
        }
    }

    /// Waits until the guest has said `marker`.
    pub(crate) fn wait_for(&self, marker: &str) {
        assert!(
            self.console.wait_for(marker, self.deadline),
            "the guest never said `{marker}`: {}",
            self.so_far()
        );
    }

    /// Waits until ravelin has said `marker`.
    pub(crate) fn wait_for_error(&self, marker: &str) {
        assert!(
            self.errors.wait_for(marker, self.deadline),
            "ravelin never said `{marker}`: {}",
            self.so_far()
        );
    }

    /// What the guest has said so far.
    pub(crate) fn said(&self) -> String {
        self.console.text()
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends ravelin a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Outcome {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let ended = poll(&mut fds, Some(&Timespec::try_from(left).unwrap())).unwrap();
        assert!(
            ended > 0,
            "the guest did not end in {LIFETIME:?}: {}",
            self.so_far()
        );
        let status = self.ravelin.wait().unwrap();
        self.errors.wait_for_end(self.deadline);
        // A terminal stays open.
        if self.input.is_some() {
            self.console.wait_for_end(self.deadline);
        }
        Outcome {
            status: status
                .code()
                .or(status.signal().map(|signal| -signal))
                .unwrap(),
            console: self.console.text(),
            errors: self.errors.text(),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.ravelin)
    }

    fn so_far(&self) -> String {
        format!(
            "\n--- console\n{}\n--- ravelin\n{}",
            self.console.text(),
            self.errors.text()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.ravelin.kill();
        let _ = self.ravelin.wait();
    }
}

impl Outcome {
    /// What the guest has said after `NAME=` in a line.
    pub(crate) fn value(&self, name: &str) -> &str {
        let prefix = format!("{name}=");
        let found = self
            .console
            .lines()
            .find_map(|line| Some(line.split_once(&prefix)?.1.trim()));
        found.unwrap_or_else(|| panic!("the guest never said {name}: {self}"))
    }

    /// The same as a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.value(name)
            .parse()
            .unwrap_or_else(|error| panic!("{name}: {error}: {self}"))
    }

    /// Asserts that the guest has said `marker`.
    pub(crate) fn said(&self, marker: &str) -> &Self {
        assert!(
            self.console.contains(marker),
            "the guest never said `{marker}`: {self}"
        );
        self
    }

    /// Asserts ravelin's exit status.
    pub(crate) fn status(&self, status: i32) -> &Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Asserts what ravelin has said last.
    pub(crate) fn last_line(&self, text: &str) -> &Self {
        let last = self.errors.trim_end().lines().last().unwrap_or_default();
        assert!(
            last.starts_with("ravelin: ") && last.contains(text),
            "`{text}` was expected last: {self}"
        );
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            console,
            errors,
        } = self;
        write!(
            f,
            "status {status}\n--- console\n{console}\n--- ravelin\n{errors}"
        )
    }
}
