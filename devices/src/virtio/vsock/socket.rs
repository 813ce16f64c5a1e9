//! The host's side: a Unix socket that listens, made at a path or passed in, and the way to those that the guest calls.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with,
};

use super::config::SocketError;
use super::dial::Dial;
use crate::outside;

/// Connections that wait to be accepted; more wait in `connect`.
const BACKLOG: i32 = 128;

/// The host's side of a device.
#[derive(Debug)]
pub struct Host {
    listener: OwnedFd,
    pub(super) dial: Dial,
}

/// A socket's file that goes when this is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Host {
    /// Makes the socket at `path`, itself or by whoever does it for this process. One that nobody serves any more is
    /// replaced. The file, if this process has made it, goes when the second one is dropped.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<(Self, Option<Bound>), SocketError> {
        let failed = |reason| SocketError::Bind {
            path: path.to_owned(),
            reason,
        };
        match outside::way() {
            Some(way) => {
                let listener = way.listen(path).map_err(failed)?;
                let line = way.lay_line(path).map_err(SocketError::Line)?;
                let dial = Dial::Line(line);
                Ok((Self { listener, dial }, None))
            }
            None => {
                let (listener, file) = bind_at(path).map_err(failed)?;
                let dial = Dial::Here(path.to_owned());
                Ok((Self { listener, dial }, Some(file)))
            }
        }
    }

    /// Takes a socket that listens already; `name` is what messages call it. What the guest calls lies beside the path that
    /// it is bound to.
    ///
    /// # Errors
    /// When it is no Unix stream socket that listens.
    pub fn adopt(name: &Path, listener: OwnedFd) -> Result<Self, SocketError> {
        let fits = socket_domain(&listener) == Ok(AddressFamily::UNIX)
            && socket_type(&listener) == Ok(SocketType::STREAM)
            && socket_acceptconn(&listener) == Ok(true)
            && fcntl_getfl(&listener)
                .and_then(|flags| fcntl_setfl(&listener, flags | OFlags::NONBLOCK))
                .is_ok();
        if !fits {
            return Err(SocketError::NotListening(name.to_owned()));
        }
        let dial = match (path_of(&listener), outside::way()) {
            (None, _) => Dial::Nowhere,
            (Some(path), None) => Dial::Here(path),
            (Some(path), Some(way)) => Dial::Line(way.lay_line(&path).map_err(SocketError::Line)?),
        };
        Ok(Self { listener, dial })
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When the kernel grants no descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.try_clone()?,
            dial: self.dial.try_clone()?,
        })
    }

    /// Whether this process itself connects to the sockets that the guest calls.
    pub fn connects(&self) -> bool {
        matches!(self.dial, Dial::Here(_))
    }

    pub(super) fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

/// Makes a socket that listens at `path`, in place of one that nobody serves.
///
/// # Errors
/// As `bind(2)`.
pub fn bind_at(path: &Path) -> io::Result<(OwnedFd, Bound)> {
    let address = SocketAddrUnix::new(path)?;
    let socket = stream()?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if is_deserted(path, &address) => {
            fs::remove_file(path)?;
            bind(&socket, &address)?;
        }
        bound => bound?,
    }
    let file = fs::symlink_metadata(path)?;
    let bound = Bound {
        path: path.to_owned(),
        device: file.dev(),
        inode: file.ino(),
    };
    listen(&socket, BACKLOG)?;
    Ok((socket, bound))
}

fn stream() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Whether a socket is there that nobody serves.
fn is_deserted(path: &Path, address: &SocketAddrUnix) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && stream().is_ok_and(|socket| connect(socket, address) == Err(Errno::CONNREFUSED))
}

/// The path that a socket is bound to, from the root on.
fn path_of(socket: &OwnedFd) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(getsockname(socket).ok()?).ok()?;
    let path = PathBuf::from(std::ffi::OsStr::new(address.path()?.to_str().ok()?));
    path.is_absolute().then_some(path)
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Bound {
    /// The file: its device and inode.
    pub fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
