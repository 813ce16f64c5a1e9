//! The state machine's rules, one a test.

use super::status::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
use crate::catalog::Spec;
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::virtio::driver::Driver;
use crate::virtio::{Core, rng};

fn build(ram: GuestRam, io: IoHandle, interrupt: Interrupt) -> Core {
    Spec::Rng(rng::Config::default())
        .build(ram, io, interrupt)
        .unwrap()
}

fn with_features_ok() -> Driver {
    let mut driver = Driver::new(build);
    driver.write(0x70, ACKNOWLEDGE.into());
    driver.write(0x70, (ACKNOWLEDGE | DRIVER).into());
    driver.write(0x24, 1);
    driver.write(0x20, 1);
    driver.write(0x70, (ACKNOWLEDGE | DRIVER | FEATURES_OK).into());
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    driver
}

#[test]
fn a_status_bit_out_of_order_is_not_taken() {
    let mut driver = Driver::new(build);
    driver.write(0x70, DRIVER_OK.into());
    driver.write(0x70, DRIVER.into());
    assert_eq!(driver.status(), 0);
}

#[test]
fn a_status_bit_cannot_be_cleared_but_by_a_reset() {
    let mut driver = with_features_ok();
    driver.write(0x70, ACKNOWLEDGE.into());
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    driver.write(0x70, 0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn a_driver_without_version_1_gets_no_features_ok() {
    let mut driver = Driver::new(build);
    driver.write(0x70, (ACKNOWLEDGE | DRIVER).into());
    driver.write(0x70, (ACKNOWLEDGE | DRIVER | FEATURES_OK).into());
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER);
}

#[test]
fn a_feature_that_is_not_offered_is_refused() {
    let mut driver = Driver::new(build);
    driver.write(0x70, (ACKNOWLEDGE | DRIVER).into());
    driver.write(0x24, 1);
    driver.write(0x20, u32::MAX);
    driver.write(0x70, (ACKNOWLEDGE | DRIVER | FEATURES_OK).into());
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER);
}

#[test]
fn features_are_frozen_after_features_ok() {
    let mut driver = with_features_ok();
    let before = driver.device.core().save().unwrap().driver_features;
    driver.write(0x20, 0);
    assert_eq!(driver.device.core().save().unwrap().driver_features, before);
}

#[test]
fn a_queue_is_frozen_once_it_is_ready() {
    let mut driver = with_features_ok();
    driver.write(0x38, 64);
    driver.write(0x44, 1);
    driver.write(0x38, 128);
    driver.write(0x80, 0x5000);
    let queue = driver.device.core().save().unwrap().queues.remove(0);
    assert_eq!((queue.size, queue.desc_table), (64, 0));
}

#[test]
fn a_queue_size_that_is_no_power_of_two_is_not_taken() {
    let mut driver = with_features_ok();
    for size in [0, 3, 512, 65_536 + 16] {
        driver.write(0x38, size);
        assert_eq!(driver.device.core().save().unwrap().queues[0].size, 256);
    }
}

#[test]
fn a_queue_outside_guest_memory_breaks_the_device_at_driver_ok() {
    let mut driver = with_features_ok();
    driver.write(0x84, 0xffff);
    driver.write(0x90, 0x2000);
    driver.write(0xa0, 0x3000);
    driver.write(0x44, 1);
    driver.write(0x70, 15);
    assert!(driver.needs_reset());
    assert_eq!(
        driver.causes(),
        2,
        "the guest is told by a config interrupt"
    );
}

#[test]
fn saved_state_with_an_impossible_queue_is_refused() {
    let mut driver = with_features_ok();
    let mut saved = driver.device.core().save().unwrap();
    saved.queues[0].ready = true;
    saved.queues[0].avail_ring = 0xffff_ffff_f000;
    assert!(Driver::new(build).device.core().restore(&saved).is_err());
}

#[test]
fn saved_state_with_a_status_no_driver_can_reach_is_refused() {
    let mut driver = with_features_ok();
    let mut saved = driver.device.core().save().unwrap();
    saved.status = DRIVER_OK;
    assert!(Driver::new(build).device.core().restore(&saved).is_err());
}

#[test]
fn registers_answer_only_to_aligned_32_bit_accesses() {
    use crate::bus::BusDevice;
    let mut driver = Driver::new(build);
    assert_eq!(driver.read(0), u32::from_le_bytes(*b"virt"));
    let mut wide = [0; 8];
    driver.device.read(0, &mut wide);
    assert_eq!(wide, [0; 8]);
    assert_eq!(driver.read(2), 0);
    driver.device.write(0x70, &[1]);
    assert_eq!(driver.status(), 0);
}
