//! The program: found, copied into the jail, run there.

use std::fs::{File, canonicalize};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fchown, fstat, ftruncate, openat, openat2,
};

use super::error::JailError;
use super::plan::{Ids, Plan};
use super::root::Root;
use super::times::Times;

/// What a program's name must contain: Firecracker's jailer is for Firecracker.
const PART_OF_NAME: &str = "firecracker";

/// A program to run in a jail.
#[derive(Debug)]
pub(super) struct ExecFile {
    path: PathBuf,
    name: String,
}

impl ExecFile {
    /// Finds the program behind a path, which may lead over symbolic links: its name is that of the file in the end.
    pub(super) fn find(path: &Path) -> Result<Self, JailError> {
        let path = canonicalize(path).map_err(|e| JailError::Canonicalize(path.to_owned(), e))?;
        if !path.is_file() {
            return Err(JailError::NotAFile(path));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.map(str::to_owned) else {
            return Err(JailError::ExtractFileName(path));
        };
        match name.contains(PART_OF_NAME) {
            true => Ok(Self { path, name }),
            false => Err(JailError::ExecFileName(name)),
        }
    }

    /// Its name, which is also that of the jails' directory.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The pid file, seen from inside the jail.
    pub(super) fn pid_file(&self) -> String {
        format!("/{}.pid", self.name)
    }

    /// Copies the program into the jail. A copy: two jails that shared the file would share its pages in memory.
    ///
    /// Where something of that name lies in the jail already it may be a trap, since the jail's user owns the
    /// directory: only a plain file with no second name is written to.
    pub(super) fn copy_into(&self, root: &Root, ids: Ids) -> Result<(), JailError> {
        let target = root.path().join(&self.name);
        let (mut from, mode) = self.open()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let to = openat(root, &self.name, flags, mode)
            .map_err(|e| JailError::FileOpen(target.clone(), e.into()))?;
        let copy = |e| JailError::Copy(self.path.clone(), target.clone(), e);
        let stat = fstat(&to).map_err(|e| copy(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(JailError::NotAFile(target));
        }
        if stat.st_nlink > 1 {
            return Err(JailError::HardLink(target));
        }
        fchown(&to, Some(ids.uid), Some(ids.gid))
            .map_err(|e| JailError::ChangeFileOwner(target.clone(), e.into()))?;
        ftruncate(&to, 0).map_err(|e| copy(e.into()))?;
        io::copy(&mut from, &mut File::from(to)).map_err(copy)?;
        Ok(())
    }

    /// The program's bytes and its permissions.
    fn open(&self) -> Result<(File, Mode), JailError> {
        let failed = |e: rustix::io::Errno| JailError::FileOpen(self.path.clone(), e.into());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat2(
            CWD,
            &self.path,
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        );
        let file = file.map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(JailError::NotAFile(self.path.clone()));
        }
        let permissions = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        Ok((
            File::from(file),
            Mode::from_raw_mode(stat.st_mode) & permissions,
        ))
    }

    /// Becomes the program, with an empty environment. It returns only when that failed.
    pub(super) fn exec(&self, plan: &Plan, times: &Times) -> JailError {
        let error = Command::new(format!("/{}", self.name))
            .env_clear()
            .args(["--id", &plan.id])
            .args(["--start-time-us", &times.start_us.to_string()])
            .args(["--start-time-cpu-us", &Times::process_us().to_string()])
            .args(["--parent-cpu-time-us", &times.preparer_us().to_string()])
            .args(&plan.extra_args)
            .exec();
        JailError::Exec(error)
    }
}
