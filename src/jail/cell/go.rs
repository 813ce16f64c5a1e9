//! The parent's one word to its child: that it may go on, with the ways into its cgroups beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most ways: version 1 has a dozen controllers.
const MOST: usize = 16;

/// Says it.
///
/// # Errors
/// EPIPE: the child is gone, and has said why.
pub(super) fn say(child: impl AsFd, doors: &[OwnedFd]) -> io::Result<()> {
    let doors: Vec<BorrowedFd<'_>> = doors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !doors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&doors)) {
        return Err(Errno::TOOBIG.into());
    }
    sendmsg(
        child,
        &[IoSlice::new(b"g")],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for it; `None` when the parent is gone instead.
pub(super) fn hear(parent: impl AsFd) -> Option<Vec<OwnedFd>> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    loop {
        let into = &mut [IoSliceMut::new(&mut word)];
        match recvmsg(&parent, into, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Ok(got) if got.bytes == 1 => break,
            _ => return None,
        }
    }
    let doors = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(doors) => Some(doors),
        _ => None,
    });
    Some(doors.flatten().collect())
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn the_word_comes_with_as_many_ways_as_there_are() {
        for count in [0, 1, MOST] {
            let (parent, child) = pair();
            let doors: Vec<_> = (0..count).map(|_| parent.try_clone().unwrap()).collect();
            say(&parent, &doors).unwrap();
            assert_eq!(hear(&child).unwrap().len(), count);
        }
    }

    #[test]
    fn a_parent_that_is_gone_says_nothing_and_a_child_that_is_gone_hears_nothing() {
        let (parent, child) = pair();
        drop(parent);
        assert!(hear(&child).is_none());
        let (parent, child) = pair();
        drop(child);
        let error = say(&parent, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
