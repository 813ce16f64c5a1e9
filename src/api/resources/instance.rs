//! Which VM, and how it is.

use vmm::command::{Command, Show};

use crate::api::fault::Fault;
use crate::api::reply;
use crate::api::request::{Ask, Call, Parsed};

/// `GET /`.
pub(in crate::api) fn get(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Instance).into())
}

/// `GET /version`.
pub(in crate::api) fn version(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Call::Answer(reply::version()).into())
}
