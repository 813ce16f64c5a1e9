//! A guest for tests: the other end of TCP, with its card's checksum offload on.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::mmds::{Attachment, Mmds, Version};

pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
pub(crate) const MAC: [u8; 6] = [6, 0, 0xac, 0x10, 0, 2];
/// The service's card.
pub(crate) const SERVICE_MAC: [u8; 6] = [6, 1, 0x23, 0x45, 0x67, 1];

/// A service of version 1 with a document, and what a card needs to reach it.
pub(crate) fn service(data: serde_json::Value) -> (Mmds, Attachment) {
    let mmds = Mmds::new(crate::mmds::DEFAULT_LIMIT).unwrap();
    mmds.put(data).unwrap();
    let attachment = mmds.attach(&crate::mmds::Config {
        version: Version::V1,
        network_interfaces: vec!["eth0".to_owned()],
        ipv4_address: None,
        imds_compat: false,
    });
    (mmds, attachment)
}

/// The question for the service's card.
pub(crate) fn arp_request() -> Vec<u8> {
    let parts: [&[u8]; 7] = [
        &[0xff; 6],
        &MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &MAC,
        &ADDRESS.octets(),
        &[0; 6],
        &SERVICE.octets(),
    ];
    parts.concat()
}

/// A frame of the guest's around an IPv4 packet.
pub(crate) fn framed(packet: &[u8]) -> Vec<u8> {
    [&SERVICE_MAC[..], &MAC, &[8, 0], packet].concat()
}

/// An IPv4 packet of the guest's around a TCP segment; its checksum is right, TCP's is not there.
pub(crate) fn packet(segment: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend(ADDRESS.octets());
    packet.extend(SERVICE.octets());
    let words = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    packet.extend(segment);
    packet
}

/// A TCP segment from `port` to the service's without options.
pub(crate) fn segment(port: u16, seq: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = port.to_be_bytes().to_vec();
    segment.extend(80_u16.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    segment
}

/// A guest's TCP.
pub(crate) struct Guest {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    next_port: u16,
}

#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let mut wire = Wire::default();
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(ADDRESS.into(), 0)).unwrap();
        });
        Self {
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
            next_port: 40_000,
        }
    }

    /// Begins a connection, to be read up to `window` bytes at a time.
    pub(crate) fn connect(&mut self, window: usize) -> SocketHandle {
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; window]),
            SocketBuffer::new(vec![0; 65_536]),
        );
        self.next_port += 1;
        socket
            .connect(self.interface.context(), (SERVICE, 80), self.next_port)
            .unwrap();
        self.sockets.add(socket)
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Loses all memory of a connection.
    pub(crate) fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    pub(crate) fn state(&mut self, handle: SocketHandle) -> State {
        self.socket(handle).state()
    }

    pub(crate) fn send(&mut self, handle: SocketHandle, bytes: &[u8]) {
        let sent = self.socket(handle).send_slice(bytes).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// What has come since the last call.
    pub(crate) fn received(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut bytes = Vec::new();
        let socket = self.socket(handle);
        while socket.can_recv() {
            socket
                .recv(|part| {
                    bytes.extend_from_slice(part);
                    (part.len(), ())
                })
                .unwrap();
        }
        bytes
    }

    /// Takes a frame from its card.
    pub(crate) fn give(&mut self, frame: &[u8]) {
        assert_eq!(frame[..6], MAC, "for another host");
        assert_eq!(frame[6..12], SERVICE_MAC);
        if frame[12..14] == [8, 0] {
            self.wire.incoming.push_back(frame[14..].to_vec());
        }
    }

    /// Its next frame.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        let now = Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        self.wire.outgoing.pop_front()
    }
}

struct Incoming(Vec<u8>);
struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        // It checks what comes and leaves what goes to its card.
        capabilities.checksum.tcp = Checksum::Rx;
        capabilities
    }
}

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let outcome = write(&mut packet);
        self.0.push_back(framed(&packet));
        outcome
    }
}
