//! Resource limits of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::JailError;
use super::plan::{Limits, Walls};

/// Sets the limits, soft and hard. That of a file's size counts a memfd's growth too, and with it guest memory
/// that is made of one.
pub(super) fn set(limits: Limits, walls: Walls) -> Result<(), JailError> {
    if let Some(size) = limits.file_size {
        set_one(Resource::Fsize, "size of file", size)?;
    }
    let files = limits.open_files;
    set_one(Resource::Nofile, "number of file descriptors", files)?;
    if walls.no_core_dump {
        set_one(Resource::Core, "size of core dump", 0)?;
    }
    Ok(())
}

/// Sets limits, soft and hard, none higher than it is.
pub(super) fn set_each(limits: &[(Resource, u64)]) -> Result<(), JailError> {
    limits.iter().try_for_each(|(resource, limit)| {
        let highest = getrlimit(*resource).maximum.unwrap_or(u64::MAX);
        set_one(*resource, "the monitor", highest.min(*limit))
    })
}

fn set_one(resource: Resource, name: &'static str, limit: u64) -> Result<(), JailError> {
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(resource, limit).map_err(|e| JailError::Setrlimit(name, e.into()))
}
