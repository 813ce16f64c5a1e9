//! Network cards.

use serde::de::DeserializeOwned;
use vmm::command::{Command, NetworkUpdate, Setting};
use vmm::spec::NetworkInterface;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// The body as a `T` whose id is the path's.
fn read<T: DeserializeOwned>(ask: &Ask<'_>, id: impl Fn(&T) -> &str) -> Result<T, Fault> {
    let in_path = ask.checked_id()?;
    let body = ask.json()?;
    match id(&body) {
        same if same == in_path => Ok(body),
        other => Err(Fault::OtherInterface(in_path.to_owned(), other.to_owned())),
    }
}

/// `PUT /network-interfaces/{iface_id}`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let card = read(ask, |card: &NetworkInterface| &card.iface_id)?;
    Ok(Setting::Network(card).into())
}

/// `PATCH /network-interfaces/{iface_id}`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let update = read(ask, |update: &NetworkUpdate| &update.iface_id)?;
    Ok(Command::UpdateNetwork(update).into())
}

/// `DELETE /network-interfaces/{iface_id}`.
pub(in crate::api) fn delete(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Unplug(ask.checked_id()?.to_owned()).into())
}
