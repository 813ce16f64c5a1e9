//! The header that goes before every packet (virtio 1.2 §5.10.6).
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0, 8 | 8 each | context ids of sender and receiver |
//! | 16, 20 | 4 each | ports of sender and receiver |
//! | 24 | 4 | bytes of data behind the header |
//! | 28, 30 | 2 each | kind of socket, operation |
//! | 32 | 4 | flags |
//! | 36, 40 | 4 each | the sender's buffer in bytes, and how many bytes have left it so far |

/// Bytes of a header.
pub(super) const HEADER: u32 = 44;
const SIZE: usize = 44;

/// The context id of the host (§5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// `VIRTIO_VSOCK_TYPE_STREAM` (§5.10.6.3).
pub(super) const STREAM: u16 = 1;

/// The operations (§5.10.6).
pub(super) mod op {
    /// Asks for a connection.
    pub(in super::super) const REQUEST: u16 = 1;
    /// Accepts one.
    pub(in super::super) const RESPONSE: u16 = 2;
    /// Refuses one, or ends it at once.
    pub(in super::super) const RST: u16 = 3;
    /// Ends one direction or both.
    pub(in super::super) const SHUTDOWN: u16 = 4;
    /// Carries data.
    pub(in super::super) const RW: u16 = 5;
    /// Tells of the sender's buffer.
    pub(in super::super) const CREDIT_UPDATE: u16 = 6;
    /// Asks for such news.
    pub(in super::super) const CREDIT_REQUEST: u16 = 7;
}

/// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`: the sender will receive no more (§5.10.6.6).
pub(super) const NO_RECEIVE: u8 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`: the sender will send no more.
pub(super) const NO_SEND: u8 = 2;
/// Both.
pub(super) const NEITHER: u8 = NO_RECEIVE | NO_SEND;

/// The two ports of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    /// On the host.
    pub(super) host: u32,
    /// In the guest.
    pub(super) guest: u32,
}

/// A header, read once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// One from the host to the guest `cid`.
    pub(super) fn to_guest(cid: u32, ports: Ports, op: u16) -> Self {
        Self {
            src_cid: HOST_CID,
            dst_cid: cid.into(),
            src_port: ports.host,
            dst_port: ports.guest,
            kind: STREAM,
            op,
            ..Self::default()
        }
    }

    /// As the guest has written it.
    pub(super) fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        let mut rest = Rest(bytes);
        Self {
            src_cid: u64::from_le_bytes(rest.take()),
            dst_cid: u64::from_le_bytes(rest.take()),
            src_port: u32::from_le_bytes(rest.take()),
            dst_port: u32::from_le_bytes(rest.take()),
            len: u32::from_le_bytes(rest.take()),
            kind: u16::from_le_bytes(rest.take()),
            op: u16::from_le_bytes(rest.take()),
            flags: u32::from_le_bytes(rest.take()),
            buf_alloc: u32::from_le_bytes(rest.take()),
            fwd_cnt: u32::from_le_bytes(rest.take()),
        }
    }

    /// As the guest reads it.
    pub(super) fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let into = bytes.iter_mut();
        let from = fields.into_iter().flatten();
        into.zip(from).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Between which ports, for a packet of the guest's.
    pub(super) fn ports(&self) -> Ports {
        Ports {
            host: self.dst_port,
            guest: self.src_port,
        }
    }
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_lies_in_memory_as_the_standard_says() {
        let header = Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: 0x0102_0304,
            dst_port: 52,
            len: 7,
            kind: STREAM,
            op: op::RW,
            flags: 9,
            buf_alloc: 0x1_0000,
            fwd_cnt: 0xa0b0_c0d0,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..9], [3, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(bytes[16..24], [4, 3, 2, 1, 52, 0, 0, 0]);
        assert_eq!(bytes[24..32], [7, 0, 0, 0, 1, 0, 5, 0]);
        assert_eq!(bytes[36..], [0, 0, 1, 0, 0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(Header::from_bytes(&bytes), header);
    }
}
