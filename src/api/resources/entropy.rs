//! The entropy source.

use vmm::command::Setting;
use vmm::spec::Entropy;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /entropy`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: Entropy = ask.json()?;
    Ok(Setting::Entropy(body).into())
}
