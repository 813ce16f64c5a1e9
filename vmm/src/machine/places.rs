//! The places on the bus where virtio devices go.

use vm_allocator::IdAllocator;
use vm_memory::{Address, GuestAddress};

use crate::arch::x86_64::layout;
use crate::boot::MmioSlot;

/// Every place is taken: there are as many as [`layout::MMIO_GSIS`] has interrupts.
#[derive(Debug, thiserror::Error)]
#[error(
    "all {} places for virtio devices are taken: start the guest with fewer disks or network cards",
    layout::MMIO_GSIS.len()
)]
pub struct Full;

/// Hands out places, the lowest free one first.
///
/// **A place is its registers and its interrupt together**: slot n lies at [`layout::MMIO_SLOTS`] + n *
/// [`layout::MMIO_SLOT_SIZE`] and has the nth interrupt of [`layout::MMIO_GSIS`].
#[derive(Debug)]
pub struct Places(IdAllocator);

impl Places {
    /// All of them, free.
    pub fn new() -> Self {
        let last = u32::try_from(layout::MMIO_GSIS.len() - 1).expect("17 interrupts");
        Self(IdAllocator::new(0, last).expect("the last is not below the first"))
    }

    /// Takes the lowest free place.
    ///
    /// # Errors
    /// When none is free.
    pub fn take(&mut self) -> Result<MmioSlot, Full> {
        let index = self.0.allocate_id().map_err(|_| Full)?;
        let gsi = usize::try_from(index).ok();
        let gsi = gsi.and_then(|index| layout::MMIO_GSIS.get(index));
        Ok(MmioSlot {
            address: layout::MMIO_SLOTS.unchecked_add(u64::from(index) * layout::MMIO_SLOT_SIZE),
            gsi: *gsi.ok_or(Full)?,
        })
    }

    /// Takes back the place of a device that is gone. A place that nobody has stays as it is.
    pub fn give_back(&mut self, place: MmioSlot) {
        if let Some(index) = index(place.address) {
            // An error says that the place was free already.
            let _ = self.0.free_id(index);
        }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

fn index(address: GuestAddress) -> Option<u32> {
    let offset = address.checked_offset_from(layout::MMIO_SLOTS)?;
    u32::try_from(offset / layout::MMIO_SLOT_SIZE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_handed_out_in_order_each_with_its_interrupt() {
        let mut places = Places::new();
        for (gsi, index) in layout::MMIO_GSIS.into_iter().zip(0..) {
            let address = GuestAddress(0xc000_1000 + index * 0x1000);
            assert_eq!(places.take().unwrap(), MmioSlot { address, gsi });
        }
        assert!(places.take().is_err());
    }

    #[test]
    fn a_place_given_back_is_the_next_one_taken() {
        let mut places = Places::new();
        let taken: Vec<_> = (0..5).map(|_| places.take().unwrap()).collect();
        places.give_back(taken[3]);
        places.give_back(taken[1]);
        assert_eq!(places.take().unwrap(), taken[1]);
        assert_eq!(places.take().unwrap(), taken[3]);
        assert_eq!(places.take().unwrap().gsi, layout::MMIO_GSIS[5]);
    }

    #[test]
    fn a_place_given_back_twice_is_handed_out_once() {
        let mut places = Places::new();
        let first = places.take().unwrap();
        places.give_back(first);
        places.give_back(first);
        assert_eq!(places.take().unwrap(), first);
        assert_ne!(places.take().unwrap(), first);
    }
}
