//! The driver's side of virtio over MMIO: finding devices and bringing one up (virtio 1.2 §3.1, §4.2).

use core::fmt::{self, Display};

use crate::cmdline::CommandLine;
use crate::memory::{Arena, Region};
use crate::queue::Queue;

/// Where slot n of a monitor that names no devices stands: `FIRST_SLOT + n * SLOT_SIZE`.
const FIRST_SLOT: usize = 0xc000_1000;
const SLOT_SIZE: usize = 0x1000;
const SLOTS: usize = 32;

/// The device types that have a driver here (virtio 1.2 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A network card.
    Net = 1,
    /// A disk.
    Block = 2,
    /// A source of entropy.
    Entropy = 4,
    /// A socket between guest and host.
    Vsock = 19,
}

/// A feature bit of the ring itself (virtio 1.2 §6).
pub const VERSION_1: u64 = 1 << 32;
/// Notifications are suppressed by index.
pub const EVENT_IDX: u64 = 1 << 29;
/// One descriptor may refer to a table of others.
pub const INDIRECT: u64 = 1 << 28;

/// Why a device could not be used.
#[derive(Debug, Clone, Copy)]
pub enum Error {
    /// No device of the kind, or fewer than asked for.
    NotFound(Kind),
    /// The device is not a virtio 1.x one.
    NotModern,
    /// The device refused the features that it had offered.
    FeaturesRefused,
    /// The queue does not exist or is smaller than the work needs.
    QueueTooSmall(u32),
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(kind) => write!(f, "no such virtio device: {kind:?}"),
            Self::NotModern => f.write_str("the device is not a virtio 1 device"),
            Self::FeaturesRefused => f.write_str("the device refused features that it offers"),
            Self::QueueTooSmall(most) => {
                write!(
                    f,
                    "the device's queue has {most} entries, less than the work needs"
                )
            }
        }
    }
}

/// MMIO registers (virtio 1.2 §4.2.2).
mod register {
    pub(super) const MAGIC: usize = 0x00;
    pub(super) const VERSION: usize = 0x04;
    pub(super) const DEVICE_ID: usize = 0x08;
    pub(super) const DEVICE_FEATURES: usize = 0x10;
    pub(super) const DEVICE_FEATURES_SEL: usize = 0x14;
    pub(super) const DRIVER_FEATURES: usize = 0x20;
    pub(super) const DRIVER_FEATURES_SEL: usize = 0x24;
    pub(super) const QUEUE_SEL: usize = 0x30;
    pub(super) const QUEUE_NUM_MAX: usize = 0x34;
    pub(super) const QUEUE_NUM: usize = 0x38;
    pub(super) const QUEUE_READY: usize = 0x44;
    pub(super) const QUEUE_NOTIFY: usize = 0x50;
    pub(super) const STATUS: usize = 0x70;
    pub(super) const QUEUE_DESC: usize = 0x80;
    pub(super) const QUEUE_DRIVER: usize = 0x90;
    pub(super) const QUEUE_DEVICE: usize = 0xa0;
    pub(super) const CONFIG: usize = 0x100;
}

/// Device status bits (virtio 1.2 §2.1).
mod status {
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
}

/// One device's registers.
#[derive(Clone, Copy)]
pub struct Transport {
    registers: Region,
}

/// The devices of this machine: those that the command line names, else those in the fixed slots.
pub fn devices(command_line: CommandLine<'_>) -> impl Iterator<Item = Transport> {
    let named = command_line
        .device_addresses()
        .filter_map(|address| usize::try_from(address).ok());
    let fixed = (0..SLOTS).map(|slot| FIRST_SLOT + slot * SLOT_SIZE);
    let fixed = fixed.take_while({
        let any_named = command_line.device_addresses().next().is_some();
        move |_| !any_named
    });
    named
        .chain(fixed)
        .map(|address| Transport {
            registers: Region::at(address, SLOT_SIZE),
        })
        .filter(|device| device.read(register::MAGIC) == 0x7472_6976 && device.id() != 0)
}

/// The device of `kind` that the command line chooses.
///
/// # Errors
/// [`Error::NotFound`] when there are not so many.
pub fn find(command_line: CommandLine<'_>, kind: Kind) -> Result<Transport, Error> {
    devices(command_line)
        .filter(|device| device.id() == kind as u32)
        .nth(command_line.device())
        .ok_or(Error::NotFound(kind))
}

