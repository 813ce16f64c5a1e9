//! Snapshots.

use vmm::command::{Command, CreateSnapshot, LoadSnapshot};

use crate::api::fault::Fault;
use crate::api::request::{Ask, Call, Parsed};

/// `PUT /snapshot/create`.
pub(in crate::api) fn create(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let create: CreateSnapshot = ask.json()?;
    Ok(Command::CreateSnapshot(create).into())
}

/// `PUT /snapshot/load`. The memory has one place: the present field or the deprecated one.
pub(in crate::api) fn load(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let load: LoadSnapshot = ask.json()?;
    let wrong = match (&load.mem_backend, &load.mem_file_path) {
        (None, None) => Some("missing field: either `mem_backend` or `mem_file_path` is required"),
        (Some(_), Some(_)) => {
            Some("too many fields: either `mem_backend` or `mem_file_path` exclusively is required")
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(Fault::Json(wrong.to_owned()));
    }
    let deprecated = load.mem_file_path.is_some() || load.enable_diff_snapshots.is_some();
    let command = Command::LoadSnapshot(Box::new(load));
    Ok(Parsed::from(Call::Fateful(command)).deprecated(deprecated))
}
