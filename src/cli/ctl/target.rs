//! The VM that is asked: by name, or by its socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::args::Args;
use crate::cli::client::Client;
use crate::failure::Failure;
use crate::registry::{Registry, Vm};

/// How long an answer may take where nothing was said.
const PATIENCE: Duration = Duration::from_secs(10);

/// A VM and its socket.
#[derive(Debug)]
pub(super) struct Target {
    /// Requests to it.
    pub(super) client: Client,
    /// Its socket.
    pub(super) socket: PathBuf,
    /// What is known of it, if it is among the running VMs.
    pub(super) vm: Option<Vm>,
}

impl Target {
    /// The VM that the command line means.
    ///
    /// # Errors
    /// When there is none of that name, or it has no socket.
    pub(super) fn find(args: &Args) -> Result<Self, Failure> {
        let registry = Registry::of_this_user();
        let (socket, vm) = match (&args.sock, &args.name) {
            (Some(socket), _) => (socket.clone(), known(&registry, socket)),
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                let vm = registry.find(name).map_err(Failure::run)?;
                let socket = vm.socket.clone().ok_or_else(|| {
                    Failure::run(format!("the VM `{name}` has no socket to be asked on"))
                })?;
                (socket, Some(vm))
            }
        };
        Ok(Self {
            client: Client::new(&socket, args.timeout.unwrap_or(PATIENCE)),
            socket,
            vm,
        })
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(super) fn send(&self, method: &str, path: &str, body: &Value) -> Result<(), Failure> {
        self.client.send(method, path, body).map_err(Failure::run)
    }
}

/// The VM of a socket, if it is among the running ones.
fn known(registry: &Registry, socket: &Path) -> Option<Vm> {
    let socket = std::path::absolute(socket).ok()?;
    let vms = registry.list().unwrap_or_default();
    vms.into_iter()
        .find(|vm| vm.socket.as_ref() == Some(&socket))
}
