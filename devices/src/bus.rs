//! Address -> device, for ports and for memory-mapped registers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A device with registers on a bus. Offsets count from the start of its range.
pub trait BusDevice: Send {
    /// Fills `data` with what the guest reads at `offset`. `data` is zeroed before the call.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Takes what the guest writes at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// A range of addresses on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub base: u64,
    /// How many addresses, at least 1.
    pub len: u64,
}

impl Range {
    fn last(self) -> u64 {
        self.base.saturating_add(self.len.saturating_sub(1))
    }

    fn overlaps(self, other: Range) -> bool {
        self.base <= other.last() && other.base <= self.last()
    }
}

/// Why a device could not be put on a bus.
#[derive(Debug, thiserror::Error)]
#[error("the addresses {:#x}..={:#x} are taken by {:#x}..={:#x}", .wanted.base, .wanted.last(), .taken.base, .taken.last())]
pub struct Overlap {
    /// What was asked for.
    pub wanted: Range,
    /// What stands there.
    pub taken: Range,
}

struct Entry {
    range: Range,
    device: Arc<Mutex<dyn BusDevice>>,
}

/// The devices of one address space.
///
/// **Lock order: the ranges, then one device, then nothing.** The ranges are let go before the device
/// is called, so a device may be slow without holding up the others.
#[derive(Default)]
pub struct Bus {
    entries: RwLock<Vec<Entry>>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bus")
    }
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at `range`.
    ///
    /// # Errors
    /// [`Overlap`] when another device answers to one of the addresses.
    pub fn insert(&self, range: Range, device: Arc<Mutex<dyn BusDevice>>) -> Result<(), Overlap> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = entries.iter().find(|entry| entry.range.overlaps(range)) {
            return Err(Overlap {
                wanted: range,
                taken: taken.range,
            });
        }
        let place = entries.partition_point(|entry| entry.range.base < range.base);
        entries.insert(place, Entry { range, device });
        Ok(())
    }

    /// A guest's read. Where no device answers, the bus floats: all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((offset, device)) => {
                data.fill(0);
                let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
                device.read(offset, data);
            }
            None => data.fill(0xff),
        }
    }

    /// A guest's write. Where no device answers, it is lost.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address, data.len()) {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(u64, Arc<Mutex<dyn BusDevice>>)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let after = entries.partition_point(|entry| entry.range.base <= address);
        let entry = entries.get(after.checked_sub(1)?)?;
        let offset = address.checked_sub(entry.range.base)?;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        (end <= entry.range.len).then(|| (offset, Arc::clone(&entry.device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(Vec<(u64, Vec<u8>)>);

    impl BusDevice for Echo {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0.push((offset, data.to_vec()));
        }
    }

    fn bus() -> (Bus, Arc<Mutex<Echo>>) {
        let bus = Bus::new();
        let echo = Arc::new(Mutex::new(Echo(Vec::new())));
        let range = Range {
            base: 0x100,
            len: 8,
        };
        bus.insert(range, echo.clone()).unwrap();
        (bus, echo)
    }

    #[test]
    fn a_read_reaches_the_device_with_its_offset() {
        let mut data = [0; 2];
        bus().0.read(0x104, &mut data);
        assert_eq!(data, [4, 4]);
    }

    #[test]
    fn a_read_of_nothing_is_all_ones() {
        let mut data = [0; 4];
        bus().0.read(0x108, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn an_access_over_the_end_of_a_device_does_not_reach_it() {
        let (bus, echo) = bus();
        bus.write(0x106, &[1, 2, 3, 4]);
        bus.write(u64::MAX, &[1, 2]);
        assert!(echo.lock().unwrap().0.is_empty());
    }

    #[test]
    fn two_devices_cannot_share_an_address() {
        let (bus, echo) = bus();
        assert!(
            bus.insert(
                Range {
                    base: 0x107,
                    len: 1
                },
                echo.clone()
            )
            .is_err()
        );
        assert!(
            bus.insert(Range { base: 0xff, len: 2 }, echo.clone())
                .is_err()
        );
        bus.insert(
            Range {
                base: 0x108,
                len: 1,
            },
            echo,
        )
        .unwrap();
    }
}
