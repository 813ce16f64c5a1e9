use vm_memory::{Bytes, GuestAddress};

use super::cable::{Far, config};
use super::{CONTROL, OUT, exchange, received};
use crate::virtio::driver::{Buffer, DATA, Driver};

const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const OFFLOADS: u64 = 1 << 17 | 1 << 2;
const OK: u8 = 0;
const REFUSED: u8 = 1;

/// Gives a command; the answer.
fn command(driver: &mut Driver, class: u8, code: u8, data: &[u8]) -> u8 {
    let command = [&[class, code], data].concat();
    driver.ram.write_slice(&command, GuestAddress(OUT)).unwrap();
    driver.ram.write_slice(&[0xff], GuestAddress(DATA)).unwrap();
    let len = u32::try_from(command.len()).unwrap();
    let buffers = [Buffer::Readable(OUT, len), Buffer::Writable(DATA, 1)];
    assert_eq!(driver.request(CONTROL, &buffers), 1);
    received(driver, DATA, 1)[0]
}

fn set_offloads(driver: &mut Driver, bits: u64) -> u8 {
    command(driver, 5, 0, &bits.to_le_bytes())
}

#[test]
fn the_tap_gets_what_was_negotiated() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(GUEST_CSUM | GUEST_TSO4);
    assert_eq!(far.asked(), 3);
    driver.negotiate(0);
    assert_eq!(far.asked(), 0);
}

#[test]
fn the_guest_may_give_up_an_offload() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(OFFLOADS | GUEST_CSUM | GUEST_TSO4);
    assert_eq!(set_offloads(&mut driver, GUEST_CSUM), OK);
    assert_eq!(far.asked(), 1);
    exchange(&mut driver, &far);
}

#[test]
fn what_the_guest_chose_stays_over_a_pause() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(OFFLOADS | GUEST_CSUM | GUEST_TSO4);
    assert_eq!(set_offloads(&mut driver, 0), OK);
    driver.device.core().pause();
    driver.device.core().resume();
    assert_eq!(far.asked(), 0);
}

#[test]
fn what_the_guest_chose_goes_with_a_reset() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(OFFLOADS | GUEST_CSUM | GUEST_TSO4);
    assert_eq!(set_offloads(&mut driver, 0), OK);
    driver.negotiate(OFFLOADS | GUEST_CSUM | GUEST_TSO4);
    assert_eq!(far.asked(), 3);
}

#[test]
fn an_offload_that_was_not_negotiated_is_refused() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(OFFLOADS | GUEST_CSUM);
    assert_eq!(set_offloads(&mut driver, GUEST_CSUM | GUEST_TSO4), REFUSED);
    assert_eq!(far.asked(), 1);
}

#[test]
fn commands_of_a_driver_that_did_not_ask_for_them_are_refused() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(GUEST_CSUM);
    assert_eq!(set_offloads(&mut driver, 0), REFUSED);
}

#[test]
fn an_unknown_or_unfinished_command_is_refused() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(OFFLOADS | GUEST_CSUM);
    assert_eq!(command(&mut driver, 0, 0, &[1]), REFUSED);
    assert_eq!(command(&mut driver, 1, 1, &[6, 0, 0, 0, 0, 1]), REFUSED);
    assert_eq!(command(&mut driver, 5, 1, &[0; 8]), REFUSED);
    assert_eq!(command(&mut driver, 5, 0, &[0; 7]), REFUSED);
    assert_eq!(far.metrics().commands_refused.get(), 4);
}

#[test]
fn a_command_without_room_for_an_answer_comes_back() {
    let far = Far::new();
    let mut driver = far.driver(config());
    driver.negotiate(OFFLOADS);
    assert_eq!(driver.request(CONTROL, &[Buffer::Readable(OUT, 10)]), 0);
    assert_eq!(driver.request(CONTROL, &[Buffer::Writable(DATA, 1)]), 1);
}
