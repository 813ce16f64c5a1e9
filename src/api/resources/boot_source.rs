//! What to boot.

use vmm::command::Setting;
use vmm::spec::BootSource;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /boot-source`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: BootSource = ask.json()?;
    Ok(Setting::BootSource(body).into())
}
