//! The link under the stack: which frames are for the service, ARP, and who is at which address.
//!
//! | bytes | Ethernet, then ARP (RFC 826) or IPv4 (RFC 791) |
//! | --- | --- |
//! | 0..6, 6..12, 12..14 | destination, source, type |
//! | 14..22 | ARP: kinds and lengths of addresses, operation |
//! | 22..28, 28..32, 32..38, 38..42 | ARP: the sender's addresses, the target's |
//! | 14..34 | IPv4: the header without options; 26..30 the source, 30..34 the destination |
//!
//! smoltcp could do this too. Done here it takes no cache that expires and no question to the guest: each
//! frame says where its sender is, and an answer goes there.

use std::net::Ipv4Addr;

/// The card behind which the service seems to be. It is Firecracker's.
const MAC: Mac = [6, 1, 0x23, 0x45, 0x67, 1];
const ARP: [u8; 2] = [8, 6];
const IPV4: [u8; 2] = [8, 0];
/// Ethernet and IPv4 addresses of 6 and 4 bytes.
const KINDS: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
/// The protocol number of TCP.
const TCP: u8 = 6;
/// Hosts behind one card: containers of a guest may have addresses of their own.
const MOST_NEIGHBOURS: usize = 16;

/// The bytes of a frame that say whether it is for the service.
pub(crate) const HEAD: usize = 42;
/// The bytes of an Ethernet header.
pub(super) const LINK: usize = 14;

type Mac = [u8; 6];

/// What a frame to the service is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// A question for the service's card; the answer to it.
    Question([u8; HEAD]),
    /// An IPv4 packet with a TCP segment.
    Tcp(Packet<'a>),
    /// Something else that is well-formed, and needs no answer.
    Unusual,
    /// Something that breaks a rule.
    Malformed,
    /// Nothing that is for the service.
    Foreign,
}

/// An IPv4 packet whose header has been checked: unfragmented, TCP, from one host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// From the IPv4 header on.
    pub(super) bytes: &'a [u8],
    /// Who sent it.
    pub(super) source: Ipv4Addr,
    /// If it asks for a connection: from which port to which.
    pub(super) syn: Option<(u16, u16)>,
}

/// Whether a frame that begins with `head` is for `address`: an IPv4 packet to it, or ARP about it.
pub(super) fn is_for(address: Ipv4Addr, head: &[u8]) -> bool {
    let target = match field(head, 12) {
        Some(ARP) => field(head, 38),
        Some(IPV4) => field(head, 30),
        _ => None,
    };
    target == Some(address.octets())
}

/// Who sent what: the last frame of each address decides.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: Vec<(Ipv4Addr, Mac)>,
}

impl Neighbours {
    /// Reads a frame and learns where its sender is.
    pub(super) fn read<'a>(&mut self, address: Ipv4Addr, frame: &'a [u8]) -> Content<'a> {
        if !is_for(address, frame) {
            return Content::Foreign;
        }
        if field(frame, 12) == Some(ARP) {
            return self.read_arp(address, frame).unwrap_or(Content::Malformed);
        }
        let content = read_ipv4(frame);
        if let (Content::Tcp(packet), Some(mac)) = (&content, field(frame, 6)) {
            self.learn(packet.source, mac);
        }
        content
    }

    /// The header of a frame to `host`; `None` when it was never heard of.
    pub(super) fn link_to(&self, host: Ipv4Addr) -> Option<[u8; LINK]> {
        let (_, mac) = self.known.iter().find(|(known, _)| *known == host)?;
        Some(link(*mac, IPV4))
    }

    fn read_arp<'a>(&mut self, address: Ipv4Addr, frame: &[u8]) -> Option<Content<'a>> {
        if field(frame, LINK)? != KINDS {
            return None;
        }
        let (mac, host): (Mac, [u8; 4]) = (field(frame, 22)?, field(frame, 28)?);
        if is_group(mac) {
            return None;
        }
        let source = Ipv4Addr::from(host);
        // A host that looks whether an address is free has none yet (RFC 5227).
        if is_host(source) {
            self.learn(source, mac);
        }
        if field(frame, 20)? != REQUEST {
            return Some(Content::Unusual);
        }
        let mut reply = Vec::with_capacity(HEAD);
        reply.extend(link(mac, ARP));
        reply.extend(KINDS);
        reply.extend(REPLY);
        reply.extend(MAC);
        reply.extend(address.octets());
        reply.extend(mac);
        reply.extend(host);
        reply.try_into().ok().map(Content::Question)
    }

    fn learn(&mut self, host: Ipv4Addr, mac: Mac) {
        if let Some((_, known)) = self.known.iter_mut().find(|(known, _)| *known == host) {
            *known = mac;
            return;
        }
        if self.known.len() >= MOST_NEIGHBOURS {
            self.known.remove(0);
        }
        self.known.push((host, mac));
    }
}

