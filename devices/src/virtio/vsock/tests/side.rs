//! Both sides of a device under test: a guest that speaks packets, and a host with sockets.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use crate::catalog::Spec;
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::virtio::Core;
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::vsock::packet::{HEADER, HOST_CID, Header, Ports, STREAM, op};
use crate::virtio::vsock::{Bound, Config, Host};

/// The queues.
pub(super) const RX: usize = 0;
pub(super) const TX: usize = 1;
pub(super) const EVENT: usize = 2;
pub(super) const CID: u32 = 3;
/// Where the guest puts what it sends.
pub(super) const OUT: u64 = DATA + 0x10_0000;
/// The guest's receive buffers: as Linux has them, one page each, at the place of their descriptor.
pub(super) const PAGE: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(20);

/// The host's side: a directory with the socket in it.
pub(super) struct Side {
    pub(super) directory: TempDir,
    host: Host,
    _file: Option<Bound>,
}

impl Side {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (host, file) = Host::bind(&directory.path().join("v.sock")).unwrap();
        Self {
            directory,
            host,
            _file: file,
        }
    }

    /// With another way to the sockets that the guest calls.
    pub(super) fn over(mut self, dial: crate::virtio::vsock::Dial) -> Self {
        self.host.dial = dial;
        self
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("v.sock")
    }

    pub(super) fn core(&self, ram: GuestRam, io: IoHandle, interrupt: Interrupt) -> Core {
        let config = Config { guest_cid: CID };
        let host = self.host.try_clone().unwrap();
        Spec::Vsock(config, host).build(ram, io, interrupt).unwrap()
    }

    /// A driver that has done nothing but negotiate.
    pub(super) fn driver(&self) -> Driver {
        let mut driver = Driver::new(|ram, io, interrupt| self.core(ram, io, interrupt));
        driver.negotiate(u64::MAX);
        driver
    }

    /// A socket that the guest may call by `port`.
    pub(super) fn listen(&self, port: u32) -> UnixListener {
        let path = self.directory.path().join(format!("v.sock_{port}"));
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    /// A process of the host that has come and said `line`.
    pub(super) fn come(&self, line: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(line).unwrap();
        stream
    }
}

/// A packet from the guest.
pub(super) fn packet(ports: Ports, op: u16) -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: ports.guest,
        dst_port: ports.host,
        len: 0,
        kind: STREAM,
        op,
        flags: 0,
        buf_alloc: 1 << 20,
        fwd_cnt: 0,
    }
}

/// The guest sends a packet.
pub(super) fn send(driver: &mut Driver, header: Header, data: &[u8]) {
    let buffers = lay(driver, header, data);
    assert_eq!(driver.request(TX, &buffers), 0);
}

/// A packet in the guest's memory.
pub(super) fn lay(driver: &Driver, header: Header, data: &[u8]) -> Vec<Buffer> {
    let bytes = [&header.to_bytes()[..], data].concat();
    driver.ram.write_slice(&bytes, GuestAddress(OUT)).unwrap();
    let mut buffers = vec![Buffer::Readable(OUT, HEADER)];
    if !data.is_empty() {
        let len = u32::try_from(data.len()).unwrap();
        buffers.push(Buffer::Readable(OUT + u64::from(HEADER), len));
    }
    buffers
}

/// The guest sends data.
pub(super) fn say(driver: &mut Driver, ports: Ports, data: &[u8]) {
    let len = u32::try_from(data.len()).unwrap();
    let header = Header {
        len,
        ..packet(ports, op::RW)
    };
    send(driver, header, data);
}

/// The guest gives the device `count` pages to fill.
pub(super) fn post(driver: &mut Driver, count: usize) {
    for _ in 0..count {
        let at = DATA + u64::from(driver.next_descriptor(RX)) * u64::from(PAGE);
        driver.queue_chain(RX, &[Buffer::Writable(at, PAGE)]);
    }
    driver.notify(RX);
}

/// The next packet to the guest, with its data.
pub(super) fn next(driver: &mut Driver) -> (Header, Vec<u8>) {
    let (head, written) = driver.wait_used(RX);
    let at = DATA + u64::from(head) * u64::from(PAGE);
    let mut bytes = vec![0; usize::try_from(written).unwrap()];
    driver.ram.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    let data = bytes.split_off(44);
    let header = Header::from_bytes(&bytes.try_into().unwrap());
    assert_eq!(usize::try_from(header.len).unwrap(), data.len());
    assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID.into()));
    (header, data)
}

/// The next packet, with a buffer for it, which has to be `wanted`.
pub(super) fn expect(driver: &mut Driver, wanted: u16) -> (Header, Vec<u8>) {
    post(driver, 1);
    let (header, data) = next(driver);
    assert_eq!(header.op, wanted, "{header:?}");
    (header, data)
}

/// As the guest would name a connection of whose packets one is `header`.
pub(super) fn ports_of(header: &Header) -> Ports {
    Ports {
        host: header.src_port,
        guest: header.dst_port,
    }
}

/// A connection that a process of the host has begun.
pub(super) fn from_host(driver: &mut Driver, side: &Side, port: u32) -> (UnixStream, Ports) {
    let mut stream = side.come(format!("CONNECT {port}\n").as_bytes());
    let (request, _) = expect(driver, op::REQUEST);
    assert_eq!(request.dst_port, port);
    let ports = ports_of(&request);
    send(driver, packet(ports, op::RESPONSE), &[]);
    let ok = format!("OK {}\n", ports.host);
    assert_eq!(String::from_utf8(hear(&mut stream, ok.len())).unwrap(), ok);
    (stream, ports)
}

/// A connection that the guest has begun.
pub(super) fn from_guest(driver: &mut Driver, listener: &UnixListener, ports: Ports) -> UnixStream {
    send(driver, packet(ports, op::REQUEST), &[]);
    let (response, _) = expect(driver, op::RESPONSE);
    assert_eq!(ports_of(&response), ports);
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Exactly `len` bytes that the host's process reads.
pub(super) fn hear(stream: &mut UnixStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// All that the host's process reads until the end.
pub(super) fn hear_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}