/// The ring features that the command line asks for.
pub fn wanted(command_line: CommandLine<'_>) -> u64 {
    [("event_idx", EVENT_IDX), ("indirect", INDIRECT)]
        .into_iter()
        .filter(|(name, _)| command_line.feature(name))
        .fold(0, |features, (_, bit)| features | bit)
}

impl Transport {
    /// The device's type number.
    pub fn id(self) -> u32 {
        self.read(register::DEVICE_ID)
    }

    /// The address of the registers.
    pub fn address(self) -> u64 {
        self.registers.address(0)
    }

    /// Resets the device and agrees on VERSION_1 and those of `wanted` that it offers; returns them.
    ///
    /// # Errors
    /// [`Error::NotModern`] or [`Error::FeaturesRefused`].
    pub fn negotiate(self, wanted: u64) -> Result<u64, Error> {
        self.write(register::STATUS, 0);
        while self.read(register::STATUS) != 0 {}
        self.write(register::STATUS, status::ACKNOWLEDGE);
        self.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        let agreed = self.offered() & (wanted | VERSION_1);
        if self.read(register::VERSION) != 2 || agreed & VERSION_1 == 0 {
            return Err(Error::NotModern);
        }
        for (half, word) in halves(agreed).into_iter().enumerate() {
            self.write(register::DRIVER_FEATURES_SEL, u32::from(half == 1));
            self.write(register::DRIVER_FEATURES, word);
        }
        let asked = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.write(register::STATUS, asked);
        if self.read(register::STATUS) & status::FEATURES_OK == 0 {
            return Err(Error::FeaturesRefused);
        }
        Ok(agreed)
    }

    /// Makes queue `index` with the smallest power of two of descriptors from `needed` on.
    ///
    /// # Errors
    /// [`Error::QueueTooSmall`] with what the device allows.
    pub fn queue(
        self,
        index: u32,
        needed: u16,
        features: u64,
        arena: &mut Arena,
    ) -> Result<Queue, Error> {
        self.write(register::QUEUE_SEL, index);
        let most = self.read(register::QUEUE_NUM_MAX);
        let size = needed
            .checked_next_power_of_two()
            .filter(|size| u32::from(*size) <= most);
        let size = size.ok_or(Error::QueueTooSmall(most))?;
        let queue = Queue::new(self, index, size, features & EVENT_IDX != 0, arena);
        self.write(register::QUEUE_NUM, u32::from(size));
        for (register, address) in [
            (register::QUEUE_DESC, queue.descriptors()),
            (register::QUEUE_DRIVER, queue.available()),
            (register::QUEUE_DEVICE, queue.used()),
        ] {
            let [low, high] = halves(address);
            self.write(register, low);
            self.write(register + 4, high);
        }
        self.write(register::QUEUE_READY, 1);
        Ok(queue)
    }

    /// Sets the device to work.
    pub fn start(self) {
        self.write(
            register::STATUS,
            self.read(register::STATUS) | status::DRIVER_OK,
        );
    }

    /// Tells the device that queue `index` has something for it.
    pub fn notify(self, index: u32) {
        self.write(register::QUEUE_NOTIFY, index);
    }

    /// A 64-bit field of the device's configuration space.
    pub fn config64(self, offset: usize) -> u64 {
        let low = self.read(register::CONFIG + offset);
        let high = self.read(register::CONFIG + offset + 4);
        u64::from(high) << 32 | u64::from(low)
    }

    fn offered(self) -> u64 {
        self.write(register::DEVICE_FEATURES_SEL, 0);
        let low = self.read(register::DEVICE_FEATURES);
        self.write(register::DEVICE_FEATURES_SEL, 1);
        let high = self.read(register::DEVICE_FEATURES);
        u64::from(high) << 32 | u64::from(low)
    }

    fn read(self, register: usize) -> u32 {
        self.registers.read32(register)
    }

    fn write(self, register: usize, value: u32) {
        self.registers.write32(register, value);
    }
}

/// The low and the high half of a 64-bit value.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves are what is wanted"
)]
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
