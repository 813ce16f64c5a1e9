//! What a VM has before its first request: the files that its command line names.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use vmm::command::{Command, Setting};
use vmm::spec::{MetricsConfig, Spec};

use super::launch::{Face, Launch};
use crate::failure::Failure;
use crate::json_file::{self, CONFIGURATION, METADATA};
use crate::nearest;
use crate::session::Session;

/// Puts the files in, and starts the VM if one of them describes it.
///
/// # Errors
/// [`Failure::Usage`] for what is wrong in a file, [`Failure::Run`] for one that cannot be read and for a
/// start that fails.
pub(super) fn apply(session: &mut Session, launch: &Launch) -> Result<(), Failure> {
    let first = &launch.first;
    if let Some(path) = &launch.metrics_path {
        let config = MetricsConfig {
            metrics_path: path.to_string_lossy().into_owned(),
            emit_id: false,
            properties: BTreeMap::new(),
        };
        let set = Command::Set(Setting::Metrics(config));
        session.controller().handle(set).map_err(Failure::run)?;
    }
    if let Some(path) = &first.metadata {
        let data: Map<String, Value> = json_file::read(path, &METADATA)?;
        let put = Command::PutMmds(Value::Object(data));
        session.controller().handle(put).map_err(Failure::usage)?;
    }
    let Some(path) = &first.config_file else {
        return Ok(());
    };
    let spec = match launch.face {
        Face::Ravelin => json_file::read(path, &CONFIGURATION)?,
        Face::Firecracker => as_firecracker(path)?,
    };
    session
        .controller()
        .describe(spec)
        .map_err(Failure::usage)?;
    session.start().map_err(Failure::run)?;
    log::info!("Successfully started microvm that was configured from one single json");
    Ok(())
}

/// Reads the file as Firecracker does: it passes over keys of the whole file that it does not know, and clients rely
/// on it (fctools writes `balloon_device`, `vsock_device` and more); within a device it refuses them.
fn as_firecracker(path: &Path) -> Result<Spec, Failure> {
    let mut file: Map<String, Value> = json_file::read(path, &CONFIGURATION)?;
    let wrong = |error: &dyn Display| {
        Failure::usage(format!(
            "the configuration {} is wrong: {error}",
            path.display()
        ))
    };
    file.retain(|key, value| is_known(key, value));
    if !file.contains_key("boot-source") {
        return Err(wrong(&"missing field `boot-source`"));
    }
    let spec = Spec::deserialize(Value::Object(file)).map_err(|error| {
        let hint = nearest::suggestion(&error.to_string());
        wrong(&format_args!("{error}{hint}"))
    })?;
    refuse_own_keys(&spec, path)?;
    Ok(spec)
}

/// Whether a file of Firecracker's has this key; it is said where one does not and yet has a value.
fn is_known(key: &str, value: &Value) -> bool {
    let alone = Map::from_iter([(key.to_owned(), Value::Null)]);
    let Err(error) = Spec::deserialize(Value::Object(alone)) else {
        return true;
    };
    if !value.is_null() {
        let hint = nearest::suggestion(&error.to_string());
        log::warn!("the configuration's key `{key}` means nothing and is passed over{hint}");
    }
    false
}

/// Refuses what is a key of ravelin's file and none of Firecracker's.
fn refuse_own_keys(spec: &Spec, path: &Path) -> Result<(), Failure> {
    match spec.drives.iter().any(|drive| drive.serial.is_some()) {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "the configuration {} is wrong: unknown field `serial`, which only ravelin's own drives have: \
             leave it out, or start the VM with `ravelin api --config`",
            path.display()
        ))),
    }
}
