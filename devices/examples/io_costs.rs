//! What an io thread costs, without a guest: an event through a boxed worker against bare epoll, a
//! disk's stop under load, and a disk's requests.
//!
//! ```text
//! cargo run --release -p devices --example io_costs [DIRECTORY]
//! ```
//!
//! The disk lies in DIRECTORY (default: `/dev/shm`). Figures are for comparison on one machine; run it
//! when nothing else runs.

use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use devices::bus::BusDevice;
use devices::catalog::Spec;
use devices::host::{GuestRam, Interrupt};
use devices::io_thread::IoThread;
use devices::limiter::RateLimiter;
use devices::virtio::Worker;
use devices::virtio::block::{Cache, Config, Engine};
use devices::virtio::mmio::Mmio;
use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SECTOR: u64 = 512;
const DISK: u64 = 256 << 20;
const QUEUE: u16 = 256;
const TABLE: u64 = 0x1_0000;
const AVAIL: u64 = 0x1_4000;
const USED: u64 = 0x1_8000;
const HEADERS: u64 = 0x2_0000;
const DATA: u64 = 0x10_0000;

fn main() -> Outcome<()> {
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    event_costs()?;
    let file = Image::make(&directory)?;
    for engine in [Engine::Sync, Engine::Uring] {
        stop_costs(&file, engine)?;
    }
    for engine in [Engine::Sync, Engine::Uring] {
        for (kind, depth, len) in [
            (Kind::Read, 1, 4096),
            (Kind::Read, 32, 4096),
            (Kind::Write, 32, 4096),
            (Kind::Read, 8, 128 * 1024),
        ] {
            request_costs(&file, engine, kind, depth, len)?;
        }
    }
    Ok(())
}

/// Answers each kick at once.
struct Echo {
    kick: EventFd,
    answer: EventFd,
}

impl MutEventSubscriber for Echo {
    fn init(&mut self, events: &mut EventOps<'_>) {
        if let Err(error) = events.add(Events::new(&self.kick, EventSet::IN)) {
            eprintln!("cannot watch an eventfd: {error}");
        }
    }

    fn process(&mut self, _event: Events, _events: &mut EventOps<'_>) {
        let _ = self.kick.read();
        let _ = self.answer.write(1);
    }
}

impl Worker for Echo {}

/// Kick, dispatch, answer: once on one thread, where only the dispatch differs, and once across threads,
/// as a guest's kick is.
fn event_costs() -> Outcome<()> {
    const EVENTS: u32 = 200_000;
    let (kick, answer) = (EventFd::new(0)?, EventFd::new(0)?);
    let mut boxed = EventManager::<Box<dyn Worker>>::new()?;
    boxed.add_subscriber(Box::new(Echo {
        kick: kick.try_clone()?,
        answer: answer.try_clone()?,
    }));
    let start = Instant::now();
    for _ in 0..EVENTS {
        kick.write(1)?;
        boxed.run()?;
        answer.read()?;
    }
    let by_manager = start.elapsed() / EVENTS;

    let epoll = Epoll::new()?;
    let event = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, raw(&kick), event)?;
    let mut ready = [EpollEvent::default(); 32];
    let start = Instant::now();
    for _ in 0..EVENTS {
        kick.write(1)?;
        black_box(epoll.wait(-1, &mut ready)?);
        kick.read()?;
        answer.write(1)?;
        answer.read()?;
    }
    let bare = start.elapsed() / EVENTS;
    println!("event on one thread: {by_manager:?} boxed worker, {bare:?} bare epoll");

    let thread = IoThread::start("echo")?;
    let echo = Echo {
        kick: kick.try_clone()?,
        answer: answer.try_clone()?,
    };
    let attached = thread.handle().attach(Box::new(echo));
    let crossing = |name: &str| -> Outcome<()> {
        let start = Instant::now();
        for _ in 0..EVENTS {
            kick.write(1)?;
            answer.read()?;
        }
        println!(
            "event across threads: {:?} {name}",
            start.elapsed() / EVENTS
        );
        Ok(())
    };
    crossing("boxed worker")?;
    if let Some(attached) = attached {
        thread.handle().detach(attached);
    }
    std::thread::scope(|scope| -> Outcome<()> {
        scope.spawn(|| bare_echo(&kick, &answer, EVENTS));
        crossing("bare epoll")
    })
}

