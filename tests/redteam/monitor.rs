//! A monitor whose threads attack when they are told.
#![expect(unsafe_code, reason = "a signal to a thread has no safe wrapper")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::arena::{Arena, User};
use crate::page::{Outcome, Page};
use crate::shim::Shim;
use crate::support::monitor_of;

/// Longer than any attack takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A thread's part in the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Vmm,
    Api,
    Vcpu,
    Io,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Vmm, Self::Api, Self::Vcpu, Self::Io];

    /// What its thread is called; the main one is known by its number.
    fn thread(self) -> &'static str {
        match self {
            Self::Vmm => "",
            Self::Api => "api",
            Self::Vcpu => "vcpu0",
            Self::Io => "io0",
        }
    }
}

/// Who has started a monitor.
#[derive(Debug)]
enum Starter {
    /// The test: this is the warden, or the monitor where there is no jail.
    Test(Child),
    Shim {
        _held: Shim,
    },
}

/// A monitor with one vCPU, a disk and a socket, whose guest waits for ever. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Monitor {
    starter: Starter,
    pid: u32,
    process: OwnedFd,
    page: Page,
    socket: PathBuf,
}

impl Monitor {
    pub(crate) fn start(arena: &Arena, user: User, flags: &[&str]) -> Self {
        let (page, socket) = (Page::new(), arena.socket());
        if user == User::Shim {
            let shim = Shim::start(arena, flags, &page);
            let pid = shim.monitor();
            return Self::new(Starter::Shim { _held: shim }, pid, page, socket);
        }
        let mut command = Command::new(arena.program());
        command
            .args(["api", "--api-sock"])
            .arg(&socket)
            .arg("--config")
            .arg(arena.config())
            .args(flags)
            .env("RAVELIN_RUNTIME_DIR", arena.runtime(user))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(page.file());
        if user == User::Ordinary {
            command.uid(user.id()).gid(user.id());
        }
        let mut first = command.spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(first.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        if line != "here\n" {
            let _ = first.kill();
            panic!("{flags:?}: no guest: {:?}: {}", first.wait(), page.said());
        }
        let jailed = monitor_of(first.id());
        let pid = jailed.unwrap_or_else(|| first.id());
        Self::new(Starter::Test(first), pid, page, socket)
    }

    fn new(starter: Starter, pid: u32, page: Page, socket: PathBuf) -> Self {
        let process = pidfd_open(process(pid), PidfdFlags::empty()).unwrap();
        Self {
            starter,
            pid,
            process,
            page,
            socket,
        }
    }

    /// Its number, as the test sees it.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How many attacks it knows.
    pub(crate) fn attacks(&self) -> u32 {
        self.page.attacks()
    }

    /// Has a thread attack.
    pub(crate) fn attack(&mut self, role: Role, attack: &str, victim: u32) -> Outcome {
        let thread = self.thread(role);
        let target = match attack {
            "another-vm" => self.open("/dev/kvm"),
            // The socket to whoever has started it: the cell's one descriptor beside stdin, stdout and stderr.
            "ask-warden" => 3,
            _ => victim,
        };
        self.page.ask(attack, target);
        // SAFETY: the call takes three numbers.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, self.pid, thread, libc::SIGRTMIN() + 5) };
        assert_eq!(sent, 0, "{role:?} cannot be told");
        let begin = Instant::now();
        loop {
            // It is asked after the end, so that what was written before is seen.
            let ended = self.has_ended();
            if let Some(outcome) = self.page.outcome() {
                return outcome;
            }
            if ended {
                return Outcome::Killed(self.signal());
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{role:?} does not end {attack}: {}",
                self.page.said()
            );
            std::thread::yield_now();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    /// The signal that has ended it, as whoever has started it tells.
    fn signal(&mut self) -> i32 {
        let first = match &mut self.starter {
            Starter::Test(first) => first,
            Starter::Shim { .. } => return Shim::signal(&self.page),
        };
        let status = first.wait().unwrap();
        let told = status.code().map(|code| code - 128);
        status.signal().or(told).unwrap()
    }

    /// The descriptor that is a file; 0 where it is not open.
    fn open(&self, path: &str) -> u32 {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
        let found = open
            .flatten()
            .find(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == Path::new(path)));
        found.map_or(0, |fd| fd.file_name().to_str().unwrap().parse().unwrap())
    }

    fn thread(&self, role: Role) -> u32 {
        if role == Role::Vmm {
            return self.pid;
        }
        let find = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
            tasks.flatten().find(|task| {
                let name = fs::read_to_string(task.path().join("comm"));
                name.is_ok_and(|name| name.trim_end() == role.thread())
            })
        };
        // A thread that has just begun gives itself its name.
        let begin = Instant::now();
        let thread = loop {
            if let Some(thread) = find() {
                break thread;
            }
            assert!(begin.elapsed() < PATIENCE, "there is no {role:?}");
            std::thread::yield_now();
        };
        thread.file_name().to_str().unwrap().parse().unwrap()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Whoever has started it clears up.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        if let Starter::Test(first) = &mut self.starter {
            let _ = first.wait();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap()
}
