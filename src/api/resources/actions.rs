//! What a VM can be told to do.

use serde::Deserialize;
use vmm::command::Command;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// The body of `PUT /actions`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Action {
    /// What to do.
    action_type: ActionType,
}

/// What to do.
#[derive(Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) enum ActionType {
    /// Write the figures.
    FlushMetrics,
    /// Start the guest.
    InstanceStart,
    /// Press Ctrl-Alt-Del.
    SendCtrlAltDel,
}

/// `PUT /actions`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let Action { action_type } = ask.json()?;
    Ok(match action_type {
        ActionType::FlushMetrics => Command::FlushMetrics,
        ActionType::InstanceStart => Command::Start,
        ActionType::SendCtrlAltDel => Command::SendCtrlAltDel,
    }
    .into())
}
