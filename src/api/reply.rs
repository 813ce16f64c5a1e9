//! From an outcome to an answer.

use serde::Serialize;
use vmm::command::{CommandError, Instance, Outcome, Phase};

use super::http::Response;

/// What Firecracker calls itself; its clients look for it.
const APP_NAME: &str = "Firecracker";
/// Whose API is spoken.
pub(crate) const FIRECRACKER_VERSION: &str = "1.17.0-dev";

/// Which VM, and how it is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Instance"))]
pub(super) struct InstanceBody<'a> {
    /// The VM's name.
    id: &'a str,
    /// What it does.
    state: Phase,
    /// Which version of Firecracker's API is spoken.
    vmm_version: &'static str,
    /// Whose API is spoken.
    app_name: &'static str,
}

/// Which version of Firecracker's API is spoken.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Version"))]
pub(super) struct VersionBody {
    /// The version.
    firecracker_version: &'static str,
}

/// The answer to a request that was met or refused.
pub(super) fn reply(result: Result<Outcome, CommandError>) -> Response {
    match result {
        Ok(outcome) => met(outcome),
        Err(error) => refused(&error),
    }
}

fn met(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Done => Response::no_content(),
        Outcome::Instance(instance) => instance_json(&instance),
        Outcome::Config(spec) => body(&spec),
        Outcome::Machine(config) => body(&config),
        Outcome::Mmds(data) => body(&data),
        Outcome::Balloon(balloon) => body(&balloon),
        Outcome::Metrics(text) => Response::text(200, text),
    }
}

fn refused(error: &CommandError) -> Response {
    let status = match error {
        CommandError::MmdsTooLarge(_) => 413,
        _ => 400,
    };
    Response::fault(status, &error.to_string())
}

fn instance_json(instance: &Instance) -> Response {
    body(&InstanceBody {
        id: &instance.id,
        state: instance.state,
        vmm_version: FIRECRACKER_VERSION,
        app_name: APP_NAME,
    })
}

/// The version of the API, alone.
pub(super) fn version() -> Response {
    body(&VersionBody {
        firecracker_version: FIRECRACKER_VERSION,
    })
}

/// A value as JSON.
pub(super) fn body(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => Response::json(200, bytes),
        // No type here has keys that are not text.
        Err(error) => Response::fault(500, &error.to_string()),
    }
}
