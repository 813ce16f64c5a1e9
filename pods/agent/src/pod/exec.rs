//! A further process in a container.

use std::sync::Arc;

use super::Pod;
use crate::error::AgentError;
use crate::process::{self, Mappings, Wanted};
use crate::run::{Kind, Order};
use crate::spec::Process;

impl Pod {
    /// Makes a process in a container that runs.
    pub(crate) async fn exec(
        &self,
        container: &str,
        exec: &str,
        process: Process,
        wanted: Wanted,
    ) -> Result<(), AgentError> {
        let _promise = self.promise(container, exec)?;
        let order = {
            let table = self.table();
            let found = table.container(container)?;
            if found.first.ended().is_some() {
                return Err(AgentError::State(format!(
                    "the container {container} has ended: nothing can be run in it"
                )));
            }
            Order {
                kind: Kind::Exec {
                    process: Box::new(process),
                    seccomp: found.seccomp.clone(),
                    first: found.first.pid,
                    user_namespace: found.has_user_namespace,
                },
                cgroup: found.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
                files: Vec::new(),
            }
        };
        let mappings = Mappings::default();
        let made = process::Process::make(&order, wanted, &mappings, &self.exits).await?;
        let mut table = self.table();
        let Some(found) = table.containers.get_mut(container) else {
            return Err(AgentError::NoContainer(container.into()));
        };
        found.execs.insert(exec.into(), Arc::new(made));
        Ok(())
    }
}
