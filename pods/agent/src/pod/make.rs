//! A new container.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Container, Pod};
use crate::cgroup::Cgroup;
use crate::disk::{Disk, Source, Writable};
use crate::error::AgentError;
use crate::process::{Mappings, Process, Wanted};
use crate::run::{self, Kind, Order};
use crate::spec::{NamespaceKind, Spec};

/// What a container is to be.
pub(crate) struct Creation {
    pub(crate) name: String,
    pub(crate) spec: Spec,
    pub(crate) source: Source,
    pub(crate) writable: Writable,
    pub(crate) wanted: Wanted,
}

impl Pod {
    /// Makes a container whose first process is ready to start.
    pub(crate) async fn create(&self, creation: Creation) -> Result<Arc<Process>, AgentError> {
        let Creation {
            name,
            spec,
            source,
            writable,
            wanted,
        } = creation;
        let _promise = self.promise(&name, "")?;
        if let Some(profile) = &spec.linux.seccomp {
            run::compile_seccomp(profile)
                .map_err(|error| AgentError::Asked(format!("linux.seccomp: {error}")))?;
        }
        let disk = Disk::mount(&self.places.containers.join(&name), &source, writable).await?;
        let linux = &spec.linux;
        let cgroup = match &self.places.cgroup {
            Some(parent) => Some(Cgroup::make(
                parent,
                &name,
                &linux.resources,
                &linux.devices,
            )?),
            None => None,
        };
        let mappings = Mappings {
            users: linux.uid_mappings.clone(),
            groups: linux.gid_mappings.clone(),
        };
        let seccomp = linux.seccomp.clone().map(Box::new);
        let has_user_namespace = linux
            .namespaces
            .iter()
            .any(|namespace| namespace.kind == NamespaceKind::User);
        let order = Order {
            kind: Kind::Container {
                spec: Box::new(spec),
                root: disk.path(),
                read_only: writable.is_read_only,
            },
            cgroup: cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
            files: vec![self.places.files.clone(), self.places.given.clone()],
        };
        let made = Process::make(&order, wanted, &mappings, &self.exits).await;
        let first = match (made, &cgroup) {
            (Ok(first), _) => Arc::new(first),
            (Err(error), None) => return Err(error),
            (Err(error), Some(cgroup)) => {
                cgroup.kill();
                // What is said is why the container is not there.
                let _ = cgroup.remove().await;
                return Err(error);
            }
        };
        if let Some(cgroup) = &cgroup {
            self.events.watch(&name, cgroup);
        }
        let container = Container {
            first: Arc::clone(&first),
            execs: BTreeMap::new(),
            cgroup,
            seccomp,
            has_user_namespace,
            _disk: disk,
        };
        self.table().containers.insert(name, container);
        Ok(first)
    }
}
