use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};

use super::*;
use crate::virtio::block::Cache;
use crate::virtio::contract::Contract;

fn exchange(driver: &mut Driver) {
    let pattern: Vec<u8> = (0..4096u32).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
    assert_eq!(write(driver, 100, &pattern).status, OK);
    let answer = read(driver, 100, 4096);
    assert_eq!((answer.status, answer.used), (OK, 4097));
    assert_eq!(answer.data, pattern);
    assert_eq!(send(driver, FLUSH, 0, &[], 0).status, OK);
}

#[test]
fn the_contract_holds() {
    for engine in engines() {
        let image = image(SIZE);
        let build = |ram, io, interrupt| built(config(engine), reopen(&image))(ram, io, interrupt);
        let contract = Contract {
            build: &build,
            exchange: &exchange,
        };
        contract.holds();
    }
}

#[test]
fn a_hostile_driver_gets_nothing_out_of_it() {
    for engine in engines() {
        let image = image(SIZE);
        let build = |ram, io, interrupt| built(config(engine), reopen(&image))(ram, io, interrupt);
        let contract = Contract {
            build: &build,
            exchange: &exchange,
        };
        contract.survives(0, 5000, &|_| {});
    }
}

#[test]
fn a_read_gives_the_sectors_asked_for() {
    for engine in engines() {
        let (mut driver, _image) = disk(engine);
        let answer = read(&mut driver, 7, 1024);
        assert_eq!((answer.status, answer.used), (OK, 1025));
        assert_eq!(answer.data[..512], [7; 512]);
        assert_eq!(answer.data[512..], [8; 512]);
    }
}

#[test]
fn a_write_reaches_the_file_where_it_should() {
    for engine in engines() {
        let (mut driver, image) = disk(engine);
        let answer = write(&mut driver, 3, &[0xcc; 512]);
        assert_eq!((answer.status, answer.used), (OK, 1));
        let bytes = contents(&image);
        assert_eq!(bytes[2 * 512..3 * 512], [2; 512]);
        assert_eq!(bytes[3 * 512..4 * 512], [0xcc; 512]);
        assert_eq!(bytes[4 * 512..5 * 512], [4; 512]);
    }
}

#[test]
fn a_request_may_be_spread_over_buffers_in_any_way() {
    for engine in engines() {
        let (mut driver, _image) = disk(engine);
        let ram = driver.ram.clone();
        let mut all = header(OUT, 20);
        all.extend([0x77; 512]);
        ram.write_slice(&all, GuestAddress(HEADER)).unwrap();
        let used = driver.request(
            0,
            &[
                Buffer::Readable(HEADER, 5),
                Buffer::Readable(HEADER + 5, 100),
                Buffer::Readable(HEADER + 105, 528 - 105),
                Buffer::Writable(STATUS, 1),
            ],
        );
        assert_eq!(used, 1);
        ram.write_slice(&header(IN, 20), GuestAddress(HEADER))
            .unwrap();
        // Data and status in one buffer.
        let used = driver.request(
            0,
            &[
                Buffer::Readable(HEADER, 16),
                Buffer::Writable(PAYLOAD, 100),
                Buffer::Writable(PAYLOAD + 100, 413),
            ],
        );
        assert_eq!(used, 513);
        let mut data = [0; 513];
        ram.read_slice(&mut data, GuestAddress(PAYLOAD)).unwrap();
        assert_eq!(data[..512], [0x77; 512]);
        assert_eq!(data[512], OK);
    }
}

#[test]
fn the_serial_number_is_given_padded_with_zeros() {
    let (mut driver, _image) = disk(Engine::Sync);
    let answer = send(&mut driver, GET_ID, 0, &[], 20);
    assert_eq!((answer.status, answer.used), (OK, 21));
    assert_eq!(answer.data, b"SN-0001\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_disk_without_a_serial_number_shows_its_id() {
    let image = image(SIZE);
    let config = Config {
        serial: None,
        id: "a-name-of-more-than-twenty-bytes".into(),
        ..config(Engine::Sync)
    };
    let mut driver = Driver::new(built(config, reopen(&image)));
    driver.negotiate(u64::MAX);
    let answer = send(&mut driver, GET_ID, 0, &[], 20);
    assert_eq!(answer.data, b"a-name-of-more-than-");
}

#[test]
fn what_is_discarded_reads_as_zeros() {
    for engine in engines() {
        let (mut driver, image) = disk(engine);
        let answer = send(&mut driver, DISCARD, 0, &range(16, 8, 0), 0);
        assert_eq!((answer.status, answer.used), (OK, 1));
        let bytes = contents(&image);
        assert_eq!(bytes[16 * 512..24 * 512], [0; 8 * 512]);
        assert_eq!(bytes[15 * 512], 15);
        assert_eq!(bytes[24 * 512], 24);
        assert_eq!(u64::try_from(bytes.len()).unwrap(), SIZE);
    }
}

#[test]
fn zeroes_are_zeroes_with_and_without_unmap() {
    for (engine, flags) in engines().into_iter().flat_map(|e| [(e, 0), (e, 1)]) {
        let (mut driver, image) = disk(engine);
        let answer = send(&mut driver, WRITE_ZEROES, 0, &range(5, 300, flags), 0);
        assert_eq!(answer.status, OK);
        let bytes = contents(&image);
        assert!(bytes[5 * 512..305 * 512].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[4 * 512 + 511], 4);
        assert_eq!(bytes[305 * 512], (305u64).to_le_bytes()[0]);
    }
}

#[test]
fn zeroes_are_written_where_the_file_system_has_no_better_way() {
    for engine in engines() {
        // A file in memory can punch holes and cannot zero a range that keeps its blocks.
        let memory = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let memory = File::from(memory);
        let look = memory.try_clone().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&look, &[9; 1 << 20], 0).unwrap();
        let mut driver = Driver::new(built(config(engine), memory));
        driver.negotiate(u64::MAX);
        for _ in 0..2 {
            let answer = send(&mut driver, WRITE_ZEROES, 0, &range(1, 600, 0), 0);
            assert_eq!(answer.status, OK);
        }
        let mut bytes = vec![1; 1 << 20];
        std::os::unix::fs::FileExt::read_exact_at(&look, &mut bytes, 0).unwrap();
        assert_eq!(bytes[511], 9);
        assert!(bytes[512..601 * 512].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[601 * 512], 9);
    }
}

