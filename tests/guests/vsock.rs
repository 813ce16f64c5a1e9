//! Sockets between guest and host: data in quantity, connections by the thousand, and what stays behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use crate::guest::{Guest, Running};

crate::tests!(
    STOCK => [
        a_stock_guest_gets_20_mb_and_gives_them_back,
    ],
    TRIMMED => [
        a_trimmed_guest_gets_100_mb_and_gives_them_back,
        a_guest_without_a_cell_around_its_monitor_gets_20_mb_and_gives_them_back,
        a_host_connects_to_a_guest_a_thousand_times,
        a_guest_connects_to_its_host_a_thousand_times,
        hundreds_of_connections_are_open_at_a_time,
        a_guest_whose_host_has_closed_reads_to_the_end,
        a_call_that_nobody_takes_is_refused,
        the_socket_goes_with_its_vm,
    ],
);

/// Ports of the host.
const DOWN: u32 = 5000;
const UP: u32 = 5001;
/// A port of the guest.
const ECHO: u32 = 52;
const MB: usize = 1_000_000;
/// Guests echo so many connections; what was refused before they listen does not count.
const MANY: u32 = 1000;

/// A directory with the VM's socket.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("v.sock")
    }

    /// A guest with the socket.
    fn guest(&self, guest: Guest) -> Guest {
        guest.flag("--vsock", self.path())
    }

    /// What the guest calls by `port`.
    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.0.path().join(format!("v.sock_{port}"))).unwrap()
    }

    /// A connection to the guest's `port`; `None` when nobody there takes it.
    fn connect(&self, port: u32) -> Option<BufReader<UnixStream>> {
        let mut stream = BufReader::new(UnixStream::connect(self.path()).unwrap());
        writeln!(stream.get_mut(), "CONNECT {port}").unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.is_empty() {
            return None;
        }
        let port = line
            .strip_prefix("OK ")
            .and_then(|rest| rest.strip_suffix('\n'));
        let port: u32 = port.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        assert!(port >= 1 << 30, "{port}");
        Some(stream)
    }
}

/// Bytes that no header resembles.
fn data(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..len / 4).flat_map(|_| next()).collect()
}

/// The host gives the guest data over one connection and gets them back over another.
fn exchange(guest: Guest, megabytes: usize) {
    let place = Place::new();
    let (down, up) = (place.listen(DOWN), place.listen(UP));
    let sent = data(megabytes * MB);
    let copy = sent.clone();
    let serving = thread::spawn(move || {
        let mut stream = down.accept().unwrap().0;
        stream.write_all(&copy).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::with_capacity(copy.len());
        up.accept().unwrap().0.read_to_end(&mut back).unwrap();
        back
    });
    let script = format!(
        "vsock connect {DOWN} < /dev/null > /tmp/data && echo got=$(wc -c < /tmp/data) && \
         vsock connect {UP} < /tmp/data"
    );
    let outcome = place.guest(guest).script(&script).run();
    assert_eq!(
        outcome.status(0).number("got"),
        sent.len() as u64,
        "{outcome}"
    );
    assert!(
        serving.join().unwrap() == sent,
        "not the bytes that were sent: {outcome}"
    );
}

fn a_stock_guest_gets_20_mb_and_gives_them_back() {
    exchange(Guest::stock(), 20);
}

fn a_trimmed_guest_gets_100_mb_and_gives_them_back() {
    exchange(Guest::trimmed(), 100);
}

fn a_guest_without_a_cell_around_its_monitor_gets_20_mb_and_gives_them_back() {
    exchange(Guest::trimmed().switch("--no-jail"), 20);
}

/// A guest that echoes `count` connections, once it does.
fn echoing(place: &Place, count: u32) -> Running {
    let script = format!("echo up; vsock echo {ECHO} {count} && echo echoed {count}");
    let guest = place.guest(Guest::trimmed()).script(&script).start();
    guest.wait_for("up");
    // Refused until the guest has booted and listens.
    while place.connect(ECHO).is_none() {
        thread::yield_now();
    }
    guest
}

fn a_host_connects_to_a_guest_a_thousand_times() {
    let place = Place::new();
    // One is gone with the first that was taken.
    let guest = echoing(&place, MANY + 1);
    for number in 0..MANY {
        let mut stream = place.connect(ECHO).unwrap();
        write!(stream.get_mut(), "{number}").unwrap();
        stream.get_mut().shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, number.to_string());
    }
    let outcome = guest.end();
    outcome.status(0);
    assert!(outcome.console.contains("echoed"), "{outcome}");
}

/// A process of the host that answers `count` connections with what they say.
fn answering(listener: UnixListener, count: u32) -> JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..count {
            let mut stream = listener.accept().unwrap().0;
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream.write_all(&heard).unwrap();
        }
    })
}

/// Runs a trimmed guest that does as the script says, and succeeds.
fn run(place: &Place, script: &str) {
    let guest = place.guest(Guest::trimmed());
    guest.script(script).run().status(0);
}

fn a_guest_connects_to_its_host_a_thousand_times() {
    let place = Place::new();
    let answering = answering(place.listen(UP), MANY);
    let script = format!("vsock greet {UP} {MANY}");
    run(&place, &script);
    answering.join().unwrap();
}

fn hundreds_of_connections_are_open_at_a_time() {
    let place = Place::new();
    let answering = answering(place.listen(UP), 300);
    // Nobody is accepted but one at a time: the others wait, open on the guest's side.
    let script = format!(
        "for n in $(seq 300); do echo $n | vsock connect {UP} > /tmp/$n & done; wait; \
         for n in $(seq 300); do echo $n | cmp - /tmp/$n || exit 9; done"
    );
    run(&place, &script);
    answering.join().unwrap();
}

fn a_guest_whose_host_has_closed_reads_to_the_end() {
    let place = Place::new();
    let listener = place.listen(DOWN);
    let serving = thread::spawn(move || {
        listener.accept().unwrap().0.write_all(&data(MB)).unwrap();
    });
    let script = format!(
        "sleep 1000 | vsock connect {DOWN} > /tmp/data & while kill -0 $! && [ $(wc -c < /tmp/data) -lt {MB} ]; do :; done; echo got=$(wc -c < /tmp/data)"
    );
    let outcome = place.guest(Guest::trimmed()).script(&script).run();
    serving.join().unwrap();
    assert_eq!(outcome.status(0).number("got"), MB as u64, "{outcome}");
}

fn a_call_that_nobody_takes_is_refused() {
    let place = Place::new();
    let script = "vsock connect 9 < /dev/null; echo status=$?";
    let outcome = place.guest(Guest::trimmed()).script(script).run();
    assert_eq!(outcome.status(0).number("status"), 1, "{outcome}");
    assert!(outcome.console.contains("reset by peer"), "{outcome}");
}

fn the_socket_goes_with_its_vm() {
    for guest in [Guest::trimmed(), Guest::trimmed().switch("--no-jail")] {
        let place = Place::new();
        let guest = place.guest(guest).script("echo here; read line").start();
        guest.wait_for("here");
        assert!(place.path().exists());
        guest.signal(rustix::process::Signal::INT);
        guest.end().status(130);
        assert!(!place.path().exists());
    }
}
