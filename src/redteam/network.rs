//! Attacks through the network of the host, which is the test's: a network namespace with listeners and an interface.

use libc::{AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};

use super::Attack;
use super::call::{call, closed, flag, input, output, text};
use super::page::Page;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("socket-inet", |_| {
        socket(AF_INET, SOCK_STREAM, 0).and_then(closed)
    }),
    Attack::new("socket-inet6", |_| {
        socket(libc::AF_INET6, SOCK_STREAM, 0).and_then(closed)
    }),
    Attack::new("socket-unix", |_| {
        socket(AF_UNIX, SOCK_STREAM, 0).and_then(closed)
    }),
    Attack::new("socket-netlink", |_| {
        socket(libc::AF_NETLINK, SOCK_RAW, 0).and_then(closed)
    }),
    Attack::new("socket-packet", |_| {
        socket(libc::AF_PACKET, SOCK_RAW, 0).and_then(closed)
    }),
    Attack::new("socket-vsock", |_| {
        socket(libc::AF_VSOCK, SOCK_STREAM, 0).and_then(closed)
    }),
    Attack::new("socket-raw", |_| {
        socket(AF_INET, SOCK_RAW, libc::IPPROTO_ICMP).and_then(closed)
    }),
    Attack::new("connect-tcp", |_| connect(AF_INET, &inet(7777))),
    Attack::new("bind-tcp", |_| bind(&inet(7778))),
    Attack::new("send-udp", send_udp),
    Attack::new("connect-abstract", |_| {
        connect(AF_UNIX, &unix(b"\0ravelin-redteam"))
    }),
    Attack::new("connect-path", |_| connect(AF_UNIX, &unix(b"/mnt/socket"))),
    // Two monitors that want to meet: the one stays there, the other comes.
    Attack::new("meet", |_| meet(&unix(MEETING))),
    Attack::new("join", |_| connect(AF_UNIX, &unix(MEETING))),
    Attack::new("see-interface", |_| with_interface(|_| Ok(0))),
    Attack::new("set-interface", |_| with_interface(set_flags)),
];

/// Where two monitors could meet.
const MEETING: &[u8] = b"\0ravelin-meeting";

fn meet(address: &Address) -> Result<usize, i32> {
    let fd = socket(AF_UNIX, SOCK_STREAM, 0)?;
    call(libc::SYS_bind, [fd, input(&address.0), address.1])?;
    call(libc::SYS_listen, [fd, 8])
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<usize, i32> {
    let kind = kind | libc::SOCK_CLOEXEC;
    call(libc::SYS_socket, [flag(family), flag(kind), flag(protocol)])
}

/// An address: its bytes, and how many of them count.
struct Address([u8; 32], usize);

/// A port of 127.0.0.1.
fn inet(port: u16) -> Address {
    let mut bytes = [0; 32];
    let family = libc::AF_INET.to_le_bytes();
    let port = port.to_be_bytes();
    let start = [family[0], family[1], port[0], port[1], 127, 0, 0, 1];
    bytes[..8].copy_from_slice(&start);
    Address(bytes, 16)
}

fn unix(name: &[u8]) -> Address {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&libc::AF_UNIX.to_le_bytes()[..2]);
    bytes[2..2 + name.len()].copy_from_slice(name);
    Address(bytes, 2 + name.len())
}

fn connect(family: i32, address: &Address) -> Result<usize, i32> {
    let fd = socket(family, SOCK_STREAM, 0)?;
    let done = call(libc::SYS_connect, [fd, input(&address.0), address.1]);
    closed(fd)?;
    done
}

fn bind(address: &Address) -> Result<usize, i32> {
    let fd = socket(AF_INET, SOCK_STREAM, 0)?;
    let done = call(libc::SYS_bind, [fd, input(&address.0), address.1])
        .and_then(|_| call(libc::SYS_listen, [fd, 1]));
    closed(fd)?;
    done
}

fn send_udp(_: &Page) -> Result<usize, i32> {
    let fd = socket(AF_INET, SOCK_DGRAM, 0)?;
    let Address(bytes, length) = inet(7779);
    let arguments = [fd, text(c"out"), 3, 0, input(&bytes), length];
    let done = call(libc::SYS_sendto, arguments);
    closed(fd)?;
    done
}

/// A `struct ifreq`: a name of 16 bytes and what is asked of it (netdevice(7)).
type Interface = [u8; 40];

/// With the test's interface, if it can be seen: the socket, and its flags.
fn with_interface(
    act: impl FnOnce((usize, &mut Interface)) -> Result<usize, i32>,
) -> Result<usize, i32> {
    const NAME: &[u8] = b"redteam0";
    let fd = socket(AF_INET, SOCK_DGRAM, 0)?;
    let mut interface: Interface = [0; 40];
    interface[..NAME.len()].copy_from_slice(NAME);
    let get = usize::try_from(libc::SIOCGIFFLAGS).unwrap_or_default();
    let done = call(libc::SYS_ioctl, [fd, get, output(&mut interface)])
        .and_then(|_| act((fd, &mut interface)));
    closed(fd)?;
    done
}

/// To what they are.
fn set_flags((fd, interface): (usize, &mut Interface)) -> Result<usize, i32> {
    let set = usize::try_from(libc::SIOCSIFFLAGS).unwrap_or_default();
    call(libc::SYS_ioctl, [fd, set, output(interface)])
}
