//! What is asked of a container that is there and does not end it.

use std::sync::Arc;

use containerd_shim_protos::events::task::{TaskPaused, TaskResumed};
use protobuf::MessageField;
use protocol::api::{
    ContainerRequest, Empty, PidsReply, ResizePtyRequest, Size as TtySize, StatsReply,
    UpdateRequest,
};

use super::{Pod, PodError};
use crate::process::Phase;

impl Pod {
    /// Gives a terminal another size.
    ///
    /// # Errors
    /// When there is no such process, or it has none.
    pub(crate) async fn resize(
        &self,
        id: &str,
        exec: &str,
        rows: u32,
        columns: u32,
    ) -> Result<(), PodError> {
        let (agent, process) = self.with(id, |container| {
            container.process(exec)?;
            Ok((Arc::clone(&container.agent), container.request(exec)))
        })?;
        let size = TtySize {
            rows,
            columns,
            ..Default::default()
        };
        let request = ResizePtyRequest {
            container: process.container,
            exec: process.exec,
            size: MessageField::some(size),
            ..Default::default()
        };
        let _: Empty = agent.call("ResizePty", &request).await?;
        Ok(())
    }

    /// Ends the input of a process, once its last writer has.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn close_stdin(&self, id: &str, exec: &str) -> Result<(), PodError> {
        self.with(id, |container| {
            if let Some(feed) = &mut container.process_mut(exec)?.stdin {
                feed.close();
            }
            Ok(())
        })
    }

    /// The numbers of all processes, in the guest.
    ///
    /// # Errors
    /// When there is no such container.
    pub(crate) async fn pids(&self, id: &str) -> Result<Vec<u32>, PodError> {
        let (agent, request, pid) = self.with(id, |container| {
            Ok((Arc::clone(&container.agent), named(id), container.init.pid))
        })?;
        // A container without a process would be taken for a dead one.
        Ok(match agent.call::<_, PidsReply>("Pids", &request).await {
            Ok(reply) if !reply.pids.is_empty() => reply.pids,
            _ => vec![pid],
        })
    }

    /// What a container uses.
    ///
    /// # Errors
    /// When there is no such container, or the agent cannot say.
    pub(crate) async fn stats(&self, id: &str) -> Result<StatsReply, PodError> {
        let agent = self.with(id, |container| Ok(Arc::clone(&container.agent)))?;
        Ok(agent.call("Stats", &named(id)).await?)
    }

    /// New limits.
    ///
    /// # Errors
    /// When there is no such container, or the agent cannot.
    pub(crate) async fn update(&self, id: &str, resources: Vec<u8>) -> Result<(), PodError> {
        let agent = self.with(id, |container| Ok(Arc::clone(&container.agent)))?;
        let request = UpdateRequest {
            container: id.to_owned(),
            resources,
            ..Default::default()
        };
        let _: Empty = agent.call("Update", &request).await?;
        Ok(())
    }

    /// Freezes a container, or lets it go on.
    ///
    /// # Errors
    /// When it is not running, or not paused.
    pub(crate) async fn freeze(&self, id: &str, is_pause: bool) -> Result<(), PodError> {
        let (expected, next, method) = match is_pause {
            true => (Phase::Running, Phase::Paused, "Pause"),
            false => (Phase::Paused, Phase::Running, "Resume"),
        };
        let agent = self.with(id, |container| match container.init.phase() == expected {
            true => Ok(Arc::clone(&container.agent)),
            false => Err(PodError::State(
                if is_pause {
                    "it does not run"
                } else {
                    "it is not paused"
                }
                .to_owned(),
            )),
        })?;
        let _: Empty = agent.call(method, &named(id)).await?;
        self.with(id, |container| {
            if container.init.advance(next) {
                let container_id = container.id.clone();
                match is_pause {
                    true => self.shared.events.tell(
                        "/tasks/paused",
                        &TaskPaused {
                            container_id,
                            ..Default::default()
                        },
                    ),
                    false => self.shared.events.tell(
                        "/tasks/resumed",
                        &TaskResumed {
                            container_id,
                            ..Default::default()
                        },
                    ),
                }
            }
            Ok(())
        })
    }
}

fn named(id: &str) -> ContainerRequest {
    ContainerRequest {
        container: id.to_owned(),
        ..Default::default()
    }
}
