//! A microVM and the container in it.
//!
//! Everything that is asked of the agent is asked without a lock held; a process's end is noted, and told containerd,
//! under the lock, once. **When the VM, its agent, or the agent's first call ends, so do all processes, and containerd
//! hears of each.**

mod control;
mod create;
mod error;
mod exits;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::events::task::{TaskDelete, TaskExecAdded, TaskExecStarted, TaskStart};
use protobuf::MessageField;
use protocol::api::{Empty, ExecRequest, ProcessRequest, SignalRequest, StartReply};
use tokio::sync::watch;

pub(crate) use self::create::Order;
pub(crate) use self::error::PodError;
use crate::agent::{Agent, AgentError};
use crate::arguments::Arguments;
use crate::events::Events;
use crate::process::{Exit, KILLED, Phase, Process, ended};
use crate::rootfs::RootDisk;
use crate::stdio::Paths;
use crate::vm::Vm;
use crate::{address, bundle, delete, spec};
use image::config::Config;

/// What SIGKILL is.
const SIGKILL: u32 = 9;

/// A shim's pod.
#[derive(Clone)]
pub(crate) struct Pod {
    shared: Arc<Shared>,
}

struct Shared {
    arguments: Arguments,
    config: Config,
    /// The shim's own directory.
    directory: PathBuf,
    events: Events,
    state: Mutex<State>,
    /// Whether the shim is to end.
    over: watch::Sender<bool>,
}

/// What there is of the pod.
enum State {
    /// Nothing yet.
    Empty,
    /// It is being made, or unmade.
    Busy,
    /// It is there.
    Here(Box<Container>),
    /// It was there.
    Gone,
}

/// The container.
struct Container {
    id: String,
    bundle: PathBuf,
    vm: Arc<Vm>,
    agent: Arc<Agent>,
    init: Process,
    execs: BTreeMap<String, Process>,
    /// In use as long as the VM is there.
    _disk: RootDisk,
    /// Whether its end was asked for.
    is_doomed: bool,
}

impl Container {
    fn process(&self, exec: &str) -> Result<&Process, PodError> {
        match exec {
            "" => Ok(&self.init),
            exec => self
                .execs
                .get(exec)
                .ok_or_else(|| PodError::NoProcess(exec.to_owned())),
        }
    }

    fn process_mut(&mut self, exec: &str) -> Result<&mut Process, PodError> {
        match exec {
            "" => Ok(&mut self.init),
            exec => self
                .execs
                .get_mut(exec)
                .ok_or_else(|| PodError::NoProcess(exec.to_owned())),
        }
    }

    fn request(&self, exec: &str) -> ProcessRequest {
        ProcessRequest {
            container: self.id.clone(),
            exec: exec.to_owned(),
            ..Default::default()
        }
    }
}

/// What a process is, for containerd.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The container's directory.
    pub(crate) bundle: PathBuf,
    /// Its number.
    pub(crate) pid: u32,
    /// What it is doing.
    pub(crate) phase: Phase,
    /// Where its streams are.
    pub(crate) paths: Paths,
}

