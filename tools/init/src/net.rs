//! The loopback interface and eth0, set up by route netlink (rtnetlink(7)): no tool in the image is needed.

use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use crate::cmdline::IpConfig;
use crate::kmsg;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// NLM_F_REQUEST | NLM_F_ACK: a change of what is there.
pub const CHANGE: u16 = 0x1 | 0x4;
/// The same with NLM_F_REPLACE | NLM_F_CREATE: what the kernel's own `ip=` has set is no error.
pub const SET: u16 = CHANGE | 0x100 | 0x400;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No duplicate address detection: an IPv6 address is usable at once.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const HEADER_SIZE: usize = 16;
/// An interface is described in about 1500 bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Takes the loopback interface up and, with `ip`, eth0 with its address and default route. What fails is
/// said in the kernel's log.
pub fn configure(ip: Option<IpConfig>) {
    if let Err(error) = set_up("lo", None) {
        kmsg::error(&format_args!("cannot take lo up: {error}"));
    }
    let Some(ip) = ip else {
        return;
    };
    match set_up("eth0", Some(ip)) {
        Ok(()) => {}
        Err(Errno::NODEV) => {
            kmsg::error(&"ravelin.ip= is set, but the guest has no eth0: give it a --net")
        }
        Err(error) => kmsg::error(&format_args!(
            "cannot configure eth0 as ravelin.ip= says: {error}"
        )),
    }
}

fn set_up(interface: &str, ip: Option<IpConfig>) -> Result<(), Errno> {
    let index: u32 = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or(Errno::NODEV)?;
    request(&link_up(index))?;
    let Some(ip) = ip else {
        return Ok(());
    };
    request(&address(index, ip))?;
    match ip.gateway {
        Some(gateway) => request(&default_route(index, gateway)),
        None => Ok(()),
    }
}

/// Sends one request and waits for its acknowledgement.
///
/// # Errors
///
/// What the kernel says of it.
pub fn request(message: &[u8]) -> Result<(), Errno> {
    acknowledged(&exchange(message)?)
}

/// Sends one request and gives the answer's first message.
///
/// # Errors
///
/// The kernel takes no requests.
pub fn exchange(message: &[u8]) -> Result<Vec<u8>, Errno> {
    // Protocol 0 of netlink is NETLINK_ROUTE.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sendto(
        &socket,
        message,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = vec![0; LONGEST_ANSWER];
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(len);
    Ok(answer)
}

/// Reads the error number of an acknowledgement (`struct nlmsgerr`): 0, or negative.
fn acknowledged(answer: &[u8]) -> Result<(), Errno> {
    let Some(&[a, b, c, d]) = answer.get(HEADER_SIZE..HEADER_SIZE + 4) else {
        return Err(Errno::BADMSG);
    };
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error.saturating_neg())),
    }
}

/// `struct ifinfomsg`: family, padding, type, index, flags, mask of changed flags.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, CHANGE, &body)
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
fn address(index: u32, ip: IpConfig) -> Vec<u8> {
    let flags = if ip.address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut body = vec![family(ip.address), ip.prefix, flags, 0];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &octets(ip.address));
    attribute(&mut body, IFA_ADDRESS, &octets(ip.address));
    message(RTM_NEWADDR, SET, &body)
}

/// `struct rtmsg`: family, two prefix lengths (0: everywhere), service, table, protocol, scope, type, flags.
fn default_route(index: u32, gateway: IpAddr) -> Vec<u8> {
    let mut body = vec![
        family(gateway),
        0,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        0,
        RTN_UNICAST,
    ];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, RTA_GATEWAY, &octets(gateway));
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    message(RTM_NEWROUTE, SET, &body)
}

/// `struct nlmsghdr`: length, type, flags, sequence, port; then the body.
///
/// # Panics
///
/// On a body of 4 GiB.
#[must_use]
pub fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER_SIZE + body.len()).expect("a request is short");
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// `struct rtattr`: length, type, value, and up to three bytes to the next.
///
/// # Panics
///
/// On a value of 64 KiB.
pub fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("a value is an address or a name");
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// `AF_INET` or `AF_INET6`.
#[must_use]
pub fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

/// An address's bytes in the order of the network.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_request_has_its_length_and_two_attributes() {
        let ip = "10.0.0.2/24".parse().unwrap();
        let request = address(2, ip);
        assert_eq!(request.len(), 16 + 8 + 8 + 8);
        assert_eq!(request[..4], 40_u32.to_ne_bytes());
        assert_eq!(request[16..20], [2, 24, 0, 0]);
        assert_eq!(request[24..32], [8, 0, 2, 0, 10, 0, 0, 2]);
    }

    #[test]
    fn an_ipv6_route_names_gateway_and_interface() {
        let request = default_route(3, "fd00::1".parse().unwrap());
        assert_eq!(request.len(), 16 + 12 + 20 + 8);
        assert_eq!(request[16], 10);
        assert_eq!(request[48..56], [8, 0, 4, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn an_acknowledgement_carries_zero_or_an_error() {
        let answer = |error: i32| [&[0; 16][..], &error.to_ne_bytes()].concat();
        assert_eq!(acknowledged(&answer(0)), Ok(()));
        assert_eq!(acknowledged(&answer(-19)), Err(Errno::NODEV));
        assert_eq!(acknowledged(&[0; 18]), Err(Errno::BADMSG));
    }
}
