//! Network cards.

use vmm::command::{Command, NetworkUpdate, Setting};
use vmm::spec::NetworkInterface;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /network-interfaces/{iface_id}`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let card = ask.json_of_id(|card: &NetworkInterface| &card.iface_id)?;
    Ok(Setting::Network(card).into())
}

/// `PATCH /network-interfaces/{iface_id}`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let update = ask.json_of_id(|update: &NetworkUpdate| &update.iface_id)?;
    Ok(Command::UpdateNetwork(update).into())
}

/// `DELETE /network-interfaces/{iface_id}`.
pub(in crate::api) fn delete(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Unplug(ask.checked_id()?.to_owned()).into())
}
