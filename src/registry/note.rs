//! Sockets of VMs that no entry names: a file `NAME.PID.vsock` each, which says where the socket is.
//!
//! A VM with sockets for its guest need not be among those that run, and is told where they are only while it starts. As
//! with an entry, **the warden of a live VM holds a lock on its note**: one that can be locked was left behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::entry::{self, Found, Stale};
use super::leftover::{Seen, socket_fate};
use super::{Registry, RegistryError, directory};
use crate::remnant::{Fate, Kind, Remnant};

/// What a note's file name ends with.
const SUFFIX: &str = ".vsock";
/// The longest path, in bytes: that of a socket is shorter.
const LONGEST: u64 = 4096;

/// A note. Dropping it removes it: the socket is gone by then.
#[derive(Debug)]
pub(crate) struct Note {
    /// Locked for as long as the VM runs.
    file: File,
    path: PathBuf,
}

impl Drop for Note {
    fn drop(&mut self) {
        if entry::is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Registry {
    /// Notes that the VM `name` of this process's is to have a socket at an absolute path.
    ///
    /// # Errors
    /// When the directory cannot be used, or the socket has a note of this process's already.
    pub(crate) fn note(&self, name: &str, socket: &Path) -> Result<Note, RegistryError> {
        directory::make(&self.directory)?;
        let failed = |error| RegistryError::File(self.directory.clone(), error);
        let file_name = format!("{name}.{}{SUFFIX}", std::process::id());
        let path = self.directory.join(file_name);
        // Left by a process with our number, or by the socket before this one.
        let _ = fs::remove_file(&path);
        let text = socket.as_os_str().as_bytes();
        let file = self.publish(name, text, &path).map_err(failed)?;
        let file = file.ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
        Ok(Note { file, path })
    }

    /// Removes the socket of a dead VM that a note names, and then the note.
    pub(super) fn see_note(name: &str, path: &Path, dry_run: bool, seen: &mut Seen) {
        // One that somebody holds is no draft either: whoever lives keeps what it has written.
        let Ok(Found::Stale(stale)) = entry::look_at_draft(path) else {
            return;
        };
        let remnant = |kind, path: &Path, fate| Remnant {
            kind,
            vm: Some(name.to_owned()),
            path: path.to_owned(),
            fate,
        };
        let socket = read(path);
        let fate = socket
            .as_deref()
            .and_then(|socket| socket_fate(socket, dry_run));
        let stays = matches!(fate, Some(Fate::Stays(_)));
        if let (Some(socket), Some(fate)) = (socket, fate) {
            seen.remnants.push(remnant(Kind::Socket, &socket, fate));
        }
        if !stays {
            let fate = Fate::by(dry_run, || Stale::remove(stale));
            seen.remnants.push(remnant(Kind::Entry, path, fate));
        }
    }
}

/// The path that a note holds.
fn read(path: &Path) -> Option<PathBuf> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    Some(OsStr::from_bytes(&text).into())
}

/// The VM's name in the file name of a note: `NAME.PID.vsock`.
pub(super) fn note_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let (name, pid) = name.rsplit_once('.')?;
    let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn registry(directory: &Path) -> Registry {
        Registry {
            directory: directory.join("vms"),
        }
    }

    fn fates(registry: &Registry) -> Vec<(Kind, Fate)> {
        let remnants = registry.clear(false).unwrap();
        remnants
            .into_iter()
            .map(|one| (one.kind, one.fate))
            .collect()
    }

    #[test]
    fn a_socket_whose_vm_is_gone_goes_with_its_note() {
        let directory = tempfile::tempdir().unwrap();
        let registry = registry(directory.path());
        let socket = directory.path().join("guest.vsock");
        let note = registry.note("web", &socket).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(fates(&registry), [], "its VM lives");
        // As by SIGKILL: the lock goes, the file stays.
        let path = note.path.clone();
        let kept = fs::read(&path).unwrap();
        drop(note);
        fs::write(&path, kept).unwrap();
        let removed = [(Kind::Socket, Fate::Removed), (Kind::Entry, Fate::Removed)];
        assert_eq!(fates(&registry), removed);
        assert!(!socket.exists() && !path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let registry = registry(directory.path());
        drop(registry.note("web", Path::new("/x")).unwrap());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let note = registry.directory.join("web.7.vsock");
        fs::write(&note, file.to_str().unwrap()).unwrap();
        let found = fates(&registry);
        assert!(
            matches!(found[0], (Kind::Socket, Fate::Foreign(_))),
            "{found:?}"
        );
        assert!(file.exists() && !note.exists());
    }

    #[test]
    fn a_note_has_a_name_and_a_number() {
        let name = |path: &str| note_name(Path::new(path));
        assert_eq!(name("/r/a.b.17.vsock"), Some("a.b".to_owned()));
        for path in [
            "/r/web.json",
            "/r/web.vsock",
            "/r/.web.1.vsock",
            "/r/web.x.vsock",
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
