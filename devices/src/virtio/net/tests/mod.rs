mod cable;
mod control;
mod host;
mod hostile;
mod linux;
mod mmds;
mod namespace;
mod rx;
mod tap;
mod tx;

use vm_memory::{Bytes, GuestAddress};

use crate::virtio::contract::Contract;
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::net::tests::cable::{Far, config, frame};
use crate::virtio::net::{HEADER, Mtu};

/// The queues.
const RX: usize = 0;
const TX: usize = 1;
const CONTROL: usize = 2;
/// Where tests put what the guest sends.
const OUT: u64 = DATA + 0x10_0000;

/// One frame each way.
fn exchange(driver: &mut Driver, far: &Far) {
    let sent = frame(7, 300);
    send(driver, &sent);
    assert_eq!(far.receive(), sent);
    let reply = frame(9, 200);
    driver.queue_chain(RX, &[Buffer::Writable(DATA, 2048)]);
    driver.kick(RX);
    far.send(&reply);
    assert_eq!(driver.wait_used(RX).1, 212);
    assert_eq!(received(driver, DATA, 212)[HEADER..], reply[HEADER..]);
}

/// Sends a frame, whose header is in front of it, in one buffer.
fn send(driver: &mut Driver, frame: &[u8]) {
    driver.ram.write_slice(frame, GuestAddress(OUT)).unwrap();
    let len = u32::try_from(frame.len()).unwrap();
    assert_eq!(driver.request(TX, &[Buffer::Readable(OUT, len)]), 0);
}

fn received(driver: &Driver, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    driver
        .ram
        .read_slice(&mut bytes, GuestAddress(address))
        .unwrap();
    bytes
}

/// `num_buffers` of the header at `address`.
fn num_buffers(driver: &Driver, address: u64) -> u16 {
    u16::from_le_bytes(received(driver, address + 10, 2).try_into().unwrap())
}

#[test]
fn the_contract_holds() {
    let far = Far::new();
    let contract = Contract {
        build: &|ram, io, interrupt| far.core(config(), ram, io, interrupt),
        exchange: &|driver| exchange(driver, &far),
    };
    contract.holds();
}

#[test]
fn the_config_space_shows_address_link_and_mtu() {
    let mut config = config();
    config.guest_mac = Some("06:00:ac:10:00:02".parse().unwrap());
    config.mtu = Some(Mtu::try_from(9000).unwrap());
    let far = Far::new();
    let mut driver = far.driver(config);
    let words = [0x100, 0x104, 0x108].map(|at| driver.read(at).to_le_bytes());
    assert_eq!(
        words.concat(),
        [6, 0, 0xac, 0x10, 0, 2, 1, 0, 1, 0, 0x28, 0x23]
    );
    assert_ne!(driver.offered() & (1 << 5 | 1 << 3), 0);
}

#[test]
fn what_the_config_leaves_out_is_not_offered() {
    let far = Far::new();
    let mut driver = far.driver(config());
    assert_eq!(driver.offered() & (1 << 5 | 1 << 3), 0, "MAC and MTU");
}

#[test]
fn a_config_reads_as_it_is_written_and_null_is_absent() {
    let config = config();
    let mut value: serde_json::Value = serde_json::to_value(&config).unwrap();
    assert!(value["mtu"].is_null(), "{value}");
    value.as_object_mut().unwrap().remove("rx_rate_limiter");
    assert_eq!(
        serde_json::from_value::<crate::virtio::net::Config>(value).unwrap(),
        config
    );
}
