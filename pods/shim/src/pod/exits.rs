//! How processes end, and how containerd hears of it: after their output, each once, a container's first after all others.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use protocol::api::ProcessRequest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Container, Pod, State};
use crate::agent::{Agent, dial};
use crate::process::{Exit, KILLED, LOST, Phase, ended};
use crate::vm::Vm;

/// How long output may stand still after its process has ended until it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two events that a guest causes.
const PACE: Duration = Duration::from_millis(200);

impl Pod {
    /// Waits for the end of a process in the guest, for the rest of its output, and tells containerd.
    pub(super) async fn await_exit(self, agent: Arc<Agent>, request: ProcessRequest) {
        // Without an answer the agent is gone, and its VM's guard tells of everybody's end.
        let Ok(reply) = agent.wait(&request).await else {
            return;
        };
        let outputs = self.with(&request.container, |container| {
            Ok(std::mem::take(
                &mut container.process_mut(&request.exec)?.outputs,
            ))
        });
        for output in outputs.into_iter().flatten() {
            output.finish(PATIENCE).await;
        }
        // The guest's clock is the guest's word.
        self.finish(
            &request.exec,
            Exit {
                status: reply.status.min(255),
                at: SystemTime::now(),
            },
            true,
        );
    }

    /// Notes a process's end, and tells containerd; once.
    pub(super) fn finish(&self, exec: &str, exit: Exit, was_started: bool) {
        if let State::Here(container) = &mut *self.lock() {
            if exec.is_empty() && was_started {
                // Its namespace of processes has ended with it.
                self.finish_execs(container, exit.at);
            }
            self.finish_one(container, exec, exit);
        }
    }

    fn finish_execs(&self, container: &Container, at: SystemTime) {
        for exec in container.execs.keys() {
            self.finish_one(container, exec, Exit { status: KILLED, at });
        }
    }

    fn finish_one(&self, container: &Container, exec: &str, exit: Exit) {
        let Ok(process) = container.process(exec) else {
            return;
        };
        if process.phase().is_alive() {
            let event = TaskExit {
                container_id: container.id.clone(),
                id: if exec.is_empty() {
                    container.id.clone()
                } else {
                    exec.to_owned()
                },
                pid: process.pid,
                exit_status: exit.status,
                exited_at: Some(exit.at.into()).into(),
                ..Default::default()
            };
            self.shared.events.tell("/tasks/exit", &event);
            process.advance(Phase::Stopped(exit));
        }
    }

    /// Waits for the end of the VM, of its agent, or of the agent's first call; then nothing of them goes on, and
    /// containerd hears of each process.
    pub(super) async fn guard(
        self,
        id: String,
        vm: Arc<Vm>,
        agent: Arc<Agent>,
        mut call: UnixStream,
    ) {
        let why = tokio::select! {
            () = vm.ended() => "the VM has ended",
            () = agent.ended() => "the agent in the guest is gone, or does not speak as it should",
            () = dial::hung_up(&mut call) => "the agent in the guest has hung up",
        };
        // Where the container is being deleted that is no news.
        if self.with(&id, |_| Ok(())).is_err() {
            return;
        }
        log::warn!("container {id}: {why}: {}", vm.last_words().await);
        vm.end().await;
        let outputs = self.with(&id, |container| {
            let processes =
                std::iter::once(&mut container.init).chain(container.execs.values_mut());
            Ok(processes
                .flat_map(|process| std::mem::take(&mut process.outputs))
                .collect::<Vec<_>>())
        });
        for output in outputs.into_iter().flatten() {
            output.finish(PATIENCE).await;
        }
        if let State::Here(container) = &mut *self.lock() {
            let status = if container.is_doomed { KILLED } else { LOST };
            let at = SystemTime::now();
            self.finish_execs(container, at);
            self.finish_one(container, "", Exit { status, at });
        }
    }

    /// Sees to it that a container that was killed is dead: where its agent does not, by ending the VM.
    pub(super) async fn make_sure(self, id: String) {
        let Ok(phases) = self.with(&id, |container| Ok(container.init.watch())) else {
            return;
        };
        let limit = self.shared.config.answer_limit() + PATIENCE;
        if timeout(limit, ended(phases)).await.is_err()
            && let Ok(vm) = self.with(&id, |container| Ok(Arc::clone(&container.vm)))
        {
            vm.end().await;
        }
    }

    /// Passes on what happens in the guest that nobody has asked for.
    pub(super) async fn follow(self, id: String, agent: Arc<Agent>) {
        while let Ok(event) = agent.next_event().await {
            if event.oom && event.container == id {
                self.shared.events.tell(
                    "/tasks/oom",
                    &TaskOOM {
                        container_id: id.clone(),
                        ..Default::default()
                    },
                );
            }
            tokio::time::sleep(PACE).await;
        }
    }
}
