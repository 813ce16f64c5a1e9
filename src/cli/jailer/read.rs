//! From flags to a plan.

use std::num::ParseIntError;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Uid};

use crate::cli::grammar::{ArgError, Given};
use crate::cli::id::{IdError, instance_id};
use crate::jail::{CgroupVersion, Cgroups, Ids, Limits, Plan, Setting, Walls};

/// How many descriptors the program may have where nothing is said.
const OPEN_FILES: u64 = 2048;

/// Why a value is refused, in the words of Firecracker's jailer where it has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("Failed to parse arguments: {0}")]
    Arguments(#[from] ArgError),
    #[error("Invalid instance ID: {0}")]
    Id(#[from] IdError),
    #[error("Invalid uid: {0}")]
    Uid(String),
    #[error("Invalid gid: {0}")]
    Gid(String),
    #[error("{0} is an invalid cgroup version specifier")]
    CgroupVersion(String),
    #[error("Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'")]
    CgroupParent,
    #[error("Invalid format for cgroups: {0}")]
    CgroupFormat(String),
    #[error("Cgroup invalid file: {0}")]
    CgroupFile(String),
    #[error("Invalid format for resources limits: {0}")]
    LimitFormat(String),
    #[error("Invalid limit value for resource: {0}: {1}")]
    LimitValue(String, ParseIntError),
    #[error("Invalid resource argument: {0}")]
    LimitName(String),
    #[error(
        "Invalid wall: {0}: one or more of namespaces, capabilities, no-new-privs and core-limit were expected, \
         with commas between them"
    )]
    Wall(String),
}

/// Reads the flags.
///
/// # Errors
/// The first value that is not what its flag takes.
pub(super) fn plan(given: &Given) -> Result<Plan, ValueError> {
    let path = |name| given.value(name).map(PathBuf::from);
    // The grammar wants these, or has a default for them.
    let text = |name| given.value(name).ok_or(ArgError::MissingArgument(name));
    let id = text("id")?;
    instance_id(id)?;
    Ok(Plan {
        id: id.to_owned(),
        exec_file: PathBuf::from(text("exec-file")?),
        chroot_base: PathBuf::from(text("chroot-base-dir")?),
        ids: ids(text("uid")?, text("gid")?)?,
        netns: path("netns"),
        daemonize: given.has("daemonize"),
        new_pid_ns: given.has("new-pid-ns"),
        cgroups: Cgroups {
            parent: path("parent-cgroup").map(parent).transpose()?,
            version: version(text("cgroup-version")?)?,
            settings: given
                .values("cgroup")
                .map(setting)
                .collect::<Result<_, _>>()?,
        },
        limits: limits(given.values("resource-limit"))?,
        walls: walls(given.value("without"))?,
        extra_args: given.rest().to_vec(),
    })
}

fn ids(uid: &str, gid: &str) -> Result<Ids, ValueError> {
    Ok(Ids {
        uid: Uid::from_raw(number(uid).ok_or_else(|| ValueError::Uid(uid.to_owned()))?),
        gid: Gid::from_raw(number(gid).ok_or_else(|| ValueError::Gid(gid.to_owned()))?),
    })
}

/// A user's or group's number. The largest means "as it is" to the kernel, which here is root.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn version(text: &str) -> Result<CgroupVersion, ValueError> {
    match text.parse::<u8>() {
        Ok(1) => Ok(CgroupVersion::V1),
        Ok(2) => Ok(CgroupVersion::V2),
        _ => Err(ValueError::CgroupVersion(text.to_owned())),
    }
}

fn parent(path: PathBuf) -> Result<PathBuf, ValueError> {
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    match path.components().all(is_name) {
        true => Ok(path),
        false => Err(ValueError::CgroupParent),
    }
}

fn setting(text: &str) -> Result<Setting, ValueError> {
    let format = || ValueError::CgroupFormat(text.to_owned());
    let (file, value) = text.split_once('=').ok_or_else(format)?;
    if value.is_empty() || value.contains('=') {
        return Err(format());
    }
    // One name: what has a slash, `.` or `..` in it would be another cgroup's file, or none of a cgroup.
    if Path::new(file).file_name().is_none_or(|name| name != file) {
        return Err(ValueError::CgroupFile(text.to_owned()));
    }
    Ok(Setting {
        file: file.to_owned(),
        value: value.to_owned(),
    })
}

fn limits<'a>(values: impl Iterator<Item = &'a str>) -> Result<Limits, ValueError> {
    let mut limits = Limits {
        file_size: None,
        open_files: OPEN_FILES,
    };
    for text in values {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| ValueError::LimitFormat(text.to_owned()))?;
        let number = value
            .parse()
            .map_err(|e| ValueError::LimitValue(value.to_owned(), e))?;
        match name {
            "fsize" => limits.file_size = Some(number),
            "no-file" => limits.open_files = number,
            _ => return Err(ValueError::LimitName(name.to_owned())),
        }
    }
    Ok(limits)
}

fn walls(without: Option<&str>) -> Result<Walls, ValueError> {
    let mut walls = Walls::ALL;
    for name in without.iter().flat_map(|names| names.split(',')) {
        let wall = walls.named(name);
        *wall.ok_or_else(|| ValueError::Wall(name.to_owned()))? = false;
    }
    Ok(walls)
}
