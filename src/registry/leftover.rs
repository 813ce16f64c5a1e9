//! What VMs have left behind in the directory and at the places that their entries name.
//!
//! An entry that nobody holds the lock on is a dead VM's, and as long as we hold it no other VM takes its name. A socket
//! is removed only for such an entry that names it, by a path without `..`, if it is a socket of this user's that refuses
//! connections. So nothing of a VM that runs is touched, and nothing that another program has made.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

use super::entry::{self, Found, Stale, Vm};
use super::note::note_name;
use super::{Registry, RegistryError, entry_name, process};
use crate::remnant::{Fate, Kind, Remnant};

/// What was found in the directory.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// VMs that run.
    pub(super) vms: Vec<Vm>,
    /// What others have left behind, and what is of no VM.
    pub(super) remnants: Vec<Remnant>,
}

impl Registry {
    /// Removes what VMs have left behind, or only says what there is.
    ///
    /// # Errors
    /// When the directory is not this user's alone, or cannot be read; that it is not there means that nothing is.
    pub(crate) fn clear(&self, dry_run: bool) -> Result<Vec<Remnant>, RegistryError> {
        match self.directory.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            _ => self.check()?,
        }
        Ok(self.see(Some(dry_run))?.remnants)
    }

    /// Looks through the directory, and clears up where that is wanted.
    pub(super) fn see(&self, clear: Option<bool>) -> Result<Seen, RegistryError> {
        let failed = |error| RegistryError::File(self.directory.clone(), error);
        let files = match fs::read_dir(&self.directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut seen = Seen::default();
        for file in files {
            let path = file.map_err(failed)?.path();
            if let Some(name) = entry_name(&path) {
                self.see_entry(&name, &path, clear, &mut seen);
            } else if let (Some(name), Some(dry_run)) = (draft_name(&path), clear) {
                see_draft(&name, &path, dry_run, &mut seen);
            } else if let (Some(name), Some(dry_run)) = (note_name(&path), clear) {
                Self::see_note(&name, &path, dry_run, &mut seen);
            }
        }
        Ok(seen)
    }

    fn see_entry(&self, name: &str, path: &Path, clear: Option<bool>, seen: &mut Seen) {
        let foreign = |why: &str| Remnant {
            kind: Kind::Entry,
            vm: None,
            path: path.to_owned(),
            fate: Fate::Foreign(why.to_owned()),
        };
        match (entry::look(path), clear) {
            (Ok(Found::Live(vm)), _) if process::runs(&vm) => seen.vms.push(vm),
            (Ok(Found::Stale(stale)), Some(dry_run)) => {
                seen.remnants.extend(self.clean(name, stale, path, dry_run));
            }
            (Ok(Found::Foreign(why)), _) => seen.remnants.push(foreign(why)),
            (Err(error), _) => seen.remnants.push(foreign(&error.to_string())),
            _ => {}
        }
    }

    /// Removes what a VM has left behind, the entry last: a socket that cannot be removed is found again by it.
    fn clean(&self, name: &str, stale: Stale, path: &Path, dry_run: bool) -> Vec<Remnant> {
        let mut remnants = self.clear_sockets(name, &stale, dry_run);
        let is_done = |one: &Remnant| !matches!(one.fate, Fate::Stays(_));
        if remnants.iter().all(is_done) {
            let fate = Fate::by(dry_run, || stale.remove());
            remnants.push(remnant(Kind::Entry, name, path, fate));
        }
        remnants
    }

    /// Removes the sockets of a dead VM: where its entry says, and where one is that names no other place.
    pub(super) fn clear_sockets(&self, name: &str, stale: &Stale, dry_run: bool) -> Vec<Remnant> {
        let named = stale.vm().and_then(|vm| vm.socket.clone());
        let ours = Some(self.socket_path(name)).filter(|ours| named.as_ref() != Some(ours));
        let sockets = [named, ours].into_iter().flatten();
        sockets
            .filter_map(|socket| {
                let fate = socket_fate(&socket, dry_run)?;
                Some(remnant(Kind::Socket, name, &socket, fate))
            })
            .collect()
    }
}

fn remnant(kind: Kind, vm: &str, path: &Path, fate: Fate) -> Remnant {
    Remnant {
        kind,
        vm: Some(vm.to_owned()),
        path: path.to_owned(),
        fate,
    }
}

/// An entry whose maker was killed before it had its name.
fn see_draft(name: &str, path: &Path, dry_run: bool, seen: &mut Seen) {
    if let Ok(Found::Stale(stale)) = entry::look_at_draft(path) {
        let fate = Fate::by(dry_run, || stale.remove());
        seen.remnants.push(remnant(Kind::Entry, name, path, fate));
    }
}

/// The name in the file name of an entry that is being written: `.NAME.PID.COUNT`.
fn draft_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?;
    let (name, count) = name.rsplit_once('.')?;
    let (name, pid) = name.rsplit_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (!name.is_empty() && is_number(count) && is_number(pid)).then(|| name.to_owned())
}

/// What is at the path of a dead VM's socket.
enum Socket {
    /// Nothing.
    None,
    /// A socket that nobody serves: this file.
    Deserted((u64, u64)),
    /// A socket that somebody serves: another program, or a monitor that is just ending.
    Served,
    /// Nothing that ravelin has made there, and why.
    Foreign(&'static str),
}

fn of_socket(path: &Path) -> Socket {
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(is_plain) {
        return Socket::Foreign("its path is none that ravelin writes down");
    }
    let Ok(file) = fs::symlink_metadata(path) else {
        return Socket::None;
    };
    if !file.file_type().is_socket() {
        return Socket::Foreign("it is no socket");
    }
    if file.uid() != geteuid().as_raw() {
        return Socket::Foreign("it is another user's");
    }
    match is_deserted(path) {
        true => Socket::Deserted((file.dev(), file.ino())),
        false => Socket::Served,
    }
}

/// Removes a dead VM's socket, or says why not; `None` when there is nothing.
pub(super) fn socket_fate(socket: &Path, dry_run: bool) -> Option<Fate> {
    match of_socket(socket) {
        Socket::None => None,
        Socket::Deserted(id) => Some(Fate::by(dry_run, || remove_socket(socket, id))),
        Socket::Served => Some(Fate::Stays("somebody serves it still".to_owned())),
        Socket::Foreign(why) => Some(Fate::Foreign(why.to_owned())),
    }
}

/// Whether connections are refused.
fn is_deserted(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let attempt = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    attempt() == Err(Errno::CONNREFUSED)
}

/// Removes the socket if it is the one that was looked at.
fn remove_socket(path: &Path, id: (u64, u64)) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if (file.dev(), file.ino()) == id => fs::remove_file(path),
        // Somebody else was quicker.
        _ => Ok(()),
    }
}
