//! What the process does to itself before the guest runs: a seccomp filter for each thread, by its role.
//!
//! A filter is the base, the role, and what the devices of this VM need. **What it does not list kills the
//! process**; each thread installs its own, and none can take it off again.

mod base;
mod filter;
mod install;
#[cfg(feature = "redteam")]
mod redteam;
mod roles;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::sync::Arc;

use devices::catalog::Needs;
use devices::syscalls::Allowance;
use seccompiler::BpfProgram;

use self::base::{BASE, DEBUG, ENDS, LARGE, THREAD};
use self::roles::{ALONE, API, CELL, CONSOLE, IO, TERMINAL, VCPU, VMM};

pub use self::install::SandboxError;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The main thread.
    Vmm,
    /// The socket's thread.
    Api,
    /// A vCPU's thread.
    Vcpu,
    /// A thread that serves queues.
    Io,
}

/// What becomes of a system call that a filter does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// There are no filters.
    #[default]
    Off,
    /// It is told on stderr, with the rule that would allow it, and done.
    Watch,
    /// It kills the process.
    Kill,
}

/// How a VM's process is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// What becomes of what is not listed.
    pub mode: Mode,
    /// Whether the VM has a socket, through which it may be changed while it runs.
    pub has_socket: bool,
    /// Whether somebody outside opens and removes files for it.
    pub in_cell: bool,
    /// Whether a terminal may be raw, and must be put back.
    pub has_terminal: bool,
}

/// How the threads of one machine are confined: a program for each role, made before any thread needs it.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    mode: Mode,
    programs: Arc<[(Role, BpfProgram)]>,
}

impl Confinement {
    /// For a machine whose devices have these needs.
    ///
    /// # Errors
    /// [`SandboxError::Compile`].
    pub fn new(sandbox: Sandbox, needs: &[Needs]) -> Result<Self, SandboxError> {
        // What is asked of the kernel once and then remembered.
        let _ = rustix::param::page_size();
        let prepare = |role| {
            let allowances = sandbox.allowances(role, needs);
            Ok((role, install::prepare(sandbox.mode, role, &allowances)?))
        };
        let programs = [Role::Vmm, Role::Vcpu, Role::Io].into_iter().map(prepare);
        Ok(Self {
            mode: sandbox.mode,
            programs: match sandbox.mode {
                Mode::Off => Arc::default(),
                _ => programs.collect::<Result<_, _>>()?,
            },
        })
    }

    /// Whether threads are confined at all.
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// Confines the calling thread, for good.
    ///
    /// # Errors
    /// [`SandboxError`]; the thread is as before.
    pub fn enter(&self, role: Role) -> Result<(), SandboxError> {
        match self.programs.iter().find(|(whose, _)| *whose == role) {
            Some((_, program)) => install::install(self.mode, role, program),
            None if self.mode == Mode::Off => Ok(()),
            None => Err(SandboxError::Missing(role)),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmm => "vmm",
            Self::Api => "api",
            Self::Vcpu => "vcpu",
            Self::Io => "io",
        })
    }
}

impl Sandbox {
    /// Confines the calling thread, which serves the socket and knows no device, for good.
    ///
    /// # Errors
    /// [`SandboxError`]; the thread is as before.
    pub fn enter_api(self) -> Result<(), SandboxError> {
        let allowances = self.allowances(Role::Api, &[]);
        let program = install::prepare(self.mode, Role::Api, &allowances)?;
        install::install(self.mode, Role::Api, &program)
    }

    /// Everything that a thread of `role` may ask of the kernel.
    pub fn allowances(self, role: Role, needs: &[Needs]) -> Vec<Allowance> {
        let mut lists = vec![BASE];
        if cfg!(debug_assertions) {
            lists.push(DEBUG);
        }
        if role != Role::Io {
            lists.push(ENDS);
        }
        if let Role::Api | Role::Vcpu = role {
            lists.push(THREAD);
        }
        if self.has_terminal {
            lists.push(TERMINAL);
        }
        let devices = needs.iter();
        match role {
            Role::Vmm => {
                lists.extend([VMM, LARGE]);
                if self.has_terminal {
                    lists.push(CONSOLE);
                }
                lists.extend(devices.clone().map(|needs| needs.start));
                match self.in_cell {
                    true => lists.push(CELL),
                    false => lists.extend(devices.clone().map(|needs| needs.end)),
                }
                if self.has_socket {
                    lists.extend(devices.clone().map(|needs| needs.update));
                }
                if self.has_socket && !self.in_cell {
                    lists.push(ALONE);
                    lists.extend(devices.map(|needs| needs.open));
                }
            }
            Role::Api => lists.extend([API, LARGE]),
            Role::Vcpu => {
                lists.push(VCPU);
                lists.extend(devices.map(|needs| needs.start));
            }
            Role::Io => {
                lists.push(IO);
                lists.extend(devices.flat_map(|needs| [needs.worker, needs.option]));
            }
        }
        lists.concat()
    }
}
