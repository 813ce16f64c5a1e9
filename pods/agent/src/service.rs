//! What callers ask for, each by its rpc: names and sizes are looked at here, the rest is the pod's.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::api::{
    ContainerRequest, CreateReply, CreateRequest, Empty, Event, ExecRequest, PidsReply,
    ProcessRequest, PutFileRequest, ResizePtyRequest, SetupRequest, SignalRequest, StartReply,
    StatsReply, Streams, UpdateRequest, VersionReply, WaitReply,
};
use protocol::service::Agent;
use protocol::{PROTOCOL, name};
use tokio::sync::Notify;
use ttrpc::r#async::TtrpcContext;

use crate::disk::{Source, Writable};
use crate::error::AgentError;
use crate::pod::{Creation, Pod};
use crate::process::{Process, Wanted};
use crate::spec::{ConsoleSize, Process as ProcessSpec, Resources, Spec};
use crate::{files, setup};

/// The largest number of a signal.
const LAST_SIGNAL: u32 = 64;

/// Answers callers.
pub(crate) struct Service {
    pub(crate) pod: Arc<Pod>,
    /// Told when a caller wants the guest to end.
    pub(crate) shutdown: Arc<Notify>,
}

impl Service {
    async fn create_container(&self, request: CreateRequest) -> Result<CreateReply, AgentError> {
        name::check(&request.container)?;
        let mut spec = Spec::parse(&request.spec)?;
        let wanted = wanted(&request.streams, spec.process().terminal)?;
        if let Some(process) = &mut spec.process {
            size(process, &request.streams);
        }
        let root = request.root.into_option().unwrap_or_default();
        let source = match &self.pod.places.folders {
            Some(folders) => {
                name::check(&root.serial)?;
                Source::Folder(folders.join(&root.serial))
            }
            None => Source::Disk {
                serial: root.serial,
                filesystem: root.filesystem,
            },
        };
        let creation = Creation {
            name: request.container,
            spec,
            source,
            writable: Writable {
                bytes: root.writable_bytes,
                is_read_only: root.read_only,
            },
            wanted,
        };
        let first = self.pod.create(creation).await?;
        let mut reply = CreateReply::new();
        reply.pid = first.pid;
        Ok(reply)
    }

    async fn exec_process(&self, request: ExecRequest) -> Result<Empty, AgentError> {
        name::check(&request.container)?;
        name::check(&request.exec)?;
        let mut process = ProcessSpec::parse(&request.process)?;
        let wanted = wanted(&request.streams, process.terminal)?;
        size(&mut process, &request.streams);
        self.pod
            .exec(&request.container, &request.exec, process, wanted)
            .await?;
        Ok(Empty::new())
    }

    async fn wait_for(&self, request: &ProcessRequest) -> Result<WaitReply, AgentError> {
        let process = self.process(&request.container, &request.exec)?;
        let exit = process.wait().await;
        // Whoever hears of the end can hear of its reason.
        self.pod.events.look();
        let mut reply = WaitReply::new();
        reply.status = exit.status.into();
        reply.exited_at_ns = exit.at_ns;
        Ok(reply)
    }

    fn send_signal(&self, request: &SignalRequest) -> Result<Empty, AgentError> {
        let number = i32::try_from(request.signal)
            .ok()
            .filter(|_| (1..=LAST_SIGNAL).contains(&request.signal))
            .ok_or_else(|| {
                AgentError::Asked(format!(
                    "{} is no signal: 1 to {LAST_SIGNAL} was expected",
                    request.signal
                ))
            })?;
        let process = self.process(&request.container, &request.exec)?;
        if !request.all {
            process.signal(number)?;
            return Ok(Empty::new());
        }
        match self.pod.cgroup(&request.container) {
            Ok(cgroup) if number == libc::SIGKILL => cgroup.kill(),
            Ok(cgroup) => {
                for pid in cgroup.processes() {
                    // It has ended by itself.
                    let _ = crate::raw::kill(pid, number);
                }
            }
            Err(_) => process.signal(number)?,
        }
        Ok(Empty::new())
    }

    async fn freeze(&self, container: &str, is_frozen: bool) -> Result<Empty, AgentError> {
        name::check(container)?;
        let cgroup = self.pod.cgroup(container)?;
        cgroup.freeze(is_frozen)?;
        if !cgroup.is_settled(is_frozen).await {
            return Err(AgentError::Failed(format!(
                "the processes of {container} do not all stop"
            )));
        }
        Ok(Empty::new())
    }

