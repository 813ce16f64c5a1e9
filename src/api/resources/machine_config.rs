//! Processors and memory.

use vmm::command::{Command, Setting, Show};
use vmm::spec::{MachineConfig, MachinePatch};

use crate::api::fault::Fault;
use crate::api::http::Method;
use crate::api::request::{Ask, Parsed};

/// `GET /machine-config`.
pub(in crate::api) fn get(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Machine).into())
}

/// `PUT /machine-config`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let config: MachineConfig = ask.json()?;
    let deprecated = config.cpu_template.is_some();
    Ok(Parsed::from(Setting::Machine(config)).deprecated(deprecated))
}

/// `PATCH /machine-config`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let patch: MachinePatch = ask.json()?;
    if patch.is_empty() {
        return Err(Fault::Empty(Method::Patch));
    }
    let deprecated = patch.cpu_template.is_some();
    Ok(Parsed::from(Command::PatchMachine(patch)).deprecated(deprecated))
}
