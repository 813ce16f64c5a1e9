//! All containers of the guest.

mod exec;
mod make;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::stream::Stream;

use crate::cgroup::Cgroup;
use crate::disk::Disk;
use crate::error::AgentError;
use crate::events::Events;
use crate::exits::Exits;
use crate::poll::Pollable;
use crate::process::Process;
use crate::spec::Seccomp;

pub(crate) use make::Creation;

/// The most containers, and the most processes of each that are known by name.
const MOST_CONTAINERS: usize = 64;
const MOST_EXECS: usize = 256;

/// Where the agent keeps things.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Roots of containers.
    pub(crate) containers: PathBuf,
    /// What callers have put into the guest.
    pub(crate) files: PathBuf,
    /// What the guest was booted with.
    pub(crate) given: PathBuf,
    /// The cgroup that all containers are in, where there are any.
    pub(crate) cgroup: Option<PathBuf>,
    /// Folders that stand for disks, where the agent is tried out without a guest.
    pub(crate) folders: Option<PathBuf>,
}

/// The containers.
pub(crate) struct Pod {
    pub(crate) places: Places,
    pub(crate) exits: Arc<Exits>,
    pub(crate) events: Events,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    containers: BTreeMap<String, Container>,
    /// Names that are taken by what is being made: of a container, or of a process in one.
    promised: BTreeSet<(String, String)>,
}

/// A container.
struct Container {
    first: Arc<Process>,
    execs: BTreeMap<String, Arc<Process>>,
    cgroup: Option<Cgroup>,
    seccomp: Option<Box<Seccomp>>,
    has_user_namespace: bool,
    /// Unmounted with it.
    _disk: Disk,
}

/// A name that is taken until this is dropped.
struct Promise<'a> {
    pod: &'a Pod,
    name: (String, String),
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.pod.table().promised.remove(&self.name);
    }
}

impl Pod {
    /// Without a container.
    pub(crate) fn new(places: Places, exits: Arc<Exits>, events: Events) -> Self {
        Self {
            places,
            exits,
            events,
            table: Mutex::default(),
        }
    }

    /// A process; an empty `exec` is the container's first.
    pub(crate) fn process(&self, container: &str, exec: &str) -> Result<Arc<Process>, AgentError> {
        let table = self.table();
        let found = table.container(container)?;
        if exec.is_empty() {
            return Ok(Arc::clone(&found.first));
        }
        found
            .execs
            .get(exec)
            .map(Arc::clone)
            .ok_or_else(|| AgentError::NoProcess(container.into(), exec.into()))
    }

    /// A container's cgroup.
    pub(crate) fn cgroup(&self, container: &str) -> Result<Cgroup, AgentError> {
        let table = self.table();
        let found = table.container(container)?;
        found.cgroup.clone().ok_or_else(|| {
            AgentError::State(
                "the guest's kernel has no cgroups of version 2: there is nothing to limit or count with"
                    .into(),
            )
        })
    }

    /// Joins a stream and a connection.
    pub(crate) fn connect(&self, stream: &Stream, other: Pollable) -> Result<(), AgentError> {
        let exec = stream.exec.as_deref().unwrap_or_default();
        let process = self.process(&stream.container, exec)?;
        if process.streams().connect(stream.kind, other) {
            Ok(())
        } else {
            Err(taken(stream))
        }
    }

    /// Whether a stream is there and waits for its connection.
    pub(crate) fn awaits(&self, stream: &Stream) -> Result<(), AgentError> {
        let exec = stream.exec.as_deref().unwrap_or_default();
        let process = self.process(&stream.container, exec)?;
        if process.streams().awaits(stream.kind) {
            Ok(())
        } else {
            Err(taken(stream))
        }
    }

    /// Forgets a process, or with an empty `exec` a container, and ends what is left of that.
    pub(crate) async fn remove(&self, container: &str, exec: &str) -> Result<(), AgentError> {
        if !exec.is_empty() {
            let process = self.process(container, exec)?;
            if process.ended().is_none() && !process.is_new().await {
                return Err(AgentError::State(format!(
                    "the process {exec} runs: send it a signal and wait for its end first"
                )));
            }
            // It has ended by itself.
            let _ = process.signal(libc::SIGKILL);
            if let Some(found) = self.table().containers.get_mut(container) {
                found.execs.remove(exec);
            }
            return Ok(());
        }
        let found = {
            let mut table = self.table();
            table.container(container)?;
            table.containers.remove(container)
        };
        if let Some(found) = found {
            self.events.forget(container);
            found.end().await;
        }
        Ok(())
    }

    /// Every container's name.
    pub(crate) fn names(&self) -> Vec<String> {
        self.table().containers.keys().cloned().collect()
    }

    /// Takes a name for what is being made.
    fn promise(&self, container: &str, exec: &str) -> Result<Promise<'_>, AgentError> {
        let name = (container.to_owned(), exec.to_owned());
        let mut table = self.table();
        let (is_there, count, most, what) = if exec.is_empty() {
            let all = &table.containers;
            (
                all.contains_key(container),
                all.len(),
                MOST_CONTAINERS,
                "containers",
            )
        } else {
            let all = &table.container(container)?.execs;
            (all.contains_key(exec), all.len(), MOST_EXECS, "processes")
        };
        let making = table
            .promised
            .iter()
            .filter(|(other, of)| {
                of.is_empty() == exec.is_empty() && (exec.is_empty() || other == container)
            })
            .count();
        if is_there || table.promised.contains(&name) {
            let name = if exec.is_empty() { container } else { exec };
            return Err(AgentError::Exists(name.into()));
        }
        if count + making >= most {
            return Err(AgentError::TooMany(most, what));
        }
        table.promised.insert(name.clone());
        Ok(Promise { pod: self, name })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn container(&self, name: &str) -> Result<&Container, AgentError> {
        self.containers
            .get(name)
            .ok_or_else(|| AgentError::NoContainer(name.into()))
    }
}

impl Container {
    /// Ends all that is left of it.
    async fn end(self) {
        // The first process's end is that of all in its pid namespace.
        let _ = self.first.signal(libc::SIGKILL);
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
            // A frozen process does not end.
            let _ = cgroup.freeze(false);
        }
        self.first.ended_only().await;
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.remove().await
        {
            guest_init::kmsg::error(&format_args!("cannot remove a cgroup: {error}"));
        }
    }
}

fn taken(stream: &Stream) -> AgentError {
    AgentError::State(format!(
        "the stream '{stream}' was not asked for, or somebody is connected to it already"
    ))
}
