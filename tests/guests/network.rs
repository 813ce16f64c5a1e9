//! Network cards: TCP both ways with offloads, and what the guest finds.
//!
//! Each test has a network of its own, so that taps and addresses are nobody else's: it runs itself again, as
//! `unshare --net ... THIS-BINARY TEST --exact`, and is what its second self is.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::guest::{Guest, Outcome};

crate::tests!(
    STOCK => [
        a_stock_guest_gets_20_mb_over_tcp_and_gives_them_back,
    ],
    TRIMMED => [
        a_trimmed_guest_gets_20_mb_over_tcp_and_gives_them_back,
        two_processors_get_20_mb_over_tcp_and_give_them_back,
        limits_slow_tcp_down_and_lose_nothing,
        a_guest_finds_the_address_and_the_mtu_that_its_card_was_given,
        a_card_has_the_same_address_at_every_start,
        a_tap_is_gone_after_its_guest,
    ],
);

/// Set in a test's second self.
const INSIDE: &str = "RAVELIN_TEST_NETWORK";
/// Where the host sends to the guest and where it takes back.
const DOWN: u16 = 5000;
const UP: u16 = 5001;
/// A guest that has not begun to send by its end never will.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest frame without segmentation.
const FRAME: u64 = 1514;

/// Runs `test` in a network namespace in which it may do everything.
pub(crate) fn in_own_network<F: FnOnce()>(test: F) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let (_, name) = name.split_once("::").unwrap();
    let is_required = std::env::var_os("RAVELIN_GUESTS").is_some();
    if !is_required && !unshare(&["true".as_ref()]).status.success() {
        eprintln!("guests: SKIPPED {name}: `unshare --net` fails: this host allows no namespaces");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let words = [name, "--exact", "--nocapture"].map(OsStr::new);
    let output = unshare(&[&[this.as_os_str()], &words[..]].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("ok. 1 passed"), "in its own network: {said}");
}

fn unshare(words: &[&OsStr]) -> Output {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .args(words)
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap()
}

/// 20 MB that no header resembles.
pub(crate) fn data() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..5_000_000).flat_map(|_| next()).collect()
}

/// A server that gives `data` to the first who comes, and takes as much from the second one.
pub(crate) fn serve(data: Vec<u8>) -> Receiver<Vec<u8>> {
    let [down, up] = [DOWN, UP].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap());
    let (send, taken) = channel();
    thread::spawn(move || {
        down.accept().unwrap().0.write_all(&data).unwrap();
        let (up, mut back) = (up.accept().unwrap().0, Vec::new());
        up.take(data.len() as u64).read_to_end(&mut back).unwrap();
        send.send(back).unwrap();
    });
    taken
}

/// Gives the host an address on the guest's tap.
pub(crate) fn address(tap: &str) {
    let status = Command::new("ip")
        .args(["address", "add", "10.9.0.1/24", "dev", tap])
        .status();
    assert!(status.unwrap().success(), "ip gives {tap} no address");
}

/// What a guest does to get the data and give them back, with its counters on the way. It is `cat` that writes to the
/// socket, in large pieces: nc's own are a kilobyte, and a guest that is slower than its network sends each by itself. The second
/// `cat` waits for the server's end: then everything was taken.
const EXCHANGE: &str = "\
    cd /sys/class/net/eth0 && ip address add 10.9.0.2/24 dev eth0 && ip link set eth0 up && echo card is up; \
    until ping -c 1 -W 1 10.9.0.1 > /dev/null; do :; done; \
    echo features=$(cat device/features); \
    nc 10.9.0.1 5000 < /dev/null > /tmp/data; \
    echo down_bytes=$(cat statistics/rx_bytes); echo down_frames=$(cat statistics/rx_packets); \
    before_bytes=$(cat statistics/tx_bytes); before_frames=$(cat statistics/tx_packets); \
    nc 10.9.0.1 5001 -e sh -c 'cat /tmp/data; cat > /dev/null'; \
    echo up_bytes=$(($(cat statistics/tx_bytes) - before_bytes)); \
    echo up_frames=$(($(cat statistics/tx_packets) - before_frames))";

