//! The keeper: a process that does nothing until the warden is gone, and then clears up after it.
//!
//! A warden that ends as it should dismisses it. One that was killed takes its monitor with it and leaves cgroups,
//! sockets and a name behind; the keeper, which holds nothing but the end of a pipe, removes them. What the warden makes
//! later it tells the keeper of, before it makes it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::jail::cgroup::Site;
use crate::jail::{Side, close_all_but, fork, leave};
use crate::registry::Registry;

/// The warden's side of the keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    pipe: PipeWriter,
    pid: Option<rustix::process::Pid>,
}

impl Keeper {
    /// Starts the keeper of what will be made.
    ///
    /// # Errors
    /// When the kernel makes no process.
    pub(super) fn start(site: Option<&Site>, socket: Option<&Path>) -> io::Result<Self> {
        let (mut reader, pipe) = io::pipe()?;
        if site.is_none() && socket.is_none() {
            return Ok(Self { pipe, pid: None });
        }
        match fork()? {
            Side::Parent(pid) => Ok(Self {
                pipe,
                pid: Some(pid),
            }),
            Side::Child => {
                // Also its own copy of the pipe's other end, and whatever others wait to see closed.
                close_all_but(reader.as_fd());
                // Away from the terminal and the caller's group; signals are blocked already.
                let _ = rustix::process::setsid();
                if let Some(minded) = listen(&mut reader) {
                    clear(site, socket);
                    minded.iter().for_each(Minded::remove);
                }
                leave()
            }
        }
    }

    /// Has it remove a socket's file, which is about to be made, or is this one.
    pub(super) fn mind(&self, path: &Path, file: Option<(u64, u64)>) {
        let minded = Minded {
            path: path.as_os_str().to_owned(),
            file,
        };
        if let Ok(mut line) = serde_json::to_vec(&Word::Mind(minded)) {
            line.push(b'\n');
            // One that was killed minds nothing.
            let _ = (&self.pipe).write_all(&line);
        }
    }

    /// Lets the keeper go: everything is cleared up.
    pub(super) fn dismiss(mut self) {
        let Some(pid) = self.pid else { return };
        // One that was killed is only to be reaped.
        if let Ok(mut line) = serde_json::to_vec(&Word::Dismissed) {
            line.push(b'\n');
            let _ = self.pipe.write_all(&line);
        }
        let options = rustix::process::WaitOptions::empty();
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(pid), options) {}
    }
}

/// What the warden tells its keeper.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Dismissed,
    Mind(Minded),
}

/// A socket's file that was to be made, and that file once it was.
#[derive(Debug, Serialize, Deserialize)]
struct Minded {
    path: OsString,
    file: Option<(u64, u64)>,
}

impl Minded {
    /// Removes the file if nobody serves it, and it is the one that was made as far as that is known: the next VM may
    /// have made its own at the path.
    fn remove(&self) {
        let path = Path::new(&self.path);
        let there = fs::symlink_metadata(path).ok();
        let there = there.filter(|file| file.file_type().is_socket());
        let is_it = there.is_some_and(|there| {
            self.file
                .is_none_or(|file| file == (there.dev(), there.ino()))
        });
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if is_it && UnixStream::connect(path).err().is_some_and(refused) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Waits for the warden's end; what it has left to be removed, unless it was dismissed.
fn listen(reader: &mut PipeReader) -> Option<Vec<Minded>> {
    let mut minded: Vec<Minded> = Vec::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Word::Dismissed) => return None,
            Ok(Word::Mind(one)) => {
                minded.retain(|other| other.path != one.path);
                minded.push(one);
            }
            Err(_) => {}
        }
    }
    Some(minded)
}

fn clear(site: Option<&Site>, socket: Option<&Path>) {
    if let Some(site) = site {
        // This waits until the monitor is gone, who goes with the warden.
        site.remove();
    }
    if socket.is_some() {
        // Looking at the list removes what is there without its VM, and the socket that its entry names. Nothing else
        // is believed: at the same path there may be the socket of the next one by now.
        let _ = Registry::of_this_user().list();
    }
}
