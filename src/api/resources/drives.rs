//! Disks.

use serde::Deserialize;
use vmm::command::{Command, DriveUpdate, Setting};
use vmm::spec::{Cache, Drive, Engine, RateLimiter};

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// The body of `PUT /drives/{drive_id}`: [`Drive`] without what is ravelin's own.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "DriveBody"))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Body {
    /// Its name: letters, digits and underscores.
    #[cfg_attr(test, schemars(regex(pattern = "^[A-Za-z0-9_]{1,64}$")))]
    drive_id: String,
    /// The partition with the root filesystem, by its PARTUUID; without one, the whole disk.
    #[serde(default)]
    partuuid: Option<String>,
    /// Whether the guest's root filesystem is on it.
    is_root_device: bool,
    /// What a guest's flush means; without it, nothing.
    #[serde(default)]
    cache_type: Option<Cache>,
    /// Whether the guest may only read it.
    #[serde(default)]
    is_read_only: Option<bool>,
    /// The image: a regular file or a block device, or `fd:` and the name of a descriptor that was sent.
    #[serde(default)]
    path_on_host: Option<String>,
    /// How much the guest may do with it.
    #[serde(default)]
    rate_limiter: Option<RateLimiter>,
    /// How requests reach the host.
    #[serde(default)]
    io_engine: Option<Engine>,
    /// Firecracker's vhost-user socket: none can be set.
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