    fn process(&self, container: &str, exec: &str) -> Result<Arc<Process>, AgentError> {
        name::check(container)?;
        if !exec.is_empty() {
            name::check(exec)?;
        }
        self.pod.process(container, exec)
    }
}

/// Which streams are asked for: a terminal is one for all.
fn wanted(streams: &Streams, terminal: bool) -> Result<Wanted, AgentError> {
    if terminal && streams.stderr {
        return Err(AgentError::Asked(
            "a process with a terminal prints all on stdout: ask for no stderr".into(),
        ));
    }
    Ok(Wanted {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        terminal,
    })
}

/// The first size of a terminal, which a caller may know better than the description.
fn size(process: &mut ProcessSpec, streams: &Streams) {
    let number = |number| u16::try_from(number).unwrap_or(u16::MAX);
    if let Some(size) = streams.size.as_ref() {
        process.console_size = Some(ConsoleSize {
            height: number(size.rows),
            width: number(size.columns),
        });
    }
}

type Answer<T> = ttrpc::Result<T>;

#[async_trait]
impl Agent for Service {
    async fn version(&self, _: &TtrpcContext, _: Empty) -> Answer<VersionReply> {
        let mut reply = VersionReply::new();
        reply.version = env!("CARGO_PKG_VERSION").into();
        reply.protocol = PROTOCOL;
        let system = rustix::system::uname();
        reply.kernel = system.release().to_string_lossy().into_owned();
        Ok(reply)
    }

    async fn setup(&self, _: &TtrpcContext, request: SetupRequest) -> Answer<Empty> {
        setup::apply(&request, &self.pod.places.files)?;
        Ok(Empty::new())
    }

    async fn create(&self, _: &TtrpcContext, request: CreateRequest) -> Answer<CreateReply> {
        Ok(self.create_container(request).await?)
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecRequest) -> Answer<Empty> {
        Ok(self.exec_process(request).await?)
    }

    async fn start(&self, _: &TtrpcContext, request: ProcessRequest) -> Answer<StartReply> {
        let process = self.process(&request.container, &request.exec)?;
        process.start().await?;
        let mut reply = StartReply::new();
        reply.pid = process.pid;
        Ok(reply)
    }

    async fn signal(&self, _: &TtrpcContext, request: SignalRequest) -> Answer<Empty> {
        Ok(self.send_signal(&request)?)
    }

    async fn wait(&self, _: &TtrpcContext, request: ProcessRequest) -> Answer<WaitReply> {
        Ok(self.wait_for(&request).await?)
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let process = self.process(&request.container, &request.exec)?;
        let size = request.size.into_option().unwrap_or_default();
        let number = |number| u16::try_from(number).unwrap_or(u16::MAX);
        process.resize(number(size.rows), number(size.columns))?;
        Ok(Empty::new())
    }

    async fn close_stdin(&self, _: &TtrpcContext, request: ProcessRequest) -> Answer<Empty> {
        let process = self.process(&request.container, &request.exec)?;
        process.streams().close_input();
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, request: ContainerRequest) -> Answer<StatsReply> {
        Ok(self.pod.cgroup(&request.container)?.stats())
    }

    async fn pids(&self, _: &TtrpcContext, request: ContainerRequest) -> Answer<PidsReply> {
        let mut reply = PidsReply::new();
        reply.pids = self.pod.cgroup(&request.container)?.processes();
        Ok(reply)
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateRequest) -> Answer<Empty> {
        let resources = Resources::parse(&request.resources).map_err(AgentError::from)?;
        self.pod.cgroup(&request.container)?.set(&resources)?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: ContainerRequest) -> Answer<Empty> {
        Ok(self.freeze(&request.container, true).await?)
    }

    async fn resume(&self, _: &TtrpcContext, request: ContainerRequest) -> Answer<Empty> {
        Ok(self.freeze(&request.container, false).await?)
    }

    async fn put_file(&self, _: &TtrpcContext, request: PutFileRequest) -> Answer<Empty> {
        files::put(&self.pod.places.files, &request)?;
        Ok(Empty::new())
    }

    async fn remove(&self, _: &TtrpcContext, request: ProcessRequest) -> Answer<Empty> {
        self.pod.remove(&request.container, &request.exec).await?;
        Ok(Empty::new())
    }

    async fn next_event(&self, _: &TtrpcContext, _: Empty) -> Answer<Event> {
        let mut event = Event::new();
        event.container = self.pod.events.next().await;
        event.oom = true;
        Ok(event)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: Empty) -> Answer<Empty> {
        self.shutdown.notify_one();
        Ok(Empty::new())
    }
}
