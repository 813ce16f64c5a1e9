//! What a warden that was killed leaves behind, as the command line of the process that clears it up.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::console::terminal::{self, Settings};
use crate::jail::cgroup;
use crate::registry::Registry;

/// What stands in place of a subcommand.
const VERB: &str = "--clear-up";

/// What is left behind.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    /// Cgroups, one in each hierarchy.
    pub(super) cgroups: Vec<PathBuf>,
    /// The API's socket, whose VM has a name among those that run.
    pub(super) entry: Option<PathBuf>,
    /// Other sockets.
    pub(super) minded: Vec<Minded>,
    /// What the terminal on stdin was set to.
    pub(super) terminal: Option<Settings>,
}

/// A socket's file that was to be made, and that file once it was: device and inode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Minded {
    pub(super) path: PathBuf,
    pub(super) file: Option<(u64, u64)>,
}

impl Estate {
    /// What this process's command line says was left behind, if it is one of that kind.
    pub(crate) fn of_command_line() -> Option<Self> {
        let mut args = std::env::args_os().skip(1);
        let is_one = args.next().is_some_and(|verb| verb == VERB);
        is_one.then(|| Self::read(args))
    }

    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && self.entry.is_none() && self.terminal.is_none()
    }

    /// One more socket, or more of one.
    pub(super) fn mind(&mut self, one: Minded) {
        self.minded.retain(|other| other.path != one.path);
        self.minded.push(one);
    }

    /// The command line.
    pub(super) fn command_line(&self) -> Vec<CString> {
        let cgroups = self.cgroups.iter().map(|path| arg("cgroup=", path));
        let entry = self.entry.iter().map(|path| arg("entry=", path));
        let minded = self.minded.iter().map(|one| match one.file {
            Some((device, inode)) => arg(&format!("socket={device}:{inode}:"), &one.path),
            None => arg("socket=::", &one.path),
        });
        let terminal = self.terminal.iter().map(terminal::as_text);
        let terminal = terminal.map(|text| arg("terminal=", Path::new(&text)));
        let first = ["ravelin", VERB].map(|text| arg(text, Path::new("")));
        let all = first.into_iter().chain(cgroups).chain(entry);
        all.chain(minded).chain(terminal).collect()
    }

    fn read(args: impl Iterator<Item = OsString>) -> Self {
        let mut estate = Self::default();
        for arg in args {
            let bytes = arg.as_bytes();
            let at = bytes.iter().position(|byte| *byte == b'=');
            let (what, value) = bytes.split_at(at.unwrap_or(bytes.len()));
            let value = OsStr::from_bytes(value.get(1..).unwrap_or_default());
            match what {
                b"cgroup" => estate.cgroups.push(value.into()),
                b"entry" => estate.entry = Some(value.into()),
                b"socket" => estate.minded.extend(Minded::read(value)),
                b"terminal" => estate.terminal = value.to_str().and_then(terminal::from_text),
                _ => {}
            }
        }
        estate
    }

    /// Clears it up.
    pub(crate) fn clear(&self) {
        for directory in &self.cgroups {
            // This waits until the monitor is gone, who goes with the warden. What stays is found by `ravelin gc`.
            let _ = cgroup::remove(directory);
        }
        if let Some(settings) = &self.terminal {
            terminal::put_back_if_raw(settings);
        }
        self.minded.iter().for_each(Minded::remove);
        if self.entry.is_some() || !self.minded.is_empty() {
            // Looking at the list removes what is there without its VM, and the socket that its entry or note names. Nothing else
            // is believed: at the same path there may be the socket of the next one by now.
            let _ = Registry::of_this_user().list();
        }
    }
}

/// A word and a path, or what else has no byte 0.
fn arg(word: &str, path: &Path) -> CString {
    let mut text = OsString::from(word);
    text.push(path);
    CString::new(text.into_vec()).unwrap_or_default()
}

impl Minded {
    /// Of `DEVICE:INODE:PATH`.
    fn read(text: &OsStr) -> Option<Self> {
        let mut parts = text.as_bytes().splitn(3, |byte| *byte == b':');
        let mut number = || -> Option<u64> { str::from_utf8(parts.next()?).ok()?.parse().ok() };
        let file = (number(), number());
        Some(Self {
            path: OsStr::from_bytes(parts.next()?).into(),
            file: file.0.zip(file.1),
        })
    }

    /// Removes the file if nobody serves it, and it is the one that was made as far as that is known: the next VM may
    /// have made its own at the path.
    fn remove(&self) {
        let there = fs::symlink_metadata(&self.path).ok();
        let there = there.filter(|file| file.file_type().is_socket());
        let is_it = there.is_some_and(|there| {
            self.file
                .is_none_or(|file| file == (there.dev(), there.ino()))
        });
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if is_it && UnixStream::connect(&self.path).err().is_some_and(refused) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_line_says_is_what_was_left() {
        let minded = |path, file| Minded {
            path: PathBuf::from(path),
            file,
        };
        let mut estate = Estate {
            cgroups: vec!["/sys/fs/cgroup/a=b".into(), "/c".into()],
            entry: Some(OsString::from_vec(vec![b'/', 0xff]).into()),
            ..Estate::default()
        };
        estate.mind(minded("/run/a:b", None));
        estate.mind(minded("/run/c", Some((1, 2))));
        estate.mind(minded("/run/a:b", Some((3, u64::MAX))));
        let line = estate.command_line();
        assert_eq!(line[1].to_bytes(), VERB.as_bytes());
        let args = line.into_iter().skip(2);
        let read = Estate::read(args.map(|arg| OsString::from_vec(arg.into_bytes())));
        assert_eq!(read.cgroups, estate.cgroups);
        assert_eq!(read.entry, estate.entry);
        assert_eq!(read.minded, estate.minded);
        assert!(!read.is_empty() && Estate::default().is_empty());
    }
}