impl Pod {
    /// A pod with nothing in it.
    pub(crate) fn new(arguments: Arguments, config: Config, events: Events) -> Self {
        let directory = address::directory(&arguments);
        let shared = Shared {
            arguments,
            config,
            directory,
            events,
            state: Mutex::new(State::Empty),
            over: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits until the shim is to end.
    pub(crate) async fn over(&self) {
        // The sender is this value's own.
        let _ = self.shared.over.subscribe().wait_for(|over| *over).await;
    }

    /// Starts a process that is made.
    ///
    /// # Errors
    /// When there is none, or the agent cannot.
    pub(crate) async fn start(&self, id: &str, exec: &str) -> Result<u32, PodError> {
        let (agent, request) =
            self.with(id, |container| match container.process(exec)?.phase() {
                Phase::Created => Ok((Arc::clone(&container.agent), container.request(exec))),
                _ => Err(PodError::State("it has been started before".to_owned())),
            })?;
        let reply: StartReply = match agent.call("Start", &request).await {
            Ok(reply) => reply,
            Err(error) => {
                self.finish(
                    exec,
                    Exit {
                        status: KILLED,
                        at: SystemTime::now(),
                    },
                    false,
                );
                return Err(error.into());
            }
        };
        let pid = self.with(id, |container| {
            let container_id = container.id.clone();
            let process = container.process_mut(exec)?;
            if !exec.is_empty() {
                process.pid = reply.pid;
            }
            let pid = process.pid;
            process.advance(Phase::Running);
            match exec {
                "" => self.shared.events.tell(
                    "/tasks/start",
                    &TaskStart {
                        container_id,
                        pid,
                        ..Default::default()
                    },
                ),
                exec => {
                    let event = TaskExecStarted {
                        container_id,
                        exec_id: exec.to_owned(),
                        pid,
                        ..Default::default()
                    };
                    self.shared.events.tell("/tasks/exec-started", &event);
                }
            }
            Ok(pid)
        })?;
        tokio::spawn(self.clone().await_exit(agent, request));
        Ok(pid)
    }

    /// A further process, made and not started.
    ///
    /// # Errors
    /// When there is one of that name, or the agent cannot.
    pub(crate) async fn exec(
        &self,
        id: &str,
        exec: &str,
        process: &[u8],
        paths: Paths,
    ) -> Result<(), PodError> {
        protocol::name::check(exec)?;
        let (agent, container) =
            self.with(id, |container| match container.execs.contains_key(exec) {
                true => Err(PodError::Exists(exec.to_owned())),
                false if !container.init.phase().is_alive() => {
                    Err(PodError::State("it has ended".to_owned()))
                }
                false => Ok((Arc::clone(&container.agent), container.id.clone())),
            })?;
        let request = ExecRequest {
            container,
            exec: exec.to_owned(),
            process: spec::process_into_guest(process)?,
            streams: MessageField::some(create::streams(&paths)),
            ..Default::default()
        };
        let _: Empty = agent.call("Exec", &request).await?;
        let (stdin, outputs) = self.connect(id, Some(exec), &paths).await?;
        self.with(id, |container| {
            let mut process = Process::new(0, paths);
            (process.stdin, process.outputs) = (stdin, outputs);
            container.execs.insert(exec.to_owned(), process);
            let event = TaskExecAdded {
                container_id: container.id.clone(),
                exec_id: exec.to_owned(),
                ..Default::default()
            };
            self.shared.events.tell("/tasks/exec-added", &event);
            Ok(())
        })
    }

    /// Signals a process.
    ///
    /// # Errors
    /// When it has ended, or the agent cannot.
    pub(crate) async fn kill(
        &self,
        id: &str,
        exec: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), PodError> {
        let (agent, request, phase) = self.with(id, |container| {
            let phase = container.process(exec)?.phase();
            container.is_doomed |= exec.is_empty() && signal == SIGKILL;
            Ok((Arc::clone(&container.agent), container.request(exec), phase))
        })?;
        match phase {
            Phase::Stopped(_) => return Err(PodError::NoProcess("which has ended".to_owned())),
            Phase::Created => {
                // It runs nothing yet that could hear it.
                let status = 128 + signal.min(127);
                self.finish(
                    exec,
                    Exit {
                        status,
                        at: SystemTime::now(),
                    },
                    false,
                );
                return Ok(());
            }
            Phase::Running | Phase::Paused => {}
        }
        let request = SignalRequest {
            container: request.container,
            exec: request.exec,
            signal,
            all,
            ..Default::default()
        };
        if signal == SIGKILL && exec.is_empty() {
            tokio::spawn(self.clone().make_sure(id.to_owned()));
        }
        match agent.call::<_, Empty>("Signal", &request).await {
            // An agent that does not answer takes its VM with it, which is what was asked for.
            Err(AgentError::Wire(_)) if signal == SIGKILL => Ok(()),
            done => done.map(drop).map_err(Into::into),
        }
    }

    /// Waits for a process's end.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) async fn wait(&self, id: &str, exec: &str) -> Result<Exit, PodError> {
        let phases = self.with(id, |container| Ok(container.process(exec)?.watch()))?;
        Ok(ended(phases).await)
    }

    /// What a process is now.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn look(&self, id: &str, exec: &str) -> Result<Snapshot, PodError> {
        self.with(id, |container| {
            let process = container.process(exec)?;
            Ok(Snapshot {
                bundle: container.bundle.clone(),
                pid: process.pid,
                phase: process.phase(),
                paths: process.paths.clone(),
            })
        })
    }

