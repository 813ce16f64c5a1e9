//! Stop and start while requests are in flight: nothing is lost, and nothing grows.

use super::*;

/// Requests outstanding at once.
const DEPTH: u64 = 64;
/// The bytes of each.
const LEN: u64 = 16 * 1024;
/// Rounds of requests; each is interrupted by stops.
const ROUNDS: u64 = 100;

fn header_at(place: u64) -> u64 {
    DATA + place * 32
}

fn data_at(place: u64) -> u64 {
    DATA + 0x1_0000 + place * LEN
}

/// Queues one request of each place, and kicks once.
fn queue_all(driver: &mut Driver, kind: u32) {
    for place in 0..DEPTH {
        let sector = place * LEN / 512;
        let at = header_at(place);
        driver
            .ram
            .write_slice(&header(kind, sector), GuestAddress(at))
            .unwrap();
        driver
            .ram
            .write_obj(NO_STATUS, GuestAddress(at + 16))
            .unwrap();
        let len = u32::try_from(LEN).unwrap();
        let data = match kind {
            OUT => Buffer::Readable(data_at(place), len),
            _ => Buffer::Writable(data_at(place), len),
        };
        let status = Buffer::Writable(at + 16, 1);
        driver.queue_chain(0, &[Buffer::Readable(at, 16), data, status]);
    }
    driver.kick(0);
}

/// Stops and starts the device, then waits for every request.
fn interrupt_and_wait(driver: &mut Driver, written: u32) {
    for _ in 0..3 {
        driver.device.core().pause();
        assert!(driver.device.core().save().is_some());
        driver.device.core().resume();
    }
    for _ in 0..DEPTH {
        assert_eq!(driver.wait_used(0).1, written);
    }
    for place in 0..DEPTH {
        let at = GuestAddress(header_at(place) + 16);
        assert_eq!(driver.ram.read_obj::<u8>(at).unwrap(), OK);
    }
}

fn open_files_of(image: &NamedTempFile) -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target == image.path())
        .count()
}

#[test]
fn nothing_is_lost_when_a_disk_is_stopped_under_load() {
    for engine in engines() {
        let image = image(SIZE);
        let mut driver = Driver::new(built(config(engine), reopen(&image)));
        driver.negotiate(u64::MAX);
        let fds = open_files_of(&image);
        for round in 0..ROUNDS {
            let fill = |place: u64| {
                let value = (round * DEPTH + place).to_le_bytes();
                value.repeat(usize::try_from(LEN / 8).unwrap())
            };
            for place in 0..DEPTH {
                let at = GuestAddress(data_at(place));
                driver.ram.write_slice(&fill(place), at).unwrap();
            }
            queue_all(&mut driver, OUT);
            interrupt_and_wait(&mut driver, 1);
            for place in 0..DEPTH {
                let blank = vec![0; usize::try_from(LEN).unwrap()];
                let at = GuestAddress(data_at(place));
                driver.ram.write_slice(&blank, at).unwrap();
            }
            queue_all(&mut driver, IN);
            interrupt_and_wait(&mut driver, u32::try_from(LEN).unwrap() + 1);
            for place in 0..DEPTH {
                let mut data = vec![0; usize::try_from(LEN).unwrap()];
                let at = GuestAddress(data_at(place));
                driver.ram.read_slice(&mut data, at).unwrap();
                assert_eq!(data, fill(place), "round {round}, place {place}");
            }
        }
        assert_eq!(open_files_of(&image), fds);
    }
}

#[test]
fn a_reset_under_load_waits_for_what_is_in_flight() {
    for engine in engines() {
        let (mut driver, _image) = disk(engine);
        for _ in 0..ROUNDS {
            queue_all(&mut driver, OUT);
            driver.write(0x70, 0);
            assert_eq!(driver.status(), 0);
            driver.negotiate(u64::MAX);
        }
        assert_eq!(read(&mut driver, 0, 512).status, OK);
    }
}

#[test]
fn a_device_dropped_under_load_leaves_guest_memory_alone() {
    for engine in engines() {
        for _ in 0..20 {
            let (mut driver, _image) = disk(engine);
            queue_all(&mut driver, OUT);
            drop(driver);
        }
    }
}

#[test]
fn a_request_that_comes_as_the_device_looks_is_no_mistake() {
    let (mut driver, _image) = disk(Engine::Sync);
    let at = header_at(0);
    driver
        .ram
        .write_slice(&header(IN, 0), GuestAddress(at))
        .unwrap();
    let buffers = [
        Buffer::Readable(at, 16),
        Buffer::Writable(data_at(0), 512),
        Buffer::Writable(at + 16, 1),
    ];
    for sent in 1..=50_000u16 {
        driver.queue_chain(0, &buffers);
        driver.kick(0);
        // This driver is quick: it polls.
        let start = std::time::Instant::now();
        while driver.used_index(0) != sent {
            assert!(!driver.needs_reset(), "request {sent} broke the queue");
            assert!(start.elapsed().as_secs() < 20, "request {sent} was lost");
            std::hint::spin_loop();
        }
    }
}
