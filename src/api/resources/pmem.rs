//! Persistent memory.

use vmm::command::{Command, PmemUpdate, Setting};
use vmm::spec::Pmem;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /pmem/{id}`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let pmem = ask.json_of_id(|pmem: &Pmem| &pmem.id)?;
    Ok(Setting::Pmem(pmem).into())
}

/// `PATCH /pmem/{id}`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let update = ask.json_of_id(|update: &PmemUpdate| &update.id)?;
    Ok(Command::UpdatePmem(update).into())
}

/// `DELETE /pmem/{id}`.
pub(in crate::api) fn delete(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Unplug(ask.checked_id()?.to_owned()).into())
}
