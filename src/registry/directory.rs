//! The directory where a user's running VMs are: `/run/ravelin` for root, `$XDG_RUNTIME_DIR/ravelin` for
//! others, `/tmp/ravelin-UID` where there is none; or what `RAVELIN_RUNTIME_DIR` says.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Others may reach a socket in root's directory whose permissions let them, and see nothing.
const ROOT_MODE: u32 = 0o711;
/// Nobody else may do anything.
const USER_MODE: u32 = 0o700;
/// Permission to write, for anybody but the owner.
const OTHERS_WRITE: u32 = 0o022;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// It cannot be made.
    #[error(
        "the directory {0} for running VMs cannot be made: set RAVELIN_RUNTIME_DIR to one that this user may make"
    )]
    Make(PathBuf, #[source] io::Error),
    /// Somebody else could put a socket of their own where this user expects one.
    #[error(
        "{0} must be a directory of the user {1} that nobody else may write, for running VMs: remove what is \
         there, or set RAVELIN_RUNTIME_DIR"
    )]
    Foreign(PathBuf, u32),
}

/// Where the directory is, whether it is there or not.
pub(super) fn path() -> PathBuf {
    let uid = geteuid();
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    choose(
        uid.is_root(),
        uid.as_raw(),
        set("RAVELIN_RUNTIME_DIR"),
        set("XDG_RUNTIME_DIR"),
    )
}

fn choose(is_root: bool, uid: u32, asked: Option<OsString>, xdg: Option<OsString>) -> PathBuf {
    match (asked, xdg) {
        (Some(asked), _) => asked.into(),
        _ if is_root => "/run/ravelin".into(),
        (None, Some(xdg)) => Path::new(&xdg).join("ravelin"),
        (None, None) => format!("/tmp/ravelin-{uid}").into(),
    }
}

/// Makes the directory if it is not there.
///
/// # Errors
/// When it cannot be made, or is not this user's alone.
pub(super) fn make(path: &Path) -> Result<(), DirectoryError> {
    let uid = geteuid();
    let mode = if uid.is_root() { ROOT_MODE } else { USER_MODE };
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(DirectoryError::Make(path.to_owned(), error))
        }
        _ => check(path, uid.as_raw()),
    }
}

/// Whether it is a directory, no symbolic link, and its owner's alone.
///
/// # Errors
/// When it is not.
pub(super) fn check(path: &Path, uid: u32) -> Result<(), DirectoryError> {
    let is_ours = fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_dir() && found.uid() == uid && found.mode() & OTHERS_WRITE == 0
    });
    match is_ours {
        true => Ok(()),
        false => Err(DirectoryError::Foreign(path.to_owned(), uid)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn each_user_has_a_directory_of_their_own() {
        let xdg = || Some("/run/user/1000".into());
        for (asked, xdg, root, expected) in [
            (None, xdg(), true, "/run/ravelin"),
            (None, xdg(), false, "/run/user/1000/ravelin"),
            (None, None, false, "/tmp/ravelin-1000"),
            (Some("/srv/vms".into()), xdg(), true, "/srv/vms"),
        ] {
            assert_eq!(choose(root, 1000, asked, xdg), PathBuf::from(expected));
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("vms");
        make(&path).unwrap();
        make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make(&path).unwrap_err().to_string().contains("nobody else"));
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let around = tempfile::tempdir().unwrap();
        let (target, link) = (around.path().join("vms"), around.path().join("link"));
        make(&target).unwrap();
        symlink(&target, &link).unwrap();
        assert!(matches!(make(&link), Err(DirectoryError::Foreign(..))));
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let around = tempfile::tempdir().unwrap();
        let other = geteuid().as_raw() + 1;
        assert!(matches!(
            check(around.path(), other),
            Err(DirectoryError::Foreign(..))
        ));
    }
}
