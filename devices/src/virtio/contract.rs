//! The contract script that every virtio device runs, and the hostile driver it has to survive.

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{Bytes, GuestAddress};

use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::virtio::Core;
use crate::virtio::driver::{DATA, Descriptor, Driver, NEXT, RAM_SIZE};

/// A device under test.
pub(crate) struct Contract<'a> {
    /// Builds a device after power-on; every call gives an equal one over the same backend.
    pub(crate) build: &'a dyn Fn(GuestRam, IoHandle, Interrupt) -> Core,
    /// One exchange with the device that asserts its effect.
    pub(crate) exchange: &'a dyn Fn(&mut Driver),
}

impl Contract<'_> {
    /// Negotiate, start, I/O, stop, save, restore, start, I/O, reset, and all of it again, with and
    /// without the ring's features.
    pub(crate) fn holds(&self) {
        let ring_features = [
            0,
            1 << VIRTIO_RING_F_EVENT_IDX,
            (1 << VIRTIO_RING_F_EVENT_IDX) | (1 << VIRTIO_RING_F_INDIRECT_DESC),
            u64::MAX,
        ];
        let mut driver = Driver::new(self.build);
        for features in ring_features {
            driver.negotiate(features);
            (self.exchange)(&mut driver);
            driver = self.moved(driver);
            (self.exchange)(&mut driver);
            driver.write(0x70, 0);
            assert_eq!(driver.status(), 0, "a reset clears the status");
        }
    }

    /// Pauses, saves, and restores into a new device.
    fn moved(&self, mut driver: Driver) -> Driver {
        assert!(
            driver.device.core().save().is_none(),
            "no state while running"
        );
        driver.device.core().pause();
        let saved = driver
            .device
            .core()
            .save()
            .expect("a paused device has its state");
        let mut driver = driver.replaced(self.build);
        driver.device.core().restore(&saved).unwrap();
        assert_eq!(driver.device.core().save().as_ref(), Some(&saved));
        driver.device.core().resume();
        driver
    }

    /// Feeds `cases` generated bad chains to `queue`. After each one the device has either given the
    /// chain back or stopped, and `after_kick` may help a device that needs more than a kick. Guard
    /// pages around guest memory end the test at the first stray byte.
    pub(crate) fn survives(&self, queue: usize, cases: u32, after_kick: &dyn Fn(&mut Driver)) {
        self.survives_with(0, queue, cases, after_kick);
    }

    /// As [`Contract::survives`], with device features agreed on.
    pub(crate) fn survives_with(
        &self,
        features: u64,
        queue: usize,
        cases: u32,
        after_kick: &dyn Fn(&mut Driver),
    ) {
        let mut driver = Driver::new(self.build);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ u64::from(cases));
        for case in 0..cases {
            let ring_features = if case % 2 == 0 {
                0
            } else {
                1 << VIRTIO_RING_F_INDIRECT_DESC
            };
            driver.negotiate(features | ring_features);
            bad_chains(&mut driver, queue, &mut dice);
            driver.kick(queue);
            after_kick(&mut driver);
            driver.watch(|driver| driver.used_index(queue) != 0 || driver.needs_reset());
        }
        driver.negotiate(u64::MAX);
        (self.exchange)(&mut driver);
    }
}

/// Small deterministic random numbers (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that roll the same for the same `seed`, which is not 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll() >> 33).unwrap() % from.len()]
    }

    fn low16(&mut self) -> u16 {
        u16::try_from(self.roll() >> 48).unwrap()
    }
}

/// Fills the table with descriptors of every bad kind, and some good ones, and makes heads available.
fn bad_chains(driver: &mut Driver, queue: usize, dice: &mut Dice) {
    for index in 0..16 {
        let descriptor = bad_descriptor(dice);
        driver.set_descriptor(queue, index, descriptor);
        driver.set_descriptor_at(
            DATA + 0x8_0000 + 16 * u64::from(index),
            bad_descriptor(dice),
        );
    }
    // Data areas hold anything: headers are guest input too, and some of them nearly make sense.
    let noise = [dice.roll().to_le_bytes(), dice.roll().to_le_bytes()].concat();
    driver.ram.write_slice(&noise, GuestAddress(DATA)).unwrap();
    if !dice.roll().is_multiple_of(4) {
        let kind: u32 = dice.pick(&[0, 1, 2, 4, 8, 11, 13]);
        let place: u64 = dice.pick(&[0, 1, 7, 2047, 2048, 1 << 54, u64::MAX]);
        driver.ram.write_obj(kind, GuestAddress(DATA)).unwrap();
        driver.ram.write_obj(place, GuestAddress(DATA + 8)).unwrap();
    }
    for _ in 0..dice.pick(&[1, 1, 2, 5]) {
        let head = dice.pick(&[0, 1, 2, 7, 15, 200, 256, 0xffff]);
        driver.make_available(queue, head);
    }
    if dice.roll().is_multiple_of(8) {
        let jump = dice.pick(&[257, 300, 0x8000, 0xffff]);
        driver.set_available_index(queue, jump);
    }
}

fn bad_descriptor(dice: &mut Dice) -> Descriptor {
    let ram = u64::try_from(RAM_SIZE).unwrap();
    let anywhere = dice.roll() % (ram + 0x1000);
    let ring = 0x1_0000 + dice.pick(&[0, 0x4000, 0x8000, 0x8002]);
    let address = dice.pick(&[
        DATA,
        DATA + 0x8_0000,
        DATA + 1,
        0,
        ring,
        anywhere,
        ram - 1,
        ram - 512,
        ram,
        0xc000_0000,
        u64::MAX,
        u64::MAX - 511,
    ]);
    let random = u32::try_from(dice.roll() >> 32).unwrap();
    let len = dice.pick(&[
        0,
        1,
        8,
        12,
        15,
        16,
        17,
        32,
        512,
        4096,
        0x1_0000,
        0x7fff_ffff,
        u32::MAX,
        random,
    ]);
    let flags = dice.pick(&[0, NEXT, NEXT, NEXT, 2, 3, 3, 3, 4, 5, 6, 7, 0xffff]);
    let next = dice.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 255, 256, 0xffff]);
    let next = if dice.roll().is_multiple_of(32) {
        dice.low16()
    } else {
        next
    };
    Descriptor {
        address,
        len,
        flags,
        next,
    }
}
