//! The serial port.

use vmm::command::Setting;
use vmm::spec::Serial;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /serial`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: Serial = ask.json()?;
    Ok(Setting::Serial(body).into())
}
