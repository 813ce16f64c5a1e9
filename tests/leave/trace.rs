//! A start under ptrace(2): the system calls of one of its processes are counted, and at a certain one, before the
//! kernel has begun it, some of its processes are killed.

use std::collections::BTreeMap;
use std::fs;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};

use crate::kit::RAVELIN;
use crate::scene::Scene;

/// A process of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// What was started.
    Warden,
    /// Its first child.
    Keeper,
    /// Its second, with all its threads.
    Monitor,
}

/// What has become of a start.
#[derive(Debug)]
pub(crate) struct Traced {
    /// How many system calls the process has begun whose calls are counted.
    pub(crate) calls: u32,
    /// The call at which the others were killed: its number.
    pub(crate) killed_at: Option<u64>,
    /// The exit status of what was started, if it was not killed.
    pub(crate) status: Option<i32>,
}

/// A start that is looked at.
struct Trace {
    counted: Role,
    at: u32,
    kills: Vec<Role>,
    roles: BTreeMap<Pid, Role>,
    warden: Pid,
    /// Whether the warden's program is ravelin already.
    has_begun: bool,
    done: Traced,
}

/// Starts a VM, counts the system calls of `counted` and kills `kills` at the one of number `at`, the first being 1.
/// It returns when no process is left.
#[expect(
    clippy::zombie_processes,
    reason = "whatever ends is waited for, whoever has made it"
)]
pub(crate) fn start(
    scene: &Scene<'_>,
    line: &[String],
    counted: Role,
    at: u32,
    kills: &[Role],
) -> Traced {
    // It stands still before its first instruction, until it is traced.
    let script = "kill -STOP $$; exec \"$@\"";
    let shell = ["-c", script, "sh", RAVELIN].map(str::to_owned);
    let mut command = scene.command("sh", &[&shell[..], line].concat());
    let quiet = || std::process::Stdio::null();
    let child = command.stdout(quiet()).stderr(quiet()).spawn().unwrap();
    let warden = Pid::from_raw(child.id().cast_signed());
    let itself = rustix::process::Pid::from_child(&child);
    rustix::process::waitpid(Some(itself), WaitOptions::UNTRACED).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(warden, options).unwrap();
    kill(warden, Signal::SIGCONT).unwrap();
    let mut trace = Trace {
        counted,
        at,
        kills: kills.to_vec(),
        roles: BTreeMap::from([(warden, Role::Warden)]),
        warden,
        has_begun: false,
        done: Traced {
            calls: 0,
            killed_at: None,
            status: None,
        },
    };
    loop {
        // Also the children that have lost their parents: this is the first process of its namespace.
        let all = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        match rustix::process::wait(all) {
            Ok(Some((pid, status))) => {
                trace.see(Pid::from_raw(pid.as_raw_nonzero().get()), status);
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return trace.done,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Trace {
    fn see(&mut self, pid: Pid, status: WaitStatus) {
        if let (Some(code), true) = (status.exit_status(), pid == self.warden) {
            self.done.status = Some(code);
        }
        let Some(signal) = status.stopping_signal() else {
            return;
        };
        let event = status.as_raw() >> 16;
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.born(pid);
            }
            libc::PTRACE_EVENT_EXEC if pid == self.warden => self.has_begun = true,
            _ => {}
        }
        // What `PTRACE_O_TRACESYSGOOD` marks is a system call's stop (ptrace(2)).
        let is_call = signal == libc::SIGTRAP | 0x80;
        if is_call {
            self.count(pid);
        }
        let passed = Signal::try_from(signal).ok();
        self.resume(pid, passed.filter(|_| event == 0 && !is_call));
    }

    /// A new process or thread, which is traced as its maker is.
    fn born(&mut self, maker: Pid) {
        // The maker may have been killed meanwhile.
        let Ok(number) = ptrace::getevent(maker) else {
            return;
        };
        let role = match self.roles.get(&maker) {
            Some(Role::Warden) if self.roles.values().any(|role| *role == Role::Keeper) => {
                Role::Monitor
            }
            Some(Role::Warden) => Role::Keeper,
            _ => Role::Monitor,
        };
        self.roles
            .insert(Pid::from_raw(number.try_into().unwrap()), role);
    }

    fn count(&mut self, pid: Pid) {
        let Ok(info) = ptrace::syscall_info(pid) else {
            return;
        };
        let is_counted = self.has_begun && self.roles.get(&pid) == Some(&self.counted);
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY || !is_counted {
            return;
        }
        self.done.calls += 1;
        if self.done.calls == self.at {
            self.done.killed_at = ptrace::getregs(pid)
                .ok()
                .map(|registers| registers.orig_rax);
            self.kill();
        }
    }

    fn kill(&self) {
        for role in &self.kills {
            let of_role = self.roles.iter().filter(|(_, other)| *other == role);
            // The first is the process, whose threads have larger numbers or none of their own to be killed by.
            for (pid, _) in of_role {
                let _ = kill(*pid, Signal::SIGKILL);
            }
        }
    }

    /// Lets it go on, to its next system call if these are counted.
    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        let counts = self
            .roles
            .get(&pid)
            .is_none_or(|role| *role == self.counted);
        // One that was killed meanwhile needs nothing.
        let _ = match counts {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
    }
}

/// What a system call is called, for messages.
pub(crate) fn name(number: u64) -> String {
    let table = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let table = fs::read_to_string(table).unwrap_or_default();
    let end = format!(" {number}");
    let line = table.lines().find(|line| line.ends_with(&end));
    let name = line.and_then(|line| line.strip_prefix("#define __NR_"));
    let name = name.and_then(|line| line.split_whitespace().next());
    name.map_or_else(|| number.to_string(), str::to_owned)
}
