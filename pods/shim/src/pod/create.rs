//! A container's beginning: its disk, its VM, the agent's first call, its first process and that one's streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use containerd_shim_protos::types::mount::Mount;
use protobuf::MessageField;
use protocol::api::{
    CreateReply, CreateRequest, Empty, Root, SetupRequest, Size as TtySize, Streams,
};
use protocol::stream::{Kind, Stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{Container, Pod, PodError, State};
use crate::agent::{Agent, dial};
use crate::bundle::{self, Note};
use crate::files::Files;
use crate::laps::Laps;
use crate::process::Process;
use crate::rootfs::{self, RootDisk};
use crate::spec::Spec;
use crate::stdio::{Feed, Paths, Pump, Sink, Source};
use crate::vm::size::Size;
use crate::vm::{self, Plan, Vm};
use crate::{address, cgroup, delete};

/// The filesystem of the disks.
const FILESYSTEM: &str = "erofs";
/// The drive that the root is on, and its serial.
const ROOT: &str = "rootfs";
/// A terminal's size until somebody says another.
const TERMINAL: (u32, u32) = (24, 80);

/// What containerd asks for.
#[derive(Debug)]
pub(crate) struct Order {
    /// The container's name.
    pub(crate) id: String,
    /// Its directory.
    pub(crate) bundle: PathBuf,
    /// What its root is to be mounted of.
    pub(crate) rootfs: Vec<Mount>,
    /// Where its first process's streams are.
    pub(crate) paths: Paths,
}

/// A VM with an agent that answers.
struct Ready {
    vm: Arc<Vm>,
    agent: Arc<Agent>,
    call: UnixStream,
}

impl Pod {
    /// Makes a container, with its VM and its first process, which does not run yet.
    ///
    /// # Errors
    /// What kept it from being there; nothing of it is left.
    pub(crate) async fn create(&self, order: Order) -> Result<u32, PodError> {
        protocol::name::check(&order.id)?;
        {
            let mut state = self.lock();
            match &*state {
                State::Empty => *state = State::Busy,
                State::Here(container) if container.id == order.id => {
                    return Err(PodError::Exists(order.id));
                }
                _ => return Err(PodError::Second(order.id)),
            }
        }
        match self.make(&order).await {
            Ok(pid) => Ok(pid),
            Err(error) => {
                log::warn!("container {} is not made: {error}", order.id);
                self.clear().await;
                *self.lock() = State::Empty;
                Err(error)
            }
        }
    }

    async fn make(&self, order: &Order) -> Result<u32, PodError> {
        let directory = self.shared.directory.clone();
        // What a killed shim of this name has left.
        self.clear().await;
        let text = bundle::spec(&order.bundle)
            .map_err(|error| PodError::File(order.bundle.join("config.json"), error))?;
        let mut spec = Spec::read(&text)?;
        let files = Files::take(&mut spec, &order.id)?;
        bundle::make_directory(&directory)
            .map_err(|error| PodError::File(directory.clone(), error))?;
        let mut laps = Laps::begin();
        let disk = self.disk(order).await?;
        laps.lap(if disk.disk.was_there {
            "disk (cached)"
        } else {
            "disk"
        });
        let plan = Plan {
            name: address::vm_name(&self.shared.arguments),
            cgroup: spec.cgroups_path().and_then(cgroup::path),
            size: Size::of(spec.limits(), &self.shared.config),
            disk: disk
                .file()
                .try_clone()
                .map_err(|error| PodError::File("the container's disk".into(), error))?,
            directory,
        };
        let ready = self.boot(&plan, disk.alone.clone(), &mut laps).await?;
        let made = self.fill(order, spec, &files, &ready.agent).await;
        let (stdin, outputs) = match made {
            Ok(streams) => streams,
            Err(error) => {
                ready.vm.end().await;
                return Err(error);
            }
        };
        laps.lap("container");
        log::info!("container {} is made: {laps}", order.id);
        let monitor = plan
            .cgroup
            .as_deref()
            .and_then(|path| cgroup::monitor(path, &plan.name, ready.vm.pid));
        let mut init = Process::new(monitor.unwrap_or(ready.vm.pid), order.paths.clone());
        (init.stdin, init.outputs) = (stdin, outputs);
        Ok(self.settle(order, ready, init, disk))
    }

    /// The container is there: from now on it ends by being deleted.
    fn settle(&self, order: &Order, ready: Ready, init: Process, disk: RootDisk) -> u32 {
        let Ready { vm, agent, call } = ready;
        let (pid, id) = (init.pid, order.id.clone());
        let container = Container {
            id: id.clone(),
            bundle: order.bundle.clone(),
            vm: Arc::clone(&vm),
            agent: Arc::clone(&agent),
            init,
            execs: std::collections::BTreeMap::new(),
            _disk: disk,
            is_doomed: false,
        };
        *self.lock() = State::Here(Box::new(container));
        self.shared
            .events
            .tell("/tasks/create", &created(order, pid));
        tokio::spawn(self.clone().guard(id.clone(), vm, Arc::clone(&agent), call));
        tokio::spawn(self.clone().follow(id, agent));
        pid
    }

    async fn disk(&self, order: &Order) -> Result<RootDisk, PodError> {
        let root = rootfs::Root::read(&order.rootfs, &order.bundle.join("rootfs"))?;
        let config = &self.shared.config;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let once = format!(
            "{} {} {now}",
            self.shared.directory.display(),
            std::process::id()
        );
        let place = self.shared.directory.join("root");
        Ok(rootfs::disk(
            root,
            config.cache.clone(),
            config.cache_mib << 20,
            once,
            place,
        )
        .await?)
    }

    /// Starts the VM and waits for its agent's call.
    async fn boot(
        &self,
        plan: &Plan,
        disk: Option<PathBuf>,
        laps: &mut Laps,
    ) -> Result<Ready, PodError> {
        let config = &self.shared.config;
        let socket = vm::vsock(&plan.directory);
        let (listener, path) =
            dial::await_call(&socket).map_err(|error| PodError::File(socket.clone(), error))?;
        let mut note = Note {
            cgroup: plan.cgroup.clone(),
            disk,
            ..Note::default()
        };
        self.note(&note)?;
        let vm = Arc::new(Vm::start(plan, config)?);
        note.warden = vm.pid;
        note.warden_start = delete::start_time(vm.pid).unwrap_or_default();
        self.note(&note)?;
        let met = async {
            vm.await_socket().await?;
            laps.lap("jail");
            vm.run(plan, config).await?;
            laps.lap("monitor");
            let call = self.answer(&listener, &vm).await?;
            laps.lap("kernel");
            let stream = dial::dial(&socket, protocol::AGENT_PORT, config.answer_limit()).await?;
            let agent = Agent::meet(stream, config.answer_limit()).await?;
            laps.lap("agent");
            Ok::<_, PodError>((call, agent))
        };
        let met = met.await;
        // The guest has called; it is not to call again.
        drop(listener);
        let _ = std::fs::remove_file(path);
        match met {
            Ok((call, agent)) => Ok(Ready {
                vm,
                agent: Arc::new(agent),
                call,
            }),
            Err(error) => {
                vm.end().await;
                Err(error)
            }
        }
    }

    /// Takes the agent's first call.
    async fn answer(&self, listener: &UnixListener, vm: &Vm) -> Result<UnixStream, PodError> {
        let limit = self.shared.config.start_limit();
        let called = async {
            tokio::select! {
                call = listener.accept() => call.map(|(stream, _)| stream).map_err(|error| PodError::Guest(error.to_string())),
                () = vm.ended() => Err(PodError::Guest(format!("the VM ended: {}", vm.last_words().await))),
            }
        };
        match timeout(limit, called).await {
            Ok(called) => called,
            Err(_) => Err(PodError::Guest(format!(
                "its agent did not call within {} s; the last of its console: {}",
                limit.as_secs(),
                vm.last_words().await
            ))),
        }
    }

    /// Puts the container into a guest that is ready.
    async fn fill(
        &self,
        order: &Order,
        spec: Spec,
        files: &Files,
        agent: &Agent,
    ) -> Result<(Option<Feed>, Vec<Pump>), PodError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let setup = SetupRequest {
            hostname: match spec.hostname() {
                "" => order.id.clone(),
                name => name.to_owned(),
            },
            time_ns: u64::try_from(now.as_nanos()).unwrap_or_default(),
            ..Default::default()
        };
        let _: Empty = agent.call("Setup", &setup).await?;
        for put in &files.puts {
            let _: Empty = agent.call("PutFile", put).await?;
        }
        let root = Root {
            serial: ROOT.to_owned(),
            filesystem: FILESYSTEM.to_owned(),
            read_only: spec.is_read_only(),
            ..Default::default()
        };
        let request = CreateRequest {
            container: order.id.clone(),
            spec: spec.into_guest(&order.id)?,
            root: MessageField::some(root),
            streams: MessageField::some(streams(&order.paths)),
            ..Default::default()
        };
        let _: CreateReply = agent.call("Create", &request).await?;
        self.connect(&order.id, None, &order.paths).await
    }

    /// Connects the streams of a process that is made and not started.
    pub(super) async fn connect(
        &self,
        id: &str,
        exec: Option<&str>,
        paths: &Paths,
    ) -> Result<(Option<Feed>, Vec<Pump>), PodError> {
        let socket = vm::vsock(&self.shared.directory);
        let limit = self.shared.config.answer_limit();
        let whose = |kind| Stream {
            container: id.to_owned(),
            exec: exec.map(str::to_owned),
            kind,
        };
        let has = streams(paths);
        let mut stdin = None;
        if has.stdin {
            let source = Source::open(&paths.stdin)?;
            stdin =
                Some(source.feed(dial::dial_stream(&socket, &whose(Kind::Stdin), limit).await?));
        }
        let mut outputs = Vec::new();
        for (is_there, path, kind) in [
            (has.stdout, &paths.stdout, Kind::Stdout),
            (has.stderr, &paths.stderr, Kind::Stderr),
        ] {
            if is_there {
                let sink = Sink::open(path)?;
                outputs.push(sink.drain(dial::dial_stream(&socket, &whose(kind), limit).await?));
            }
        }
        Ok((stdin, outputs))
    }
}

/// Which streams a process has.
pub(super) fn streams(paths: &Paths) -> Streams {
    let (rows, columns) = TERMINAL;
    let size = paths.terminal.then(|| TtySize {
        rows,
        columns,
        ..Default::default()
    });
    Streams {
        stdin: !paths.stdin.is_empty(),
        stdout: !paths.stdout.is_empty(),
        stderr: !paths.stderr.is_empty() && !paths.terminal,
        size: size.into(),
        ..Default::default()
    }
}

fn created(order: &Order, pid: u32) -> TaskCreate {
    let io = TaskIO {
        stdin: order.paths.stdin.clone(),
        stdout: order.paths.stdout.clone(),
        stderr: order.paths.stderr.clone(),
        terminal: order.paths.terminal,
        ..Default::default()
    };
    TaskCreate {
        container_id: order.id.clone(),
        bundle: order.bundle.display().to_string(),
        rootfs: order.rootfs.clone(),
        io: MessageField::some(io),
        pid,
        ..Default::default()
    }
}