fn bare_echo(kick: &EventFd, answer: &EventFd, events: u32) -> std::io::Result<()> {
    let epoll = Epoll::new()?;
    let event = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, raw(kick), event)?;
    let mut ready = [EpollEvent::default(); 32];
    for _ in 0..events {
        epoll.wait(-1, &mut ready)?;
        kick.read()?;
        answer.write(1)?;
    }
    Ok(())
}

fn raw(fd: &impl std::os::fd::AsRawFd) -> i32 {
    fd.as_raw_fd()
}

/// Stops and starts a disk while 64 writes of 16 KiB are outstanding.
fn stop_costs(file: &Image, engine: Engine) -> Outcome<()> {
    const ROUNDS: u32 = 500;
    const DEPTH: u16 = 64;
    let mut guest = Guest::over(file, engine)?;
    let (mut stops, mut starts, mut left) = (Vec::new(), Vec::new(), 0u32);
    let fds = std::fs::read_dir("/proc/self/fd")?.count();
    for _ in 0..ROUNDS {
        for slot in 0..DEPTH {
            guest.send(Kind::Write, slot, u64::from(slot) * 32, 16 * 1024)?;
        }
        guest.kick();
        let start = Instant::now();
        guest.device.core().pause();
        stops.push(start.elapsed());
        left += u32::from(guest.outstanding()?);
        let start = Instant::now();
        guest.device.core().resume();
        starts.push(start.elapsed());
        while guest.outstanding()? > 0 {
            spin_loop();
        }
    }
    let grown = std::fs::read_dir("/proc/self/fd")?.count() - fds;
    println!(
        "stop under load, {engine:?}: {}; start: {}; {} of {DEPTH} requests not yet taken at the stop, fds grown by {grown}",
        spread(&mut stops),
        spread(&mut starts),
        left / ROUNDS
    );
    Ok(())
}

/// Requests at random places, `depth` of them outstanding.
fn request_costs(file: &Image, engine: Engine, kind: Kind, depth: u16, len: u32) -> Outcome<()> {
    const TIME: Duration = Duration::from_millis(500);
    let mut guest = Guest::over(file, engine)?;
    let mut place = 1u64;
    let mut next = || {
        place = place
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (place >> 33) % (DISK / u64::from(len)) * u64::from(len) / SECTOR
    };
    let mut rates = Vec::new();
    for _ in 0..9 {
        let (start, mut done) = (Instant::now(), 0u32);
        let mut slot = 0;
        while start.elapsed() < TIME {
            let room = depth - guest.outstanding()?;
            for _ in 0..room {
                guest.send(kind, slot, next(), len)?;
                slot = (slot + 1) % depth;
            }
            if room > 0 {
                done += u32::from(room);
                guest.kick_if_wanted()?;
            }
            spin_loop();
        }
        rates.push(f64::from(done) / start.elapsed().as_secs_f64());
        while guest.outstanding()? > 0 {
            spin_loop();
        }
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{engine:?} {kind:?} {len} bytes, depth {depth}: {:.0} / {:.0} / {:.0} a second, {:.2} GB/s",
        rates[0],
        rates[rates.len() / 2],
        rates[rates.len() - 1],
        rates[rates.len() / 2] * f64::from(len) / 1e9
    );
    Ok(())
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let (min, median, max) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    format!("{min:?} / {median:?} / {max:?}")
}

/// A disk image without a name: it vanishes however this program ends.
struct Image(File);

impl Image {
    fn make(directory: &Path) -> Outcome<Self> {
        let mut image = tempfile::tempfile_in(directory)?;
        image.write_all(&vec![1; usize::try_from(DISK)?])?;
        Ok(Self(image))
    }

