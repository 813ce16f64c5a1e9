//! Who is at the other end of a connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

/// The process that connected, as the kernel knew it then (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0: a process that is not visible from this PID namespace.
    pub(crate) pid: i32,
}

impl Peer {
    /// Reads the peer of a connected socket.
    ///
    /// # Errors
    /// When it is not a Unix socket.
    pub(super) fn of(socket: &OwnedFd) -> io::Result<Self> {
        // Not rustix's call: its `Pid` cannot be 0, which a peer outside of our PID namespace is.
        let credentials = getsockopt(socket, PeerCredentials)?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid(),
        })
    }

    /// May it ask anything? `None` allows everybody who can connect. Root and our own user are always allowed:
    /// they could trace this process anyway.
    pub(super) fn is_allowed(&self, uids: Option<&[u32]>) -> bool {
        let own = own_uid();
        uids.is_none_or(|uids| self.uid == 0 || self.uid == own || uids.contains(&self.uid))
    }
}

/// Our own user, asked for once: before the thread that serves is confined.
pub(super) fn own_uid() -> u32 {
    static OWN: OnceLock<u32> = OnceLock::new();
    *OWN.get_or_init(|| rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn peer(uid: u32) -> Peer {
        Peer {
            uid,
            gid: uid,
            pid: 1,
        }
    }

    #[test]
    fn the_peer_of_a_socket_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one.into()).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        assert_eq!(peer.pid, rustix::process::getpid().as_raw_pid());
    }

    #[test]
    fn without_a_list_everybody_may_ask() {
        assert!(peer(4711).is_allowed(None));
    }

    #[test]
    fn with_a_list_only_its_users_and_root_and_our_own_may_ask() {
        let own = rustix::process::geteuid().as_raw();
        for uid in [4711, 0, own] {
            assert!(peer(uid).is_allowed(Some(&[4711])), "{uid}");
        }
        assert!(!peer(4712).is_allowed(Some(&[4711])));
        assert!(!peer(4711).is_allowed(Some(&[])));
    }
}
