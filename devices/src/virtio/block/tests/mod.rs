//! A disk as its driver sees it, with both engines.

mod changes;
mod figures;
mod load;
mod refusals;
mod requests;

use std::fs::File;

use tempfile::NamedTempFile;
use vm_memory::{Bytes, GuestAddress};

use crate::catalog::Spec;
use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::virtio::Core;
use crate::virtio::block::disk::Disk;
use crate::virtio::block::{Config, Engine, engine};
use crate::virtio::driver::{Buffer, DATA, Driver};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// What stands where a status is expected until the device has written it.
const NO_STATUS: u8 = 0xee;

const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 0x800;
const PAYLOAD: u64 = DATA + 0x1000;

/// 1 MiB.
const SIZE: u64 = 1 << 20;

/// The engines that this host has.
fn engines() -> Vec<Engine> {
    let mut engines = vec![Engine::Sync];
    if Disk::new(image(512).into_file(), "", [0; 20], true)
        .unwrap()
        .lives_in_memory()
    {
        eprintln!("SKIPPED: the io_uring engine, which does not serve temporary files in memory");
        return engines;
    }
    match engine::Engine::new(Engine::Uring) {
        Ok(_) => engines.push(Engine::Uring),
        Err(error) => eprintln!("SKIPPED: the io_uring engine, which this host lacks: {error}"),
    }
    engines
}

fn config(engine: Engine) -> Config {
    Config {
        id: "rootfs".into(),
        serial: Some("SN-0001".into()),
        read_only: false,
        cache: super::Cache::Writeback,
        engine,
        limiter: crate::limiter::RateLimiter::default(),
    }
}

/// An image of `size` bytes, each sector filled with its number.
fn image(size: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..size).map(|at| (at / 512).to_le_bytes()[0]).collect();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn reopen(image: &NamedTempFile) -> File {
    image.reopen().unwrap()
}

fn built(config: Config, file: File) -> impl FnOnce(GuestRam, IoHandle, Interrupt) -> Core {
    move |ram, io, interrupt| Spec::Block(config, file).build(ram, io, interrupt).unwrap()
}

/// A disk in use over a fresh image.
fn disk(engine: Engine) -> (Driver, NamedTempFile) {
    let image = image(SIZE);
    let mut driver = Driver::new(built(config(engine), reopen(&image)));
    driver.negotiate(u64::MAX);
    (driver, image)
}

/// What came back for a request.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u8,
    data: Vec<u8>,
    used: u32,
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0xa5; 4]);
    header.extend(sector.to_le_bytes());
    header
}

/// Sends a request as Linux does: header, data and status in buffers of their own.
fn send(driver: &mut Driver, kind: u32, sector: u64, out: &[u8], room: u32) -> Answer {
    let ram = driver.ram.clone();
    ram.write_slice(&header(kind, sector), GuestAddress(HEADER))
        .unwrap();
    ram.write_slice(out, GuestAddress(PAYLOAD)).unwrap();
    ram.write_obj(NO_STATUS, GuestAddress(STATUS)).unwrap();
    let mut buffers = vec![Buffer::Readable(HEADER, 16)];
    if !out.is_empty() {
        let len = u32::try_from(out.len()).unwrap();
        buffers.push(Buffer::Readable(PAYLOAD, len));
    }
    if room > 0 {
        buffers.push(Buffer::Writable(PAYLOAD, room));
    }
    buffers.push(Buffer::Writable(STATUS, 1));
    let used = driver.request(0, &buffers);
    let mut data = vec![0; usize::try_from(room).unwrap()];
    ram.read_slice(&mut data, GuestAddress(PAYLOAD)).unwrap();
    let status = ram.read_obj(GuestAddress(STATUS)).unwrap();
    Answer { status, data, used }
}

fn read(driver: &mut Driver, sector: u64, len: u32) -> Answer {
    send(driver, IN, sector, &[], len)
}

fn write(driver: &mut Driver, sector: u64, data: &[u8]) -> Answer {
    send(driver, OUT, sector, data, 0)
}

/// The range of a discard or write-zeroes.
fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut range = sector.to_le_bytes().to_vec();
    range.extend(sectors.to_le_bytes());
    range.extend(flags.to_le_bytes());
    range
}

fn contents(image: &NamedTempFile) -> Vec<u8> {
    std::fs::read(image.path()).unwrap()
}

fn capacity(driver: &mut Driver) -> u64 {
    u64::from(driver.read(0x100)) | u64::from(driver.read(0x104)) << 32
}