    /// Opened anew, with a lock of its own.
    fn open(&self) -> Outcome<File> {
        let path = format!("/proc/self/fd/{}", raw(&self.0));
        Ok(devices::virtio::block::open(Path::new(&path), false)?)
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read = 0,
    Write = 1,
}

/// A driver that polls the used ring, in the place of a guest.
struct Guest {
    ram: GuestRam,
    device: Mmio,
    sent: u16,
    _io: IoThread,
}

impl Guest {
    fn over(image: &Image, engine: Engine) -> Outcome<Self> {
        let io = IoThread::start("io")?;
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 << 20)])?;
        let file = image.open()?;
        let config = Config {
            id: "disk".into(),
            serial: None,
            read_only: false,
            cache: Cache::Unsafe,
            engine,
            limiter: RateLimiter::default(),
        };
        let interrupt = Interrupt::new(EventFd::new(libc::EFD_NONBLOCK)?);
        let core = Spec::Block(config, file).build(ram.clone(), io.handle(), interrupt)?;
        let mut guest = Self {
            ram,
            device: Mmio::new(core),
            sent: 0,
            _io: io,
        };
        guest.negotiate()?;
        Ok(guest)
    }

    fn negotiate(&mut self) -> Outcome<()> {
        for (register, value) in [
            (0x70, 1),
            (0x70, 3),
            (0x24, 1),
            (0x20, 1),
            (0x70, 11),
            (0x38, QUEUE.into()),
            (0x80, u32::try_from(TABLE)?),
            (0x90, u32::try_from(AVAIL)?),
            (0xa0, u32::try_from(USED)?),
            (0x44, 1),
            (0x70, 15),
        ] {
            self.device.write(register, &u32::to_le_bytes(value));
        }
        // No interrupts: this driver polls.
        Ok(self.ram.write_obj(1u16, GuestAddress(AVAIL))?)
    }

    /// Puts a request into the queue; `slot` names its buffers.
    fn send(&mut self, kind: Kind, slot: u16, sector: u64, len: u32) -> Outcome<()> {
        let header_at = HEADERS + u64::from(slot) * 32;
        let data_at = DATA + u64::from(slot) * u64::from(len);
        let data_flags = match kind {
            Kind::Read => 3,
            Kind::Write => 1,
        };
        let mut header = [0; 16];
        header[0] = kind as u8;
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.ram.write_slice(&header, GuestAddress(header_at))?;
        let first = slot * 3;
        let buffers = [
            (header_at, 16, 1),
            (data_at, len, data_flags),
            (header_at + 16, 1, 2),
        ];
        for (index, (address, len, flags)) in (first..).zip(buffers) {
            let mut entry = [0; 16];
            entry[..8].copy_from_slice(&address.to_le_bytes());
            entry[8..12].copy_from_slice(&u32::to_le_bytes(len));
            entry[12..14].copy_from_slice(&u16::to_le_bytes(flags));
            entry[14..].copy_from_slice(&(index + 1).to_le_bytes());
            let at = TABLE + 16 * u64::from(index);
            self.ram.write_slice(&entry, GuestAddress(at))?;
        }
        let ring_at = AVAIL + 4 + 2 * u64::from(self.sent % QUEUE);
        self.ram.write_obj(first, GuestAddress(ring_at))?;
        self.sent = self.sent.wrapping_add(1);
        self.ram
            .store(self.sent, GuestAddress(AVAIL + 2), Ordering::Release)?;
        Ok(())
    }

    fn kick(&mut self) {
        self.device.write(0x50, &[0; 4]);
    }

    /// Kicks unless the device asked for silence.
    fn kick_if_wanted(&mut self) -> Outcome<()> {
        fence(Ordering::SeqCst);
        let flags: u16 = self.ram.load(GuestAddress(USED), Ordering::Relaxed)?;
        if flags & 1 == 0 {
            self.kick();
        }
        Ok(())
    }

    fn outstanding(&self) -> Outcome<u16> {
        let used: u16 = self.ram.load(GuestAddress(USED + 2), Ordering::Acquire)?;
        Ok(self.sent.wrapping_sub(used))
    }
}
