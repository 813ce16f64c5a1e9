//! What a user may say about the socket between guest and host.

use std::io;
use std::path::PathBuf;

/// The socket between guest and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The guest's context id, from 3 on.
    pub guest_cid: u32,
}

/// Why the device could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel grants no timer.
    #[error("cannot make a timer for the vsock device: {0}")]
    Timer(io::Error),
}

/// Why the host's side cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket cannot be made. It begins as Firecracker's sentence does.
    #[error(
        "Cannot create backend for vsock device: Error binding to the host-side Unix socket: {}: {}",
        said(reason),
        advice(path, reason)
    )]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// A descriptor that is none.
    #[error(
        "Cannot create backend for vsock device: the descriptor {} is no Unix stream socket that listens: bind it to a \
         path and let it listen before it is passed", .0.display()
    )]
    NotListening(PathBuf),
    /// No way to the sockets that the guest calls.
    #[error(
        "Cannot create backend for vsock device: there is no way to the sockets that the guest connects to: {0}"
    )]
    Line(io::Error),
}

impl SocketError {
    /// Whether somebody else has the path.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Bind { reason, .. } if reason.kind() == io::ErrorKind::AddrInUse)
    }
}

/// What the kernel said, in the words of the C library that Firecracker has.
fn said(reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "Address in use (os error 98)".to_owned(),
        _ => reason.to_string(),
    }
}

fn advice(path: &std::path::Path, reason: &io::Error) -> String {
    let path = path.display();
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{path} exists and is served, or is no socket: remove it, or name another path")
        }
        io::ErrorKind::NotFound => format!("make the directory of {path} first"),
        io::ErrorKind::PermissionDenied => {
            format!("name a path in a directory that this user may write, and not {path}")
        }
        _ => format!("name another path than {path}"),
    }
}
