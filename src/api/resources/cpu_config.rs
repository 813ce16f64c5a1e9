//! What is changed about the processors.

use vmm::command::Setting;
use vmm::spec::CpuConfig;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /cpu-config`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: CpuConfig = ask.json()?;
    Ok(Setting::Cpu(body).into())
}