    /// Forgets a process that has ended; with the container's first, the VM and all that was made for it.
    ///
    /// # Errors
    /// When it runs.
    pub(crate) async fn delete(&self, id: &str, exec: &str) -> Result<(u32, Exit), PodError> {
        if exec.is_empty() {
            self.delete_container(id).await
        } else {
            self.delete_exec(id, exec).await
        }
    }

    async fn delete_exec(&self, id: &str, exec: &str) -> Result<(u32, Exit), PodError> {
        let (agent, request, gone) = self.with(id, |container| {
            let (pid, exit) = forgettable(container.process(exec)?)?;
            container.execs.remove(exec);
            Ok((
                Arc::clone(&container.agent),
                container.request(exec),
                (pid, exit),
            ))
        })?;
        // An agent that has forgotten it already may say so.
        let _ = agent.call::<_, Empty>("Remove", &request).await;
        Ok(gone)
    }

    async fn delete_container(&self, id: &str) -> Result<(u32, Exit), PodError> {
        let gone = self.with(id, |container| forgettable(&container.init))?;
        let state = std::mem::replace(&mut *self.lock(), State::Busy);
        if let State::Here(container) = state {
            container.vm.end().await;
        }
        self.clear().await;
        *self.lock() = State::Gone;
        let (pid, exit) = gone;
        let event = TaskDelete {
            container_id: id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        };
        self.shared.events.tell("/tasks/delete", &event);
        Ok(gone)
    }

    /// Ends the shim, if nothing is in it.
    pub(crate) async fn shut_down(&self, now: bool) {
        let is_empty = matches!(*self.lock(), State::Empty | State::Gone);
        if is_empty || now {
            self.end().await;
        }
    }

    /// Ends what there is, and the shim.
    pub(crate) async fn end(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Gone);
        if let State::Here(container) = state {
            container.vm.end().await;
        }
        self.clear().await;
        self.shared.events.flush().await;
        self.shared.over.send_replace(true);
    }

    /// Removes what was made for the VM.
    async fn clear(&self) {
        let directory = self.shared.directory.clone();
        // What cannot be removed is said in the log.
        let _ = tokio::task::spawn_blocking(move || delete::clear(&directory)).await;
    }

    /// The number of the container's first process.
    pub(crate) fn init_pid(&self, id: &str) -> u32 {
        self.with(id, |container| Ok(container.init.pid))
            .unwrap_or_default()
    }

    /// What is noted for whoever clears up.
    fn note(&self, note: &bundle::Note) -> Result<(), PodError> {
        note.write(&self.shared.directory)
            .map_err(|error| PodError::File(self.shared.directory.clone(), error))
    }

    fn with<T>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Container) -> Result<T, PodError>,
    ) -> Result<T, PodError> {
        match &mut *self.lock() {
            State::Here(container) if container.id == id => act(container),
            _ => Err(PodError::NoContainer(id.to_owned())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Number and end of a process that may be forgotten: it has ended, or has never run.
fn forgettable(process: &Process) -> Result<(u32, Exit), PodError> {
    match process.phase() {
        Phase::Stopped(exit) => Ok((process.pid, exit)),
        Phase::Created => Ok((
            process.pid,
            Exit {
                status: KILLED,
                at: SystemTime::now(),
            },
        )),
        Phase::Running | Phase::Paused => Err(PodError::State("it runs: kill it first".to_owned())),
    }
}
