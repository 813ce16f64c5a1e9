//! Files that callers put into the guest, for containers to bind.

use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use protocol::api::PutFileRequest;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fchmod, fchown, mkdirat,
    openat, openat2, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{AgentError, Doing};

/// How large one file may become, bytes.
const LARGEST: u64 = 256 << 20;
/// How deep it may lie.
const DEEPEST: usize = 32;

/// Does what a request says: a piece of a file, a directory, or a symbolic link.
///
/// # Errors
///
/// The path leads elsewhere, the file becomes too large, or it cannot be written.
pub(crate) fn put(base: &Path, request: &PutFileRequest) -> Result<(), AgentError> {
    let path = Path::new(&request.path);
    check(path, &request.path)?;
    let what = format!("put the file {}", request.path);
    std::fs::create_dir_all(base).doing(&what)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = openat(CWD, base, flags, Mode::empty()).doing(&what)?;
    let parent = folder(&base, path.parent().unwrap_or(Path::new(""))).doing(&what)?;
    let name = Path::new(path.file_name().unwrap_or_default());
    if request.directory {
        return make_folder(&parent, name, request).doing(what);
    }
    if !request.link.is_empty() {
        return link(&parent, name, request).doing(what);
    }
    let size = u64::try_from(request.data.len()).unwrap_or(u64::MAX);
    if request.offset.saturating_add(size) > LARGEST {
        return Err(AgentError::Asked(format!(
            "the file {} would be larger than {} MiB, and no file may be",
            request.path,
            LARGEST >> 20
        )));
    }
    write(&parent, name, request).doing(what)
}

fn check(path: &Path, text: &str) -> Result<(), AgentError> {
    let is_good = path.file_name().is_some()
        && path.components().count() <= DEEPEST
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if is_good {
        return Ok(());
    }
    Err(AgentError::Asked(format!(
        "'{text}' is no place for a file: a relative path without '..' of at most {DEEPEST} parts was expected"
    )))
}

/// Opens a directory below the base, and makes what is missing of it. No link is followed.
fn folder(base: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut at = openat2(base, ".", flags, Mode::empty(), resolve)?;
    for part in path.components() {
        let part = Path::new(part.as_os_str());
        match mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        at = openat2(&at, part, flags, Mode::empty(), resolve)?;
    }
    Ok(at)
}

fn owner(request: &PutFileRequest) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(request.uid)),
        Some(Gid::from_raw(request.gid)),
    )
}

fn mode(request: &PutFileRequest) -> Mode {
    Mode::from_raw_mode(request.mode & 0o7777)
}

fn make_folder(parent: &OwnedFd, name: &Path, request: &PutFileRequest) -> Result<(), Errno> {
    let made = folder(parent, name)?;
    let (user, group) = owner(request);
    chownat(&made, "", user, group, AtFlags::EMPTY_PATH)?;
    chmodat(parent, name, mode(request), AtFlags::empty())
}

/// A link takes the place of another at once: what is bound never sees it missing.
fn link(parent: &OwnedFd, name: &Path, request: &PutFileRequest) -> Result<(), Errno> {
    let fresh = Path::new(".fresh-link");
    match unlinkat(parent, fresh, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    symlinkat(request.link.as_str(), parent, fresh)?;
    let (user, group) = owner(request);
    chownat(parent, fresh, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
    renameat(parent, fresh, parent, name)
}

fn write(parent: &OwnedFd, name: &Path, request: &PutFileRequest) -> Result<(), Errno> {
    let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if request.offset == 0 {
        flags |= OFlags::TRUNC;
    }
    let file = openat2(
        parent,
        name,
        flags,
        Mode::from_raw_mode(0o600),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?;
    let mut rest = &request.data[..];
    let mut at = request.offset;
    while !rest.is_empty() {
        let count = rustix::io::pwrite(&file, rest, at)?;
        rest = rest.get(count..).unwrap_or_default();
        at = at.saturating_add(u64::try_from(count).unwrap_or_default());
    }
    let (user, group) = owner(request);
    fchown(&file, user, group)?;
    fchmod(&file, mode(request))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn request(path: &str, offset: u64, data: &[u8]) -> PutFileRequest {
        let mut request = PutFileRequest::new();
        request.path = path.into();
        request.offset = offset;
        request.data = data.into();
        request.mode = 0o640;
        request.uid = rustix::process::getuid().as_raw();
        request.gid = rustix::process::getgid().as_raw();
        request
    }

    #[test]
    fn a_file_comes_in_pieces_and_anew() {
        let base = tempfile::tempdir().unwrap();
        put(base.path(), &request("a/b/c", 0, b"first ")).unwrap();
        put(base.path(), &request("a/b/c", 6, b"second")).unwrap();
        let file = base.path().join("a/b/c");
        assert_eq!(std::fs::read(&file).unwrap(), b"first second");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        put(base.path(), &request("a/b/c", 0, b"x")).unwrap();
        assert_eq!(std::fs::read(file).unwrap(), b"x");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        let base = tempfile::tempdir().unwrap();
        for path in ["", "/etc/passwd", "../x", "a/../../x", ".", "a/.."] {
            assert!(
                put(base.path(), &request(path, 0, b"")).is_err(),
                "{path:?}"
            );
        }
    }

    #[test]
    fn no_link_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let mut link = request("out", 0, b"");
        link.link = outside.path().to_str().unwrap().into();
        put(base.path(), &link).unwrap();
        assert!(put(base.path(), &request("out/x", 0, b"x")).is_err());
        assert!(put(base.path(), &request("out", 0, b"x")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_takes_the_place_of_another() {
        let base = tempfile::tempdir().unwrap();
        for target in ["..1", "..2"] {
            let mut link = request("..data", 0, b"");
            link.link = target.into();
            put(base.path(), &link).unwrap();
        }
        let target = std::fs::read_link(base.path().join("..data")).unwrap();
        assert_eq!(target, Path::new("..2"));
    }

    #[test]
    fn a_file_does_not_grow_for_ever() {
        let base = tempfile::tempdir().unwrap();
        assert!(put(base.path(), &request("x", LARGEST, b"x")).is_err());
    }
}