fn exchange(guest: Guest, options: &str) -> Outcome {
    let sent = data();
    let taken = serve(sent.clone());
    let guest = guest
        .flag("--net", format!("tap=tap0{options}"))
        .script(EXCHANGE)
        .start();
    guest.wait_for("card is up");
    address("tap0");
    let outcome = guest.end();
    outcome.status(0);
    let taken = taken.recv_timeout(PATIENCE);
    let taken = taken.unwrap_or_else(|_| panic!("the guest gave nothing back: {outcome}"));
    assert_eq!(taken.len(), sent.len(), "{outcome}");
    assert!(taken == sent, "not the bytes that were sent: {outcome}");
    outcome
}

/// Asserts that both sides left checksums and segments to the other: virtio's features 0 and 1, 7 and 8, 11 and 12,
/// merged buffers (15), and frames longer than any network carries.
fn offloads(outcome: &Outcome) {
    let features = outcome.value("features").as_bytes();
    for bit in [0, 1, 7, 8, 11, 12, 15] {
        assert_eq!(features[bit], b'1', "feature {bit}: {outcome}");
    }
    for way in ["down", "up"] {
        let bytes = outcome.number(&format!("{way}_bytes"));
        let frames = outcome.number(&format!("{way}_frames"));
        assert!(bytes >= 20_000_000, "{way}: {outcome}");
        assert!(
            bytes > frames * FRAME,
            "{way}: no long frames among {frames}: {outcome}"
        );
    }
}

fn a_stock_guest_gets_20_mb_over_tcp_and_gives_them_back() {
    in_own_network(|| offloads(&exchange(Guest::stock(), "")));
}

fn a_trimmed_guest_gets_20_mb_over_tcp_and_gives_them_back() {
    in_own_network(|| offloads(&exchange(Guest::trimmed(), "")));
}

fn two_processors_get_20_mb_over_tcp_and_give_them_back() {
    in_own_network(|| offloads(&exchange(Guest::trimmed().flag("--cpus", "2"), "")));
}

fn limits_slow_tcp_down_and_lose_nothing() {
    in_own_network(|| {
        exchange(Guest::trimmed(), ",rx-bw=8M,tx-bw=8M,tx-pps=2000");
    });
}

fn a_guest_finds_the_address_and_the_mtu_that_its_card_was_given() {
    in_own_network(|| {
        let guest = Guest::trimmed().flag("--net", "tap=tap0,mac=06:00:ac:10:00:02,mtu=9000");
        let script = "cd /sys/class/net/eth0; echo mac=$(cat address); echo mtu=$(cat mtu)";
        let outcome = guest.script(script).run();
        assert_eq!(
            outcome.status(0).value("mac"),
            "06:00:ac:10:00:02",
            "{outcome}"
        );
        assert_eq!(outcome.number("mtu"), 9000, "{outcome}");
    });
}

fn a_card_has_the_same_address_at_every_start() {
    in_own_network(|| {
        let started = || {
            let guest = Guest::trimmed().flag("--net", "tap=tap0");
            let outcome = guest
                .script("echo mac=$(cat /sys/class/net/eth0/address)")
                .run();
            outcome.status(0).value("mac").to_owned()
        };
        assert_eq!(started(), started());
    });
}

fn a_tap_is_gone_after_its_guest() {
    in_own_network(|| {
        let taps = || std::fs::read_to_string("/proc/net/dev").unwrap();
        let guest = Guest::trimmed().flag("--net", "tap=tap0");
        let guest = guest.script("echo the guest is up; read line").start();
        guest.wait_for("the guest is up");
        assert!(taps().contains("tap0:"), "{}", taps());
        // Ended as its user would: of a ravelin that is killed the monitor ends a moment later.
        guest.signal(Signal::INT);
        guest.end().status(130);
        assert!(!taps().contains("tap0:"), "{}", taps());
    });
}
