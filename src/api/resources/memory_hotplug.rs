//! Memory to plug.

use vmm::command::{Command, MemoryHotplugUpdate, Setting, Show};
use vmm::spec::MemoryHotplug;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `GET /hotplug/memory`.
pub(in crate::api) fn get(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::MemoryHotplug).into())
}

/// `PUT /hotplug/memory`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let memory: MemoryHotplug = ask.json()?;
    Ok(Setting::MemoryHotplug(memory).into())
}

/// `PATCH /hotplug/memory`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let update: MemoryHotplugUpdate = ask.json()?;
    Ok(Command::UpdateMemoryHotplug(update).into())
}
