//! Disks.

use serde::Deserialize;
use vmm::command::{Command, DriveUpdate, Setting};
use vmm::spec::{Cache, Drive, Engine, RateLimiter};

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// The body of `PUT /drives/{drive_id}`: [`Drive`] without what is ravelin's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Body {
    drive_id: String,
    #[serde(default)]
    partuuid: Option<String>,
    is_root_device: bool,
    #[serde(default)]
    cache_type: Option<Cache>,
    #[serde(default)]
    is_read_only: Option<bool>,
    #[serde(default)]
    path_on_host: Option<String>,
    #[serde(default)]
    rate_limiter: Option<RateLimiter>,
    #[serde(default)]
    io_engine: Option<Engine>,
    #[serde(default)]
    socket: Option<String>,
}

impl From<Body> for Drive {
    fn from(body: Body) -> Self {
        Self {
            drive_id: body.drive_id,
            is_root_device: body.is_root_device,
            partuuid: body.partuuid,
            cache_type: body.cache_type.unwrap_or(Cache::Unsafe),
            is_read_only: body.is_read_only.unwrap_or_default(),
            path_on_host: body.path_on_host.unwrap_or_default(),
            io_engine: body.io_engine.unwrap_or_default(),
            rate_limiter: body.rate_limiter,
            serial: None,
            socket: body.socket,
        }
    }
}

/// `PUT /drives/{drive_id}`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: Body = ask.json_of_id(|body: &Body| &body.drive_id)?;
    Ok(Setting::Drive(body.into()).into())
}

/// `PATCH /drives/{drive_id}`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let update = ask.json_of_id(|update: &DriveUpdate| &update.drive_id)?;
    Ok(Command::UpdateDrive(update).into())
}

/// `DELETE /drives/{drive_id}`.
pub(in crate::api) fn delete(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Unplug(ask.checked_id()?.to_owned()).into())
}
