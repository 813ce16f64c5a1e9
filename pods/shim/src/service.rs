//! containerd's Task service: its messages taken apart, and put together. What is done is in [`crate::pod`].

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim_async::Task;
use ttrpc::asynchronous::TtrpcContext;
use ttrpc::{Code, Error, Result, get_status};

use crate::pod::{Order, Pod};
use crate::process::Phase;
use crate::stdio::Paths;
use crate::{cgroup, metrics};

/// The service of a pod.
pub(crate) struct Service {
    pod: Pod,
}

impl Service {
    /// Serves `pod`.
    pub(crate) fn new(pod: Pod) -> Self {
        Self { pod }
    }
}

#[async_trait]
impl Task for Service {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let process = self.pod.look(&request.id, &request.exec_id)?;
        let mut response = StateResponse {
            bundle: process.bundle.display().to_string(),
            pid: process.pid,
            status: process.phase.status().into(),
            stdin: process.paths.stdin,
            stdout: process.paths.stdout,
            stderr: process.paths.stderr,
            terminal: process.paths.terminal,
            id: request.id,
            exec_id: request.exec_id,
            ..Default::default()
        };
        if let Phase::Stopped(exit) = process.phase {
            response.exit_status = exit.status;
            response.exited_at = Some(exit.at.into()).into();
        }
        Ok(response)
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse> {
        if !request.checkpoint.is_empty() {
            return Err(refused(
                "a container in a microVM cannot begin from a checkpoint",
            ));
        }
        let order = Order {
            id: request.id,
            bundle: request.bundle.into(),
            rootfs: request.rootfs,
            paths: Paths {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
        };
        let pid = self.pod.create(order).await?;
        Ok(CreateTaskResponse {
            pid,
            ..Default::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let pid = self.pod.start(&request.id, &request.exec_id).await?;
        Ok(StartResponse {
            pid,
            ..Default::default()
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let (pid, exit) = self.pod.delete(&request.id, &request.exec_id).await?;
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let pids = self.pod.pids(&request.id).await?.into_iter();
        let processes = pids
            .map(|pid| ProcessInfo {
                pid,
                ..Default::default()
            })
            .collect();
        Ok(PidsResponse {
            processes,
            ..Default::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        self.pod.freeze(&request.id, true).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        self.pod.freeze(&request.id, false).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Result<Empty> {
        Err(refused("a container in a microVM cannot be checkpointed"))
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        self.pod
            .kill(&request.id, &request.exec_id, request.signal, request.all)
            .await?;
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let process = request.spec.unwrap_or_default().value;
        self.pod
            .exec(&request.id, &request.exec_id, &process, paths)
            .await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        self.pod
            .resize(&request.id, &request.exec_id, request.height, request.width)
            .await?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        if request.stdin {
            self.pod.close_stdin(&request.id, &request.exec_id)?;
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        let resources = request.resources.unwrap_or_default().value;
        self.pod.update(&request.id, resources).await?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let exit = self.pod.wait(&request.id, &request.exec_id).await?;
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: Some(exit.at.into()).into(),
            ..Default::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let stats = self.pod.stats(&request.id).await?;
        let any = metrics::any(&stats, cgroup::is_unified());
        Ok(StatsResponse {
            stats: Some(any).into(),
            ..Default::default()
        })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.pod.init_pid(&request.id),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Result<Empty> {
        self.pod.shut_down(request.now).await;
        Ok(Empty::new())
    }
}

fn refused(sentence: &str) -> Error {
    Error::RpcStatus(get_status(Code::UNIMPLEMENTED, sentence))
}
