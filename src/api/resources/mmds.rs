//! The metadata service.

use serde_json::{Map, Value};
use vmm::command::{Command, Setting, Show};
use vmm::spec::{MmdsConfig, MmdsVersion};

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `GET /mmds`.
pub(in crate::api) fn get(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Mmds).into())
}

/// `PUT /mmds`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let data: Map<String, Value> = ask.json()?;
    Ok(Command::PutMmds(Value::Object(data)).into())
}

/// `PATCH /mmds`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let patch: Map<String, Value> = ask.json()?;
    Ok(Command::PatchMmds(Value::Object(patch)).into())
}

/// `PUT /mmds/config`.
pub(in crate::api) fn put_config(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let config: MmdsConfig = ask.json()?;
    let deprecated = config.version == MmdsVersion::V1;
    Ok(Parsed::from(Setting::Mmds(config)).deprecated(deprecated))
}
