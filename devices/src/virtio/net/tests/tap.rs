//! Taps of the host's kernel: had, refused, and in use.

use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketType, socket};

use super::cable::config;
use super::host::{Wire, be_quiet, frame, index, persistent};
use super::namespace::{in_own_network, without_rights};
use super::{RX, TX, received, send};
use crate::catalog::Spec;
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::virtio::Core;
use crate::virtio::contract::Contract;
use crate::virtio::driver::{Buffer, DATA, Driver};
use crate::virtio::net::{HEADER, Mtu, Tap, TapError, TapName, ioctl};

fn name() -> TapName {
    "tap0".parse().unwrap()
}

fn mtu(bytes: u64) -> Option<Mtu> {
    Some(Mtu::try_from(bytes).unwrap())
}

#[test]
fn a_tap_is_made_and_vanishes_with_its_fd() {
    in_own_network(|| {
        let tap = Tap::open(&name(), None).unwrap();
        assert_ne!(index(&name()), 0);
        drop(tap);
        assert_eq!(index(&name()), 0);
    });
}

#[test]
fn a_tap_that_is_made_is_up_and_has_its_mtu() {
    in_own_network(|| {
        let _tap = Tap::open(&name(), mtu(9000)).unwrap();
        let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        assert!(ioctl::is_up(socket.as_fd(), &name()).unwrap());
        assert_eq!(ioctl::mtu(socket.as_fd(), &name()).unwrap(), 9000);
    });
}

#[test]
fn a_tap_that_exists_is_used_and_stays() {
    in_own_network(|| {
        drop(persistent(&name(), libc::IFF_TAP));
        for _ in 0..2 {
            drop(Tap::open(&name(), mtu(1500)).unwrap());
            assert_ne!(index(&name()), 0);
        }
    });
}

#[test]
fn a_tap_has_one_user() {
    in_own_network(|| {
        let _first = Tap::open(&name(), None).unwrap();
        let error = Tap::open(&name(), None).unwrap_err();
        assert!(matches!(error, TapError::Busy(_)), "{error}");
    });
}

#[test]
fn an_interface_of_another_kind_is_no_tap() {
    in_own_network(|| {
        let lo = "lo".parse().unwrap();
        let error = Tap::open(&lo, None).unwrap_err();
        assert!(matches!(error, TapError::NotATap(_)), "{error}");
        drop(persistent(&name(), libc::IFF_TUN));
        let error = Tap::open(&name(), None).unwrap_err();
        assert!(matches!(error, TapError::NotATap(_)), "{error}");
    });
}

#[test]
fn a_tap_of_several_queues_is_refused() {
    in_own_network(|| {
        drop(persistent(&name(), libc::IFF_TAP | libc::IFF_MULTI_QUEUE));
        let error = Tap::open(&name(), None).unwrap_err();
        assert!(matches!(error, TapError::MultiQueue(_)), "{error}");
    });
}

#[test]
fn the_mtu_of_a_tap_that_exists_is_not_changed() {
    in_own_network(|| {
        drop(persistent(&name(), libc::IFF_TAP));
        let error = Tap::open(&name(), mtu(9000)).unwrap_err();
        assert!(
            error.to_string().contains("ip link set tap0 mtu 9000"),
            "{error}"
        );
    });
}

#[test]
fn without_rights_a_tap_is_not_made_and_the_user_is_told_how() {
    without_rights(|| {
        let nobodys: TapName = "rvln-nobodys".parse().unwrap();
        let error = Tap::open(&nobodys, None).unwrap_err();
        assert!(matches!(error, TapError::MayNotCreate(_)), "{error}");
        assert!(error.to_string().contains("ip tuntap add"), "{error}");
    });
}

fn build(ram: GuestRam, io: IoHandle, interrupt: Interrupt) -> Core {
    let tap = Tap::open(&name(), None).unwrap();
    Spec::Net(config(), tap, None)
        .build(ram, io, interrupt)
        .unwrap()
}

fn exchange(driver: &mut Driver, wire: &Wire) {
    wire.clear();
    let sent = frame(1, 1000);
    send(driver, &[&[0; HEADER], &sent[..]].concat());
    assert_eq!(wire.receive(), sent);
    let reply = frame(2, 1400);
    for n in 0..3 {
        driver.queue_chain(RX, &[Buffer::Writable(DATA + n * 2048, 2048)]);
    }
    driver.kick(RX);
    wire.send(&reply);
    assert_eq!(driver.wait_used(RX).1, 1412);
    assert_eq!(received(driver, DATA + 12, 1400), reply);
}

#[test]
fn a_card_on_a_tap_exchanges_frames_with_the_host() {
    in_own_network(|| {
        be_quiet();
        let mut driver = Driver::new(build);
        let wire = Wire::of(&name());
        for features in [0, u64::MAX] {
            driver.negotiate(features);
            exchange(&mut driver, &wire);
        }
    });
}

#[test]
fn a_hostile_sender_gets_nothing_out_of_a_tap() {
    in_own_network(|| {
        be_quiet();
        drop(persistent(&name(), libc::IFF_TAP));
        drop(Tap::open(&name(), None).unwrap());
        let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        ioctl::set_up(socket.as_fd(), &name()).unwrap();
        let wire = Wire::of(&name());
        let contract = Contract {
            build: &build,
            exchange: &|driver| exchange(driver, &wire),
        };
        contract.survives(TX, 4000, &|_| wire.clear());
    });
}

#[test]
fn a_header_that_makes_no_sense_is_refused_and_the_next_frame_leaves() {
    in_own_network(|| {
        be_quiet();
        let mut driver = Driver::new(build);
        let wire = Wire::of(&name());
        driver.negotiate(0);
        // Segments of 0 bytes, of a kind that there is not.
        let header = [1, 0x7f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
        send(&mut driver, &[&header[..], &frame(3, 100)].concat());
        send(&mut driver, &[&[0; HEADER], &frame(4, 100)[..]].concat());
        assert_eq!(wire.receive(), frame(4, 100));
        assert!(!driver.needs_reset());
    });
}

#[test]
fn a_tap_that_is_deleted_unplugs_the_card_and_the_guest_lives() {
    in_own_network(|| {
        be_quiet();
        drop(persistent(&name(), libc::IFF_TAP));
        let mut driver = Driver::new(build);
        driver.negotiate(u64::MAX);
        let deleted = std::process::Command::new("ip")
            .args(["link", "delete", "tap0"])
            .status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: `ip link delete` is not to be had");
            return;
        }
        send(&mut driver, &[&[0; HEADER], &frame(5, 100)[..]].concat());
        assert!(!driver.needs_reset());
    });
}
