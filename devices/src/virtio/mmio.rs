//! The memory-mapped transport (virtio 1.2 §4.2): registers decoded over the core.
//!
//! | offset | register | | offset | register |
//! | --- | --- | --- | --- | --- |
//! | 0x000 | magic "virt" | | 0x044 | queue ready |
//! | 0x004 | version 2 | | 0x050 | queue notify |
//! | 0x008 | device id | | 0x060 | interrupt status |
//! | 0x00c | vendor id | | 0x064 | interrupt acknowledge |
//! | 0x010 | device features | | 0x070 | status |
//! | 0x014 | device features select | | 0x080, 0x084 | descriptor table low, high |
//! | 0x020 | driver features | | 0x090, 0x094 | available ring low, high |
//! | 0x024 | driver features select | | 0x0a0, 0x0a4 | used ring low, high |
//! | 0x030 | queue select | | 0x0fc | config generation |
//! | 0x034 | queue size max | | 0x100... | config space |
//! | 0x038 | queue size | | | |
//!
//! Every register is 32 bits wide; an access of another width or alignment below 0x100 reads 0 and
//! writes nothing (§4.2.2.2: the driver MUST use 32 bit wide and aligned accesses).

use crate::bus::BusDevice;
use crate::virtio::core::{Area, Core, Half};

/// How many bytes of address space a device takes.
pub const SIZE: u64 = 0x1000;
/// Where the driver notifies: the VM binds this address to the doorbells.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"rvln");
const CONFIG: u64 = 0x100;

/// A virtio device with memory-mapped registers.
#[derive(Debug)]
pub struct Mmio {
    core: Core,
    device_features_select: u32,
    driver_features_select: u32,
    queue_select: u32,
}

impl Mmio {
    /// Puts registers over `core`.
    pub fn new(core: Core) -> Self {
        Self {
            core,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
        }
    }

    /// The device behind the registers, for the host's side: pause, update, save.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.core.device_type() as u32,
            0x00c => VENDOR,
            0x010 => {
                half(self.device_features_select).map_or(0, |half| self.core.device_features(half))
            }
            0x034 => self.core.queue_max_size(self.queue_select).into(),
            0x044 => self.core.queue_ready(self.queue_select).into(),
            0x060 => self.core.interrupt().causes(),
            0x070 => self.core.status().into(),
            0x0fc => self.core.config_generation(),
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        let queue = self.queue_select;
        match offset {
            0x014 => self.device_features_select = value,
            0x020 => {
                if let Some(half) = half(self.driver_features_select) {
                    self.core.set_driver_features(half, value);
                }
            }
            0x024 => self.driver_features_select = value,
            0x030 => self.queue_select = value,
            0x038 => self.core.set_queue_size(queue, value),
            0x044 => self.core.set_queue_ready(queue, value & 1 == 1),
            QUEUE_NOTIFY => self.core.notify(value),
            0x064 => self.core.interrupt().acknowledge(value),
            0x070 => self.set_status(value),
            0x080 => self.set_area(Area::Descriptors, Half::Low, value),
            0x084 => self.set_area(Area::Descriptors, Half::High, value),
            0x090 => self.set_area(Area::Available, Half::Low, value),
            0x094 => self.set_area(Area::Available, Half::High, value),
            0x0a0 => self.set_area(Area::Used, Half::Low, value),
            0x0a4 => self.set_area(Area::Used, Half::High, value),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) {
        if let Ok(value) = u8::try_from(value) {
            self.core.set_status(value);
        }
    }

    fn set_area(&mut self, area: Area, half: Half, value: u32) {
        self.core
            .set_queue_area(self.queue_select, area, half, value);
    }
}

impl BusDevice for Mmio {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.core.read_config(offset, data);
        } else if let (Ok(data), true) = (<&mut [u8; 4]>::try_from(data), offset.is_multiple_of(4))
        {
            *data = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.core.write_config(offset, data);
        } else if let (Ok(data), true) = (<[u8; 4]>::try_from(data), offset.is_multiple_of(4)) {
            self.write_register(offset, u32::from_le_bytes(data));
        }
    }
}

/// A feature register shows bits 0 to 63 in two halves and nothing beyond.
fn half(select: u32) -> Option<Half> {
    match select {
        0 => Some(Half::Low),
        1 => Some(Half::High),
        _ => None,
    }
}
