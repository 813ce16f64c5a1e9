use super::*;
use crate::virtio::block::device::Block;
use crate::virtio::block::disk::Disk;
use crate::virtio::block::{Cache, Error};

const LAST: u64 = SIZE / 512 - 1;

#[test]
fn a_disk_ends_at_its_capacity() {
    for engine in engines() {
        let (mut driver, image) = disk(engine);
        assert_eq!(read(&mut driver, LAST, 512).status, OK);
        for (sector, len) in [
            (LAST, 1024),
            (LAST + 1, 512),
            (1 << 55, 512),
            (u64::MAX, 512),
        ] {
            let answer = read(&mut driver, sector, len);
            assert_eq!(
                (answer.status, answer.used),
                (IO_ERROR, 1),
                "{sector}+{len}"
            );
            let data = vec![0; usize::try_from(len).unwrap()];
            assert_eq!(write(&mut driver, sector, &data).status, IO_ERROR);
        }
        assert_eq!(u64::try_from(contents(&image).len()).unwrap(), SIZE);
    }
}

#[test]
fn data_is_whole_sectors() {
    let (mut driver, _image) = disk(Engine::Sync);
    for len in [1, 511, 513] {
        assert_eq!(read(&mut driver, 0, len).status, IO_ERROR);
        let data = vec![0; usize::try_from(len).unwrap()];
        assert_eq!(write(&mut driver, 0, &data).status, IO_ERROR);
    }
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    for engine in engines() {
        let image = image(SIZE);
        let config = Config {
            read_only: true,
            ..config(engine)
        };
        // The file is open for writing: the refusal is the device's own.
        let mut driver = Driver::new(built(config, reopen(&image)));
        driver.negotiate(u64::MAX);
        let before = contents(&image);
        assert_eq!(write(&mut driver, 0, &[1; 512]).status, IO_ERROR);
        for kind in [DISCARD, WRITE_ZEROES] {
            let answer = send(&mut driver, kind, 0, &range(0, 8, 0), 0);
            assert_eq!(answer.status, IO_ERROR);
        }
        assert_eq!(contents(&image), before);
        assert_eq!(read(&mut driver, 1, 512).data, [1; 512]);
        assert_eq!(send(&mut driver, FLUSH, 0, &[], 0).status, OK);
    }
}

#[test]
fn an_unknown_request_is_unsupported() {
    let (mut driver, _image) = disk(Engine::Sync);
    for kind in [2, 3, 14, 99, u32::MAX] {
        let answer = send(&mut driver, kind, 0, &[], 512);
        assert_eq!((answer.status, answer.used), (UNSUPPORTED, 1));
    }
}

#[test]
fn a_discard_with_flags_is_unsupported() {
    let (mut driver, image) = disk(Engine::Sync);
    for (kind, flags) in [
        (DISCARD, 1),
        (DISCARD, 2),
        (WRITE_ZEROES, 2),
        (WRITE_ZEROES, 1 << 31),
    ] {
        let answer = send(&mut driver, kind, 0, &range(8, 8, flags), 0);
        assert_eq!(answer.status, UNSUPPORTED);
    }
    assert_eq!(contents(&image)[8 * 512], 8);
}

#[test]
fn a_discard_stays_inside_the_disk() {
    let (mut driver, image) = disk(Engine::Sync);
    for (sector, sectors) in [(LAST, 2), (u64::MAX, 1), (1 << 60, 8), (0, u32::MAX)] {
        for kind in [DISCARD, WRITE_ZEROES] {
            let answer = send(&mut driver, kind, 0, &range(sector, sectors, 0), 0);
            assert_eq!(answer.status, IO_ERROR, "{sector}+{sectors}");
        }
    }
    assert_eq!(contents(&image)[8 * 512], 8);
}

#[test]
fn a_discard_names_exactly_one_range() {
    let (mut driver, _image) = disk(Engine::Sync);
    let two = [range(8, 8, 0), range(16, 8, 0)].concat();
    for out in [&two[..], &two[..15], &[]] {
        assert_eq!(send(&mut driver, DISCARD, 0, out, 0).status, IO_ERROR);
    }
}

