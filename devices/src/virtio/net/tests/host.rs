//! The host's side of a tap: interfaces as a user sets them up, and frames on the wire.
#![expect(
    unsafe_code,
    reason = "the system calls of packet sockets and persistent taps have no safe wrapper here"
)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::virtio::net::{TapName, ioctl};

/// The protocol of the tests' frames, one for experiments (IEEE 802): the host's own stack ignores it.
pub(super) const PROTOCOL: [u8; 2] = [0x88, 0xb5];

/// Makes an interface that stays, with more flags than those of a tap; the last one to hold it.
pub(super) fn persistent(name: &TapName, flags: libc::c_int) -> File {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    let flags = u16::try_from(flags | libc::IFF_NO_PI).unwrap();
    ioctl::attach(tun.as_fd(), name, flags).unwrap();
    // SAFETY: TUNSETPERSIST takes its argument by value.
    let outcome = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1_u64) };
    assert_eq!(outcome, 0);
    tun
}

/// The interface's index, 0 if there is none of this name.
pub(super) fn index(name: &TapName) -> u32 {
    let name = CString::new(name.as_str()).unwrap();
    // SAFETY: the name ends with a zero byte and outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Keeps the host's own IPv6 chatter off interfaces made from now on.
pub(super) fn be_quiet() {
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

/// Everything that goes over an interface.
pub(super) struct Wire(OwnedFd);

impl Wire {
    pub(super) fn of(name: &TapName) -> Self {
        let all = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, all.into()) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: `fd` is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        address.sll_protocol = all;
        address.sll_ifindex = i32::try_from(index(name)).unwrap();
        let len = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: `address` is a `sockaddr_ll` of `len` bytes.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        Self(socket)
    }

    pub(super) fn send(&self, frame: &[u8]) {
        assert_eq!(rustix::io::write(&self.0, frame).unwrap(), frame.len());
    }

    /// The next frame of the tests' protocol.
    pub(super) fn receive(&self) -> Vec<u8> {
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "no frame came");
            let mut frame = vec![0; 0x2_0000];
            let len = rustix::io::read(&self.0, &mut frame).unwrap();
            frame.truncate(len);
            if frame[12..14] == PROTOCOL {
                return frame;
            }
        }
    }

    /// Takes off the wire what is on it.
    pub(super) fn clear(&self) {
        loop {
            match rustix::io::read(&self.0, &mut [0_u8; 1]) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => panic!("{errno}"),
            }
        }
    }
}

/// A frame of the tests' protocol, without virtio's header.
pub(super) fn frame(seed: u8, len: usize) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let payload = (14..len).map(|at| u8::try_from(at * 11 % 251).unwrap() ^ seed);
    addresses
        .into_iter()
        .chain(PROTOCOL)
        .chain(payload)
        .collect()
}
