//! The guest's network as the host describes it, by route netlink (rtnetlink(7)): no tool of an image is needed.

use std::fs;
use std::io;
use std::net::IpAddr;

use guest_init::net::{CHANGE, SET, attribute, exchange, family, message, octets, request};
use protocol::api::{Interface, Neighbour, Route};
use rustix::io::Errno;

use crate::error::{AgentError, Doing};

/// The most of anything.
const MOST: usize = 256;
/// The longest name of an interface, bytes (IFNAMSIZ without its end).
const LONGEST_NAME: usize = 15;
/// Bytes before the attributes in an answer: `struct nlmsghdr` and `struct ifinfomsg`.
const LINK_HEADER: usize = 16 + 16;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const NLM_F_REQUEST: u16 = 1;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No duplicate address detection: an IPv6 address is usable at once.
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// An address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Names the interface with this hardware address, gives it its addresses and takes it up.
pub(super) fn interface(wanted: &Interface) -> Result<(), AgentError> {
    let what = format!("set up the interface {}", wanted.name);
    few(wanted.addresses.len())?;
    if wanted.name.is_empty()
        || wanted.name.len() > LONGEST_NAME
        || wanted.name.contains(['/', ' ', '\0', ':'])
    {
        return Err(AgentError::Asked(format!(
            "'{}' is no name of an interface",
            wanted.name
        )));
    }
    let mac = hardware(&wanted.mac)?;
    let index = with_hardware(mac).doing(&what)?;
    let mut body = link(index, 0);
    attribute(&mut body, IFLA_IFNAME, &text(&wanted.name));
    if wanted.mtu != 0 {
        attribute(&mut body, IFLA_MTU, &wanted.mtu.to_ne_bytes());
    }
    request(&message(RTM_NEWLINK, CHANGE, &body)).doing(&what)?;
    request(&message(RTM_NEWLINK, CHANGE, &link(index, IFF_UP))).doing(&what)?;
    for one in &wanted.addresses {
        let network = network(one)?;
        let what = format!("give {} the address {one}", wanted.name);
        request(&address(index, network)).doing(what)?;
    }
    Ok(())
}

