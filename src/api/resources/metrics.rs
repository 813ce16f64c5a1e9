//! The file for the figures.

use vmm::command::Setting;
use vmm::spec::MetricsConfig;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /metrics`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: MetricsConfig = ask.json()?;
    Ok(Setting::Metrics(body).into())
}
