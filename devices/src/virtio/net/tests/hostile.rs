use super::cable::{Far, config, frame};
use super::{CONTROL, RX, TX, exchange};
use crate::mmds::guest;
use crate::virtio::contract::Contract;
use crate::virtio::driver::{Buffer, DATA, Driver};

const CASES: u32 = 3000;
const MERGE: u64 = 1 << 15;
const OFFLOADS: u64 = 1 << 17 | 1 << 2;

fn survives(features: u64, queue: usize, after_kick: impl Fn(&mut Driver, &Far)) {
    survives_on(&Far::new(), features, queue, &after_kick);
    let (_, attachment) = guest::service(serde_json::json!({}));
    survives_on(&Far::with_mmds(attachment), features, queue, &after_kick);
}

fn survives_on(far: &Far, features: u64, queue: usize, after_kick: &impl Fn(&mut Driver, &Far)) {
    let contract = Contract {
        build: &|ram, io, interrupt| far.core(config(), ram, io, interrupt),
        exchange: &|driver: &mut Driver| {
            far.clear();
            exchange(driver, far);
        },
    };
    contract.survives_with(features, queue, CASES, &|driver| after_kick(driver, far));
}

fn arrive(_: &mut Driver, far: &Far) {
    for len in [14, 1514, 14, 60_000, 14] {
        far.try_send(&frame(1, len));
    }
}

#[test]
fn a_hostile_receiver_gets_nothing_out_of_it() {
    survives(0, RX, arrive);
}

#[test]
fn a_hostile_merging_receiver_gets_nothing_out_of_it() {
    survives(MERGE, RX, |driver, far| {
        arrive(driver, far);
        // A frame may wait for more buffers, as long as it takes.
        driver.queue_chain(RX, &[Buffer::Writable(DATA, 0x2_0000)]);
        driver.kick(RX);
    });
}

#[test]
fn a_hostile_sender_gets_nothing_out_of_it() {
    survives(0, TX, |_, far| while far.try_receive().is_some() {});
}

#[test]
fn a_hostile_commander_gets_nothing_out_of_it() {
    survives(OFFLOADS, CONTROL, |_, _| {});
}