/// Adds a route, in place of one that is the same.
pub(super) fn route(wanted: &Route) -> Result<(), AgentError> {
    let what = format!("route {} over {}", wanted.destination, wanted.interface);
    let destination = network(&wanted.destination)?;
    let gateway = optional(&wanted.gateway)?;
    let source = optional(&wanted.source)?;
    let index = index(&wanted.interface).doing(&what)?;
    let scope = u8::try_from(wanted.scope)
        .map_err(|_| AgentError::Asked(format!("{} is no scope of a route", wanted.scope)))?;
    let of_family = gateway.map_or(destination.address, |gateway| gateway);
    let mut body = vec![
        family(of_family),
        destination.prefix,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        scope,
        RTN_UNICAST,
    ];
    body.extend(0_u32.to_ne_bytes());
    if destination.prefix != 0 {
        attribute(&mut body, RTA_DST, &octets(destination.address));
    }
    if let Some(gateway) = gateway {
        attribute(&mut body, RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = source {
        attribute(&mut body, RTA_PREFSRC, &octets(source));
    }
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    request(&message(RTM_NEWROUTE, SET, &body)).doing(what)
}

/// Makes a neighbour's hardware address known for ever.
pub(super) fn neighbour(wanted: &Neighbour) -> Result<(), AgentError> {
    let what = format!("know the neighbour {}", wanted.address);
    let address = one(&wanted.address)?;
    let mac = hardware(&wanted.mac)?;
    let index = index(&wanted.interface).doing(&what)?;
    // `struct ndmsg`: family, padding, index, state, flags, type.
    let mut body = vec![family(address), 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(NUD_PERMANENT.to_ne_bytes());
    body.extend([0, 0]);
    attribute(&mut body, NDA_DST, &octets(address));
    attribute(&mut body, NDA_LLADDR, &mac);
    request(&message(RTM_NEWNEIGH, SET, &body)).doing(what)
}

/// Refuses lists without end.
pub(super) fn few(count: usize) -> Result<(), AgentError> {
    if count > MOST {
        return Err(AgentError::TooMany(MOST, "entries of the network"));
    }
    Ok(())
}

/// `struct ifinfomsg`: family, padding, type, index, flags, mask of changed flags.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
fn address(index: u32, network: Network) -> Vec<u8> {
    let flags = if network.address.is_ipv6() {
        IFA_F_NODAD
    } else {
        0
    };
    let mut body = vec![family(network.address), network.prefix, flags, 0];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &octets(network.address));
    attribute(&mut body, IFA_ADDRESS, &octets(network.address));
    message(RTM_NEWADDR, SET, &body)
}

/// The index of the interface with a hardware address.
fn with_hardware(mac: [u8; 6]) -> io::Result<u32> {
    let list = fs::read_to_string("/proc/thread-self/net/dev")?;
    for name in list
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
    {
        let index = index(name.trim())?;
        let answer = exchange(&message(RTM_GETLINK, NLM_F_REQUEST, &link(index, 0)))?;
        if value(answer.get(LINK_HEADER..).unwrap_or_default(), IFLA_ADDRESS) == Some(&mac) {
            return Ok(index);
        }
    }
    Err(io::Error::other(
        "the guest has no interface with its hardware address",
    ))
}

fn index(name: &str) -> Result<u32, Errno> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    rustix::net::netdevice::name_to_index(&socket, name)
}

/// The value of an attribute among several.
fn value(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, ..] = *attributes {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([c, d]) == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn hardware(mac: &str) -> Result<[u8; 6], AgentError> {
    let bad = || {
        AgentError::Asked(format!(
            "'{mac}' is no hardware address: one such as aa:fc:00:00:00:01 was expected"
        ))
    };
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    bytes.try_into().map_err(|_| bad())
}

fn one(address: &str) -> Result<IpAddr, AgentError> {
    address
        .parse()
        .map_err(|_| AgentError::Asked(format!("'{address}' is no IP address")))
}

fn optional(address: &str) -> Result<Option<IpAddr>, AgentError> {
    if address.is_empty() {
        Ok(None)
    } else {
        one(address).map(Some)
    }
}

fn network(text: &str) -> Result<Network, AgentError> {
    let parse = || {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Network { address, prefix })
    };
    parse().ok_or_else(|| {
        AgentError::Asked(format!(
            "'{text}' is no network: an address and a prefix such as 10.0.0.2/24 were expected"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::thread::UnshareFlags;

    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "10.0.0.1", "10.0.0.1/33", "x/8", "fd00::/129"] {
            assert!(network(text).is_err(), "{text}");
        }
        for mac in ["", "aa:bb", "aa:bb:cc:dd:ee:gg", "aa:bb:cc:dd:ee:ff:00"] {
            assert!(hardware(mac).is_err(), "{mac}");
        }
    }

    #[test]
    fn attributes_that_lie_about_their_length_end_the_search() {
        assert_eq!(value(&[8, 0, 1, 0, 1, 2, 3, 4], 1), Some(&[1, 2, 3, 4][..]));
        for bad in [&[0, 0, 1, 0][..], &[200, 0, 1, 0], &[3, 0, 1, 0], &[4]] {
            assert_eq!(value(bad, 1), None);
        }
    }

    /// Runs `ip` in this thread's network.
    fn ip(words: &str) -> Option<String> {
        let output = Command::new("ip").args(words.split(' ')).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_network_is_as_it_was_described() {
        let made = crate::raw::unshare(UnshareFlags::NEWNET).is_ok()
            && ip("link add v0 address aa:fc:00:00:00:01 type veth peer name v1").is_some()
            && ip("link set v1 up").is_some();
        if !made {
            eprintln!("SKIPPED: only root, with ip, makes a network to describe");
            return;
        }
        let mut wanted = Interface::new();
        wanted.name = "eth0".into();
        wanted.mac = "aa:fc:00:00:00:01".into();
        wanted.mtu = 1400;
        wanted.addresses = vec!["10.1.2.3/24".into(), "fd00::3/64".into()];
        interface(&wanted).unwrap();
        let mut wanted = Route::new();
        wanted.destination = "0.0.0.0/0".into();
        wanted.gateway = "10.1.2.1".into();
        wanted.interface = "eth0".into();
        route(&wanted).unwrap();
        let mut wanted = Neighbour::new();
        wanted.address = "10.1.2.1".into();
        wanted.mac = "ee:ee:ee:ee:ee:ee".into();
        wanted.interface = "eth0".into();
        neighbour(&wanted).unwrap();
        let addresses = ip("-o addr show dev eth0").unwrap();
        assert!(addresses.contains("10.1.2.3/24"), "{addresses}");
        assert!(addresses.contains("fd00::3/64"), "{addresses}");
        let routes = ip("route").unwrap();
        assert!(routes.contains("default via 10.1.2.1 dev eth0"), "{routes}");
        let neighbours = ip("neigh").unwrap();
        assert!(
            neighbours.contains("ee:ee:ee:ee:ee:ee PERMANENT"),
            "{neighbours}"
        );
        assert!(ip("link show dev eth0").unwrap().contains("mtu 1400"));
    }

    #[test]
    fn an_interface_that_is_not_there_is_said() {
        let mut wanted = Interface::new();
        wanted.name = "eth0".into();
        wanted.mac = "02:00:00:00:00:99".into();
        let error = interface(&wanted).unwrap_err().to_string();
        assert!(
            error.contains("no interface with its hardware address"),
            "{error}"
        );
    }
}
