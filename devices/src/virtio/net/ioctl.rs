//! The ioctls of the tun driver and of network interfaces, typed (linux/if_tun.h, netdevice(7)).
#![expect(
    unsafe_code,
    reason = "an ioctl takes a raw argument; each one here gets the type that its header names"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::virtio::net::config::TapName;

/// `struct ifreq`: an interface's name and a value whose meaning is the request's.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: Value,
}

/// `ifr_ifru`: 24 bytes, of which the requests here use the first few.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Value([u8; 24]);

impl Request {
    fn new(name: &TapName) -> Self {
        let mut bytes = [0; libc::IFNAMSIZ];
        for (to, from) in bytes.iter_mut().zip(name.as_str().bytes()) {
            *to = from;
        }
        Self {
            name: bytes,
            value: Value([0; 24]),
        }
    }

    fn with_flags(name: &TapName, flags: u16) -> Self {
        let mut request = Self::new(name);
        let [low, high] = flags.to_ne_bytes();
        let [first, second, ..] = &mut request.value.0;
        (*first, *second) = (low, high);
        request
    }

    fn with_number(name: &TapName, number: i32) -> Self {
        let mut request = Self::new(name);
        for (to, from) in request.value.0.iter_mut().zip(number.to_ne_bytes()) {
            *to = from;
        }
        request
    }

    fn flags(&self) -> u16 {
        let [low, high, ..] = self.value.0;
        u16::from_ne_bytes([low, high])
    }

    fn number(&self) -> i32 {
        let [a, b, c, d, ..] = self.value.0;
        i32::from_ne_bytes([a, b, c, d])
    }

    /// Makes a call that reads and writes the whole request.
    fn call(&mut self, fd: BorrowedFd<'_>, code: libc::c_ulong) -> io::Result<()> {
        let request: *mut Self = self;
        // SAFETY: the codes used in this file take a `struct ifreq`, which `Request` is, byte by byte.
        let outcome = unsafe { libc::ioctl(fd.as_raw_fd(), code, request) };
        check(outcome)
    }
}

/// Binds an open `/dev/net/tun` to the interface `name`, which is made if it does not exist.
pub(super) fn attach(tun: BorrowedFd<'_>, name: &TapName, flags: u16) -> io::Result<()> {
    Request::with_flags(name, flags).call(tun, libc::TUNSETIFF)
}

/// The flags with which a descriptor of `/dev/net/tun` is attached to its interface.
pub(super) fn attached(tap: BorrowedFd<'_>) -> io::Result<u16> {
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        value: Value([0; 24]),
    };
    request.call(tap, libc::TUNGETIFF)?;
    Ok(request.flags())
}

/// Sets the size of the header before each frame.
pub(super) fn set_header_size(tap: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int through its argument.
    let outcome = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) };
    check(outcome)
}

/// Says which unfinished frames may be read from the tap: a set of `TUN_F_` bits.
pub(super) fn set_offloads(tap: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    let outcome = unsafe {
        libc::ioctl(
            tap.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(flags),
        )
    };
    check(outcome)
}

/// Whether the interface is up. `socket` is any socket of the interface's network namespace.
pub(super) fn is_up(socket: BorrowedFd<'_>, name: &TapName) -> io::Result<bool> {
    Ok(flags(socket, name)? & up() != 0)
}

/// Sets the interface up.
pub(super) fn set_up(socket: BorrowedFd<'_>, name: &TapName) -> io::Result<()> {
    let flags = flags(socket, name)? | up();
    Request::with_flags(name, flags).call(socket, libc::SIOCSIFFLAGS)
}

/// The interface's MTU in bytes.
pub(super) fn mtu(socket: BorrowedFd<'_>, name: &TapName) -> io::Result<i32> {
    let mut request = Request::new(name);
    request.call(socket, libc::SIOCGIFMTU)?;
    Ok(request.number())
}

/// Sets the interface's MTU in bytes.
pub(super) fn set_mtu(socket: BorrowedFd<'_>, name: &TapName, bytes: u16) -> io::Result<()> {
    Request::with_number(name, bytes.into()).call(socket, libc::SIOCSIFMTU)
}

fn flags(socket: BorrowedFd<'_>, name: &TapName) -> io::Result<u16> {
    let mut request = Request::new(name);
    request.call(socket, libc::SIOCGIFFLAGS)?;
    Ok(request.flags())
}

fn up() -> u16 {
    u16::try_from(libc::IFF_UP).expect("IFF_UP is 1")
}

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
