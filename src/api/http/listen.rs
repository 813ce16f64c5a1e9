//! The listening socket: made at a path, or adopted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, chmod, fchmod, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use thiserror::Error;

/// The longest path of a socket, in bytes: `sun_path` less its final zero (unix(7)).
const MAX_PATH: usize = 107;
/// Connections that wait to be accepted; more wait in `connect`.
const BACKLOG: i32 = 128;

/// Why there is no socket to listen on.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    #[error(
        "the socket path {} has {length} bytes, and a socket's path at most {MAX_PATH}: choose a shorter one", path.display()
    )]
    TooLong { path: PathBuf, length: usize },
    #[error(
        "the socket {} exists and another process serves it: choose another path, or end that process and remove it", .0.display()
    )]
    InUse(PathBuf),
    #[error(
        "the socket {} exists, left behind by a process that is gone: remove it", .0.display()
    )]
    Stale(PathBuf),
    #[error(
        "{} exists and is no socket: remove it, or choose another path for the socket", .0.display()
    )]
    NoSocket(PathBuf),
    #[error("the directory of the socket {} does not exist: create it first", .0.display())]
    NoDirectory(PathBuf),
    #[error("the socket {} cannot be created: this user may not write to its directory", .0.display())]
    Denied(PathBuf),
    #[error("the socket {} cannot be created", path.display())]
    Bind { path: PathBuf, source: io::Error },
    #[error("the descriptor passed as the API socket is no listening Unix stream socket")]
    NotListening,
}

/// A listening Unix stream socket that never blocks. **On drop the file goes that this socket was bound to, and no
/// other.**
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    /// The file we made.
    file: Option<BoundFile>,
}

#[derive(Debug)]
struct BoundFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Makes a socket at `path`, which must not exist. `mode`: the file's permissions, whatever the umask; `None`:
    /// 0777 less the umask.
    ///
    /// # Errors
    /// When it cannot be made there, in words for the user.
    pub(crate) fn bind(path: &Path, mode: Option<u32>) -> Result<Self, ListenError> {
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            let path = path.to_owned();
            return Err(ListenError::TooLong { path, length });
        }
        let socket = bound(path, mode).map_err(|error| explain(path, error))?;
        let file = fs::symlink_metadata(path).ok().map(|file| BoundFile {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        });
        Ok(Self { socket, file })
    }

    /// Takes a socket that listens already; its file, if any, is its maker's.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn adopt(socket: OwnedFd) -> Result<Self, ListenError> {
        let fits = socket_domain(&socket) == Ok(AddressFamily::UNIX)
            && socket_type(&socket) == Ok(SocketType::STREAM)
            && socket_acceptconn(&socket) == Ok(true);
        if !fits {
            return Err(ListenError::NotListening);
        }
        let set = || {
            fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)
        };
        set().map_err(|_| ListenError::NotListening)?;
        Ok(Self { socket, file: None })
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// When the process or the system has no descriptor or memory left for it.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Ok(Some(socket)),
            // A client that is gone again, or a signal: the next turn sees who else is there.
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(ours) = &self.file
            && let Ok(file) = fs::symlink_metadata(&ours.path)
            && (file.dev(), file.ino()) == (ours.device, ours.inode)
        {
            // In a jail it may not be removable; then the jail's end takes it away.
            let _ = fs::remove_file(&ours.path);
        }
    }
}

fn stream_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn bound(path: &Path, mode: Option<u32>) -> rustix::io::Result<OwnedFd> {
    let socket = stream_socket()?;
    if let Some(mode) = mode {
        // The file gets the permissions of the unbound socket: there is no moment in which it has more.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
    }
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(mode) = mode {
        // What the umask has taken from it was asked for by name.
        chmod(path, Mode::from_raw_mode(mode))?;
    }
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn explain(path: &Path, error: Errno) -> ListenError {
    let owned = path.to_owned();
    match error {
        Errno::ADDRINUSE => occupied(path),
        Errno::NOENT | Errno::NOTDIR => ListenError::NoDirectory(owned),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ListenError::Denied(owned),
        error => ListenError::Bind {
            path: owned,
            source: error.into(),
        },
    }
}

/// What stands in the way. Firecracker does not remove it either: it may be somebody's.
fn occupied(path: &Path) -> ListenError {
    let owned = path.to_owned();
    let is_socket = |file: fs::Metadata| file.file_type().is_socket();
    if !fs::symlink_metadata(path).is_ok_and(is_socket) {
        return ListenError::NoSocket(owned);
    }
    let attempt = || connect(&stream_socket()?, &SocketAddrUnix::new(path)?);
    match attempt() {
        Err(Errno::CONNREFUSED) => ListenError::Stale(owned),
        _ => ListenError::InUse(owned),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn refused(path: &Path) -> String {
        let text = Listener::bind(path, None).unwrap_err().to_string();
        text.replace(path.to_str().unwrap(), "PATH")
    }

    #[test]
    fn the_file_comes_with_the_listener_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, Some(0o600)).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(listener.accept().unwrap().is_none());
        let _client = UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().is_some());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_took_its_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, None).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(listener);
        assert!(path.exists());
    }

    #[test]
    fn what_stands_in_the_way_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let live = UnixListener::bind(&path).unwrap();
        assert_eq!(
            refused(&path),
            "the socket PATH exists and another process serves it: choose another path, or end that process and remove it"
        );
        drop(live);
        assert_eq!(
            refused(&path),
            "the socket PATH exists, left behind by a process that is gone: remove it"
        );
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(
            refused(&path),
            "PATH exists and is no socket: remove it, or choose another path for the socket"
        );
        assert!(path.exists());
    }

    #[test]
    fn a_path_without_a_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            refused(&folder.path().join("none/socket")),
            "the directory of the socket PATH does not exist: create it first"
        );
    }

    #[test]
    fn a_path_has_at_most_107_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let left = MAX_PATH - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("s".repeat(left));
        assert!(Listener::bind(&path, None).is_ok());
        let path = folder.path().join("s".repeat(left + 1));
        assert_eq!(
            refused(&path),
            "the socket path PATH has 108 bytes, and a socket's path at most 107: choose a shorter one"
        );
    }

    #[test]
    fn only_a_listening_stream_socket_is_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let datagram = UnixDatagram::bind(folder.path().join("datagram")).unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let file = fs::File::open(folder.path()).unwrap();
        for fd in [OwnedFd::from(datagram), stream.into(), file.into()] {
            let refusal = Listener::adopt(fd).unwrap_err();
            assert!(matches!(refusal, ListenError::NotListening));
        }
    }

    #[test]
    fn an_adopted_socket_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let made = UnixListener::bind(folder.path().join("socket")).unwrap();
        let listener = Listener::adopt(made.into()).unwrap();
        assert!(listener.accept().unwrap().is_none());
    }
}