#[test]
fn a_serial_number_needs_room() {
    let (mut driver, _image) = disk(Engine::Sync);
    let answer = send(&mut driver, GET_ID, 0, &[], 19);
    assert_eq!((answer.status, answer.used), (IO_ERROR, 1));
}

#[test]
fn a_header_cut_short_is_an_error() {
    let (mut driver, _image) = disk(Engine::Sync);
    let buffers = [Buffer::Readable(HEADER, 15), Buffer::Writable(STATUS, 1)];
    assert_eq!(driver.request(0, &buffers), 1);
    let status: u8 = driver.ram.read_obj(GuestAddress(STATUS)).unwrap();
    assert_eq!(status, IO_ERROR);
}

#[test]
fn a_chain_without_room_for_a_status_comes_back_empty() {
    let (mut driver, _image) = disk(Engine::Sync);
    assert_eq!(driver.request(0, &[Buffer::Readable(HEADER, 16)]), 0);
}

#[test]
fn a_host_without_space_is_an_error_of_the_guest_only() {
    for engine in engines() {
        let full = File::options()
            .read(true)
            .write(true)
            .open("/dev/full")
            .unwrap();
        let image = image(SIZE);
        let mut disk = Disk::new(reopen(&image), "full", [0; 20], false).unwrap();
        disk.file = full;
        let device = Block::over(&config(engine), disk).unwrap();
        let metrics = device.metrics();
        let mut driver =
            Driver::new(|ram, io, interrupt| Core::new(device, ram, io, interrupt).unwrap());
        driver.negotiate(u64::MAX);
        for _ in 0..3 {
            let answer = write(&mut driver, 0, &[1; 512]);
            assert_eq!((answer.status, answer.used), (IO_ERROR, 1));
        }
        assert_eq!(metrics.execute_fails.get(), 3);
        assert!(!driver.needs_reset());
        assert_eq!(read(&mut driver, 0, 512).status, OK);
    }
}

#[test]
fn a_file_that_was_cut_behind_the_disk_is_an_error_of_the_guest_only() {
    for engine in engines() {
        let (mut driver, image) = disk(engine);
        reopen(&image).set_len(512 * 9).unwrap();
        let answer = read(&mut driver, 8, 1024);
        assert_eq!((answer.status, answer.used), (IO_ERROR, 513));
        assert_eq!(answer.data[..512], [8; 512]);
        assert_eq!(read(&mut driver, 8, 512).status, OK);
    }
}

#[test]
fn a_flush_that_was_not_offered_does_no_harm() {
    let image = image(SIZE);
    let config = Config {
        cache: Cache::Unsafe,
        ..config(Engine::Sync)
    };
    let mut driver = Driver::new(built(config, reopen(&image)));
    driver.negotiate(u64::MAX);
    assert_eq!(send(&mut driver, FLUSH, 0, &[], 0).status, OK);
}

#[test]
fn a_driver_that_cannot_flush_may_write_all_the_same() {
    for engine in engines() {
        let image = image(SIZE);
        let mut driver = Driver::new(built(config(engine), reopen(&image)));
        driver.negotiate(0);
        assert_eq!(write(&mut driver, 2, &[0xbb; 1024]).status, OK);
        assert_eq!(contents(&image)[1024..2048], [0xbb; 1024]);
    }
}

#[test]
fn only_files_and_block_devices_are_disks() {
    let null = File::open("/dev/null").unwrap();
    let error = Block::new(&config(Engine::Sync), null).unwrap_err();
    assert!(matches!(error, Error::Kind(_)), "{error}");
}

#[test]
fn a_writable_disk_needs_a_writable_file() {
    let image = image(SIZE);
    let file = File::open(image.path()).unwrap();
    let error = Block::new(&config(Engine::Sync), file).unwrap_err();
    assert!(matches!(error, Error::NotWritable(_)), "{error}");
}

#[test]
fn a_serial_number_that_does_not_fit_is_refused() {
    let image = image(SIZE);
    for serial in ["twenty-one characters", "tab\t", "é"] {
        let config = Config {
            serial: Some(serial.into()),
            ..config(Engine::Sync)
        };
        let error = Block::new(&config, reopen(&image)).unwrap_err();
        assert!(matches!(error, Error::Serial { .. }), "{error}");
    }
}