#[test]
fn nothing_to_do_is_done() {
    for engine in engines() {
        let (mut driver, _image) = disk(engine);
        assert_eq!(write(&mut driver, 0, &[]).status, OK);
        assert_eq!(read(&mut driver, SIZE / 512, 0).status, OK);
        assert_eq!(send(&mut driver, DISCARD, 0, &range(0, 0, 0), 0).status, OK);
    }
}

#[test]
fn a_queue_full_of_requests_comes_back_whole() {
    for engine in engines() {
        let (mut driver, _image) = disk(engine);
        let ram = driver.ram.clone();
        for place in 0..85 {
            let at = DATA + place * 0x1000;
            ram.write_slice(&header(IN, place), GuestAddress(at))
                .unwrap();
            driver.queue_chain(
                0,
                &[
                    Buffer::Readable(at, 16),
                    Buffer::Writable(at + 16, 512),
                    Buffer::Writable(at + 528, 1),
                ],
            );
        }
        driver.kick(0);
        for _ in 0..85 {
            assert_eq!(driver.wait_used(0).1, 513);
        }
        for place in 0..85u64 {
            let mut data = [0; 513];
            let at = GuestAddress(DATA + place * 0x1000 + 16);
            ram.read_slice(&mut data, at).unwrap();
            assert_eq!(data[..512], [place.to_le_bytes()[0]; 512]);
            assert_eq!(data[512], OK);
        }
    }
}

#[test]
fn the_features_are_those_of_the_config() {
    let has = |driver: &mut Driver, bit: u32| driver.offered() & (1 << bit) != 0;
    let always = [
        VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_BLK_SIZE,
        VIRTIO_BLK_F_TOPOLOGY,
    ];
    let image = image(SIZE);
    for (read_only, cache) in [
        (false, Cache::Writeback),
        (true, Cache::Writeback),
        (false, Cache::Unsafe),
    ] {
        let config = Config {
            read_only,
            cache,
            ..config(Engine::Sync)
        };
        let mut driver = Driver::new(built(config, reopen(&image)));
        assert!(always.iter().all(|bit| has(&mut driver, *bit)));
        assert_eq!(has(&mut driver, VIRTIO_BLK_F_RO), read_only);
        assert_eq!(has(&mut driver, VIRTIO_BLK_F_DISCARD), !read_only);
        assert_eq!(has(&mut driver, VIRTIO_BLK_F_WRITE_ZEROES), !read_only);
        assert_eq!(
            has(&mut driver, VIRTIO_BLK_F_FLUSH),
            cache == Cache::Writeback
        );
    }
}

#[test]
fn the_config_space_is_as_the_standard_lays_it_out() {
    let (mut driver, _image) = disk(Engine::Sync);
    assert_eq!(capacity(&mut driver), SIZE / 512);
    assert_eq!(driver.read(0x10c), 254, "seg_max");
    assert_eq!(driver.read(0x114), 512, "blk_size");
    assert_eq!(
        driver.read(0x118),
        3 | 8 << 16,
        "physical block, min_io_size"
    );
    assert_eq!(driver.read(0x124), 4 << 20, "max_discard_sectors");
    assert_eq!(driver.read(0x128), 1, "max_discard_seg");
    assert_eq!(driver.read(0x12c), 8, "discard_sector_alignment");
    assert_eq!(driver.read(0x130), 64 << 10, "max_write_zeroes_sectors");
    assert_eq!(driver.read(0x134), 1, "max_write_zeroes_seg");
    assert_eq!(driver.read(0x138), 1, "write_zeroes_may_unmap");
    assert_eq!(driver.read(0x13c), 0, "nothing after it");
}
