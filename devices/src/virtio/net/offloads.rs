//! Which unfinished frames a side takes: the guest's words for it and the tap's.
//!
//! | virtio feature | tap | frames without |
//! | --- | --- | --- |
//! | GUEST_CSUM | TUN_F_CSUM | a checksum |
//! | GUEST_TSO4 | TUN_F_TSO4 | segmentation, TCP over IPv4 |
//! | GUEST_TSO6 | TUN_F_TSO6 | segmentation, TCP over IPv6 |
//! | GUEST_ECN | TUN_F_TSO_ECN | segmentation, with congestion marks |

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
};

const CSUM: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM;
const TSO4: u64 = 1 << VIRTIO_NET_F_GUEST_TSO4;
const TSO6: u64 = 1 << VIRTIO_NET_F_GUEST_TSO6;
const ECN: u64 = 1 << VIRTIO_NET_F_GUEST_ECN;

/// What a guest takes: a set of virtio's `GUEST_` feature bits (virtio 1.2 §5.1.6.5.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offloads(u64);

impl Offloads {
    /// All that there are.
    pub(super) const ALL: u64 = CSUM | TSO4 | TSO6 | ECN;

    /// What a guest with `features` takes until it says otherwise.
    pub(super) fn negotiated(features: u64) -> Self {
        Self(features & Self::ALL)
    }

    /// What a guest with `features` asks for, if it may.
    pub(super) fn requested(bits: u64, features: u64) -> Option<Self> {
        (bits & !(features & Self::ALL) == 0).then_some(Self(bits))
    }

    /// Whether frames may come without a checksum.
    pub(super) fn has_checksum(self) -> bool {
        self.0 & CSUM != 0
    }

    /// Whether frames may come that are longer than the MTU.
    pub(super) fn has_segmentation(self) -> bool {
        self.tap_flags() & (libc::TUN_F_TSO4 | libc::TUN_F_TSO6) != 0
    }

    /// Whether a guest with `self` takes all that one with `earlier` did.
    pub(super) fn includes(self, earlier: Self) -> bool {
        earlier.tap_flags() & !self.tap_flags() == 0
    }

    /// The tap's words. A bit whose predecessor is missing is left out, as in virtio 1.2 §5.1.3.1: no
    /// segmentation without checksums, no congestion marks without segmentation.
    pub(super) fn tap_flags(self) -> libc::c_uint {
        if self.0 & CSUM == 0 {
            return 0;
        }
        let mut flags = libc::TUN_F_CSUM;
        for (bit, flag) in [(TSO4, libc::TUN_F_TSO4), (TSO6, libc::TUN_F_TSO6)] {
            if self.0 & bit != 0 {
                flags |= flag;
            }
        }
        if self.0 & ECN != 0 && flags != libc::TUN_F_CSUM {
            flags |= libc::TUN_F_TSO_ECN;
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_its_flag() {
        let all = Offloads::negotiated(u64::MAX);
        assert_eq!(all.tap_flags(), 0xf);
        assert!(all.has_segmentation() && all.has_checksum());
    }

    #[test]
    fn a_bit_without_its_predecessor_counts_for_nothing() {
        assert_eq!(Offloads::negotiated(TSO4 | TSO6 | ECN).tap_flags(), 0);
        assert_eq!(
            Offloads::negotiated(CSUM | ECN).tap_flags(),
            libc::TUN_F_CSUM
        );
    }

    #[test]
    fn a_guest_asks_only_for_what_was_negotiated() {
        assert!(Offloads::requested(CSUM | TSO4, CSUM).is_none());
        assert!(Offloads::requested(1 << 63, u64::MAX).is_none());
        assert_eq!(Offloads::requested(0, CSUM), Some(Offloads(0)));
    }

    #[test]
    fn fewer_offloads_do_not_include_more() {
        let (all, none) = (Offloads::negotiated(u64::MAX), Offloads::default());
        assert!(all.includes(none) && all.includes(all));
        assert!(!none.includes(all));
    }
}
