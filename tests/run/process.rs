//! A ravelin that runs, and what can be seen of it from outside.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::guest::Guest;
use crate::monitor::monitor_of;
use crate::support::RAVELIN;

/// Beyond this, what a test waits for does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether guests of a few instructions can run here; says so when they cannot.
pub(crate) fn kvm() -> bool {
    let there = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if let Err(error) = &there {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here: {error}");
    }
    there.is_ok()
}

/// `ravelin run` with `arguments`, to its end, with nothing on stdin.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(RAVELIN)
        .arg("run")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Boots `guest` with more `arguments`, to its end.
pub(crate) fn boot(guest: &Guest, arguments: &[&str]) -> Output {
    let kernel = guest.kernel();
    let first: [&OsStr; 2] = ["--kernel".as_ref(), kernel.path().as_os_str()];
    run(first.into_iter().chain(arguments.iter().map(AsRef::as_ref)))
}

/// What was written to stdout.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What was written to stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The last line of stderr.
pub(crate) fn last_line(output: &Output) -> String {
    stderr(output).lines().last().unwrap_or_default().to_owned()
}

/// Asks again until `look` finds something. For what has no event to wait for.
///
/// # Panics
/// When it does not come.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A ravelin with pipes for stdin, stdout and stderr. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Piped {
    child: Option<Child>,
    kernel: crate::guest::Kernel,
    stdout: Option<BufReader<PipeReader>>,
}

impl Piped {
    /// Boots `guest` with more `arguments`.
    pub(crate) fn boot(guest: &Guest, arguments: &[&str]) -> Self {
        let kernel = guest.kernel();
        let (stdout, far_end) = std::io::pipe().unwrap();
        // As small as a pipe can be: what a reader is behind is soon full.
        rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
        let child = Command::new(RAVELIN)
            .arg("run")
            .arg("--kernel")
            .arg(kernel.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(far_end)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child: Some(child),
            kernel,
            stdout: Some(BufReader::new(stdout)),
        }
    }

    /// The process in the jail, once it is there.
    pub(crate) fn monitor(&mut self) -> Option<u32> {
        monitor_of(self.child().id())
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it was not waited for yet")
    }

    /// The process.
    pub(crate) fn pid(&mut self) -> Pid {
        Pid::from_child(self.child())
    }

    fn stdout(&mut self) -> &mut BufReader<PipeReader> {
        self.stdout.as_mut().expect("stdout was not closed yet")
    }

    /// Reads a line of what the guest says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout().read_line(&mut line).unwrap();
        line
    }

    /// Reads `count` bytes of what the guest says.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stdout().read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Types.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child().stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
    }

    /// Ends the input.
    pub(crate) fn close_stdin(&mut self) {
        self.child().stdin = None;
    }

    /// Nobody reads any more.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Reads a line of stderr: ravelin's own word.
    pub(crate) fn message(&mut self) -> String {
        let stderr = self.child().stderr.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while stderr.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn try_end(&mut self) -> Option<i32> {
        self.child().try_wait().unwrap()?.code()
    }

    /// Waits for its end: the status, what nobody has read of stdout, and stderr.
    pub(crate) fn end(mut self) -> Output {
        let mut rest = Vec::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut rest).unwrap();
        }
        let child = self.child.take().expect("it was not waited for yet");
        let mut output = child.wait_with_output().unwrap();
        output.stdout = rest;
        assert!(self.kernel.path().exists());
        output
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
