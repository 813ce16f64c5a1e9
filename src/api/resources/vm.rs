//! The VM as a whole.

use serde::Deserialize;
use vmm::command::{Command, Show};

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// The body of `PATCH /vm`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct VmState {
    /// What the vCPUs are to do.
    state: State,
}

/// What the vCPUs are to do.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) enum State {
    /// Stand still.
    Paused,
    /// Run on.
    Resumed,
}

/// `PATCH /vm`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let VmState { state } = ask.json()?;
    Ok(match state {
        State::Paused => Command::Pause,
        State::Resumed => Command::Resume,
    }
    .into())
}

/// `GET /vm/config`.
pub(in crate::api) fn config(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Config).into())
}