fn link(to: Mac, kind: [u8; 2]) -> [u8; LINK] {
    let [d0, d1, d2, d3, d4, d5] = to;
    let [s0, s1, s2, s3, s4, s5] = MAC;
    let [k0, k1] = kind;
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, k0, k1]
}

fn read_ipv4(frame: &[u8]) -> Content<'_> {
    checked_ipv4(frame).unwrap_or(Content::Malformed)
}

fn checked_ipv4(frame: &[u8]) -> Option<Content<'_>> {
    if is_group(field(frame, 6)?) {
        return None;
    }
    let bytes = frame.get(LINK..)?;
    let [first] = field(bytes, 0)?;
    let header = usize::from(first & 0xf).checked_mul(4)?;
    let total = usize::from(u16::from_be_bytes(field(bytes, 2)?));
    if first >> 4 != 4 || header < 20 || total < header {
        return None;
    }
    // What is behind the packet fills up a short frame.
    let bytes = bytes.get(..total)?;
    // More fragments, or not the first one.
    let is_fragment = u16::from_be_bytes(field(bytes, 6)?) & 0x3fff != 0;
    let source = Ipv4Addr::from(field::<4>(bytes, 12)?);
    if is_fragment || !is_host(source) {
        return None;
    }
    let [protocol] = field(bytes, 9)?;
    if protocol != TCP {
        return Some(Content::Unusual);
    }
    let segment = bytes.get(header..)?;
    let ports = (field(segment, 0)?, field(segment, 2)?);
    let ports = (u16::from_be_bytes(ports.0), u16::from_be_bytes(ports.1));
    let [flags] = field(segment, 13)?;
    // SYN without ACK, RST and FIN (RFC 9293 §3.1).
    let is_syn = flags & 0b1_0111 == 0b10;
    Some(Content::Tcp(Packet {
        bytes,
        source,
        syn: is_syn.then_some(ports),
    }))
}

fn is_group([first, ..]: Mac) -> bool {
    first & 1 == 1
}

