//! ravelin's own log.

use vmm::command::Setting;
use vmm::spec::LoggerConfig;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /logger`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: LoggerConfig = ask.json()?;
    Ok(Setting::Logger(body).into())
}
