//! One read from a client: bytes, and descriptors that came with them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::MAX_FDS;

/// What a read brought.
#[derive(Debug)]
pub(super) enum Received {
    /// Nothing is there now.
    Nothing,
    /// Nothing will ever be there.
    End,
    /// So many bytes, and these descriptors.
    Bytes(usize, Vec<OwnedFd>),
}

/// Reads without waiting. Descriptors that do not fit into the control buffer are never installed: the kernel
/// closes them (unix(7), `MSG_CTRUNC`).
///
/// # Errors
/// When the connection is broken.
pub(super) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut parts = [IoSliceMut::new(bytes)];
    let count = loop {
        match recvmsg(socket, &mut parts, &mut control, flags) {
            Ok(message) => break message.bytes,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        }
    };
    if count == 0 {
        return Ok(Received::End);
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(Received::Bytes(count, fds))
}