/// Whether one host may have the address.
fn is_host(address: Ipv4Addr) -> bool {
    let is_reserved = address.octets().first().is_some_and(|first| *first >= 224);
    !address.is_unspecified() && !is_reserved
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
    const GUEST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
    const GUEST_MAC: Mac = [6, 0, 0xac, 0x10, 0, 2];

    fn arp(operation: [u8; 2], source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let parts: [&[u8]; 9] = [
            &[0xff; 6],
            &GUEST_MAC,
            &ARP,
            &KINDS,
            &operation,
            &GUEST_MAC,
            &source.octets(),
            &[0; 6],
            &target.octets(),
        ];
        parts.concat()
    }

    fn ipv4(target: Ipv4Addr, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let parts: [&[u8]; 8] = [
            &MAC,
            &GUEST_MAC,
            &IPV4,
            &[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0],
            &GUEST.octets(),
            &target.octets(),
            &[0x80, 1, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2],
            &[0; 6],
        ];
        let mut frame = parts.concat();
        change(&mut frame);
        frame
    }

    fn read(frame: &[u8]) -> Content<'_> {
        Neighbours::default().read(SERVICE, frame)
    }

    #[test]
    fn a_question_for_the_service_is_answered_and_its_sender_known() {
        let mut neighbours = Neighbours::default();
        let question = arp(REQUEST, GUEST, SERVICE);
        let Content::Question(reply) = neighbours.read(SERVICE, &question) else {
            panic!("no answer");
        };
        let parts: [&[u8]; 9] = [
            &GUEST_MAC,
            &MAC,
            &ARP,
            &KINDS,
            &REPLY,
            &MAC,
            &SERVICE.octets(),
            &GUEST_MAC,
            &GUEST.octets(),
        ];
        assert_eq!(reply.to_vec(), parts.concat());
        let link = neighbours.link_to(GUEST).unwrap();
        assert_eq!(link, [&GUEST_MAC[..], &MAC, &IPV4].concat()[..]);
    }

    #[test]
    fn a_question_for_somebody_else_is_foreign() {
        assert_eq!(read(&arp(REQUEST, GUEST, GUEST)), Content::Foreign);
        let other = Ipv4Addr::new(172, 16, 0, 1);
        assert_eq!(read(&ipv4(other, |_| {})), Content::Foreign);
        for len in 0..34 {
            let frame = ipv4(SERVICE, |_| {});
            assert_eq!(read(&frame[..len]), Content::Foreign, "{len} bytes");
        }
    }

    #[test]
    fn an_answer_or_a_probe_needs_and_gets_what_it_should() {
        assert_eq!(read(&arp(REPLY, GUEST, SERVICE)), Content::Unusual);
        let mut neighbours = Neighbours::default();
        let probe = arp(REQUEST, Ipv4Addr::UNSPECIFIED, SERVICE);
        let content = neighbours.read(SERVICE, &probe);
        assert!(matches!(content, Content::Question(_)));
        assert!(neighbours.known.is_empty());
    }

    #[test]
    fn a_segment_tells_its_sender_and_whether_it_opens_a_connection() {
        let frame = ipv4(SERVICE, |_| {});
        let Content::Tcp(packet) = read(&frame) else {
            panic!("no segment");
        };
        assert_eq!(packet.source, GUEST);
        assert_eq!(packet.syn, Some((0x8001, 80)));
        assert_eq!(packet.bytes, &frame[LINK..]);
        for flags in [0x12, 0x10, 0x06, 0x03, 0, 0xff] {
            let frame = ipv4(SERVICE, |frame| frame[47] = flags);
            let Content::Tcp(packet) = read(&frame) else {
                panic!("no segment");
            };
            assert_eq!(packet.syn, None, "{flags:#x}");
        }
    }

    #[test]
    fn filling_behind_the_packet_is_left_out() {
        let frame = ipv4(SERVICE, |frame| frame.resize(60, 0));
        let Content::Tcp(packet) = read(&frame) else {
            panic!("no segment");
        };
        assert_eq!(packet.bytes.len(), 40);
    }

    #[test]
    fn what_breaks_a_rule_is_malformed() {
        let changes: [fn(&mut Vec<u8>); 10] = [
            |frame| frame[14] = 0x65,
            |frame| frame[14] = 0x44,
            |frame| frame[14] = 0x4f,
            |frame| frame[17] = 41,
            |frame| frame[17] = 19,
            |frame| frame[20] = 0x20,
            |frame| frame[21] = 1,
            |frame| frame[26] = 224,
            |frame| frame[26..30].fill(0),
            |frame| frame[6] |= 1,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            assert_eq!(read(&ipv4(SERVICE, change)), Content::Malformed, "{at}");
        }
        let mut bad = arp(REQUEST, GUEST, SERVICE);
        bad[18] = 8;
        assert_eq!(read(&bad), Content::Malformed);
        let mut group = arp(REQUEST, GUEST, SERVICE);
        group[22] |= 1;
        assert_eq!(read(&group), Content::Malformed);
    }

    #[test]
    fn what_is_not_tcp_is_unusual() {
        let udp = ipv4(SERVICE, |frame| frame[23] = 17);
        assert_eq!(read(&udp), Content::Unusual);
    }

    #[test]
    fn only_so_many_neighbours_are_known() {
        let mut neighbours = Neighbours::default();
        let hosts = (0..100).map(|n| Ipv4Addr::new(10, 0, 0, n));
        for host in hosts.clone() {
            neighbours.learn(host, GUEST_MAC);
        }
        assert_eq!(neighbours.known.len(), MOST_NEIGHBOURS);
        assert!(
            neighbours
                .link_to(hosts.clone().next_back().unwrap())
                .is_some()
        );
        assert!(neighbours.link_to(Ipv4Addr::new(10, 0, 0, 0)).is_none());
    }
}
