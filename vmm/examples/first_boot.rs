//! The smallest machine that boots Linux: a serial port, a reset line, a clock and the power registers.
//!
//! `first_boot KERNEL [--initrd FILE] [--protocol auto|linux64|pvh] [--mem MIB] [--cpus N] [--append TEXT]
//! [--button-at TEXT] [--keys-at TEXT]` writes the guest's console to standard output and says how the guest
//! ended; when the console says the text of `--button-at`, the power button is pressed, and at that of
//! `--keys-at` Ctrl-Alt-Del.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use devices::acpi::power::{self, Power};
use devices::bus::{Bus, BusDevice, Range};
use devices::host::{End, EndSignal};
use devices::legacy::cmos::{self, Cmos};
use devices::legacy::console::Output;
use devices::legacy::i8042::{self, I8042};
use devices::legacy::serial::{self, Serial};
use vmm::arch::x86_64::{VcpuCount, layout, reset_by_panic};
use vmm::boot::{BootProtocol, CommandLine, ImageFile, Source};
use vmm::end::{EndReporter, Ends, GuestEnd, ends};
use vmm::kvm::{Kvm, Vm};
use vmm::machine::{Buses, Chassis, ChassisPlan};
use vmm::memory::{HugePages, MemorySize};
use vmm::spec::CpuFeatures;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("first_boot: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    source: Source,
    memory: MemorySize,
    vcpus: VcpuCount,
    button_at: Option<String>,
    keys_at: Option<String>,
}

fn arguments() -> Result<Arguments, Failure> {
    let mut words = std::env::args().skip(1);
    let kernel = words.next().ok_or("which kernel?")?;
    let mut parsed = Arguments {
        source: Source {
            kernel: ImageFile::open(Path::new(&kernel))?,
            initrd: None,
            command_line: CommandLine::default(),
            protocol: BootProtocol::Auto,
        },
        memory: MemorySize::on_this_host(512)?,
        vcpus: VcpuCount::new(1)?,
        button_at: None,
        keys_at: None,
    };
    while let Some(flag) = words.next() {
        let value = words.next().ok_or("a flag wants a value")?;
        match flag.as_str() {
            "--initrd" => parsed.source.initrd = Some(ImageFile::open(Path::new(&value))?),
            "--append" => parsed.source.command_line.append(&value)?,
            "--mem" => parsed.memory = MemorySize::on_this_host(value.parse()?)?,
            "--cpus" => parsed.vcpus = VcpuCount::new(value.parse()?)?,
            "--button-at" => parsed.button_at = Some(value),
            "--keys-at" => parsed.keys_at = Some(value),
            "--protocol" => {
                parsed.source.protocol = match value.as_str() {
                    "auto" => BootProtocol::Auto,
                    "linux64" => BootProtocol::Linux64,
                    "pvh" => BootProtocol::Pvh,
                    _ => return Err("the protocols are auto, linux64 and pvh".into()),
                };
            }
            _ => return Err(format!("what is {flag}?").into()),
        }
    }
    Ok(parsed)
}

fn run() -> Result<(), Failure> {
    let begun = Instant::now();
    let Arguments {
        source,
        memory,
        vcpus,
        button_at,
        keys_at,
    } = arguments()?;
    let plan = ChassisPlan {
        memory,
        huge_pages: HugePages::HostDefault,
        vcpus,
        vcpu_name: "vcpu",
        smt: false,
        features: CpuFeatures::Host,
        track_dirty_pages: false,
        interval_timer: source.command_line.turns_acpi_off(),
    };
    let chassis = Chassis::build(&Kvm::open()?, &plan)?;
    let (reporter, ends) = ends()?;
    let output = Output::new()?;
    let (buses, button, keys) = buses(chassis.vm(), &reporter, &output)?;
    let guest = chassis.assemble(
        &buses,
        &reporter,
        source,
        &[],
        &vmm::sandbox::Confinement::default(),
        || {},
    )?;
    eprintln!("first_boot: ready after {:?}", begun.elapsed());
    guest.resume()?;
    let mut console = Console {
        output,
        said: Vec::new(),
        presses: [(button_at, button), (keys_at, keys)]
            .into_iter()
            .filter_map(|(text, press)| Some((text?.into_bytes(), press)))
            .collect(),
    };
    let end = console.show(&ends)?;
    let panicked = reset_by_panic(guest.memory());
    drop(guest);
    console.print()?;
    if end == GuestEnd::Reset && panicked {
        eprintln!("first_boot: the guest panicked");
    } else {
        eprintln!("first_boot: {end}");
    }
    Ok(())
}

type Press = Box<dyn Fn()>;

/// What the guest says, and what waits for a word of it to be pressed.
struct Console {
    output: Output,
    said: Vec<u8>,
    presses: Vec<(Vec<u8>, Press)>,
}

impl Console {
    /// Writes what the guest says until it ends.
    fn show(&mut self, ends: &Ends) -> Result<GuestEnd, Failure> {
        let epoll = Epoll::new()?;
        for event in [self.output.ready(), ends.event()] {
            let interest = EpollEvent::new(EventSet::IN, 0);
            epoll.ctl(ControlOperation::Add, event.as_raw_fd(), interest)?;
        }
        loop {
            epoll.wait(-1, &mut [EpollEvent::default()])?;
            self.print()?;
            if let Some(end) = ends.take() {
                return Ok(end);
            }
        }
    }

    fn print(&mut self) -> io::Result<()> {
        let bytes = self.output.take(usize::MAX);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()?;
        self.said.extend(bytes);
        self.presses.retain(|(text, press)| {
            let mut windows = self.said.windows(text.len());
            let said = windows.any(|window| window == text);
            if said {
                press();
            }
            !said
        });
        Ok(())
    }
}

fn buses(
    vm: &Vm,
    reporter: &EndReporter,
    output: &Output,
) -> Result<(Buses, Press, Press), Failure> {
    let ports = Bus::new();
    let reporter = reporter.clone();
    let signal = EndSignal::new(move |end| {
        reporter.report(match end {
            End::Reset => GuestEnd::Reset,
            End::PowerOff => GuestEnd::PowerOff,
        });
    });
    let line = |gsi| -> Result<EventFd, Failure> {
        let event = EventFd::new(0)?;
        vm.register_interrupt(&event, gsi)?;
        Ok(event)
    };
    let add = |range: Range, device: Arc<Mutex<dyn BusDevice>>| ports.insert(range, device);
    let serial = Serial::new(line(layout::SERIAL_GSI)?, output.clone(), None)?;
    add(serial::PORTS, Arc::new(Mutex::new(serial)))?;
    let keyboard = I8042::new(signal.clone(), line(layout::KEYBOARD_GSI)?);
    let keyboard = Arc::new(Mutex::new(keyboard));
    add(i8042::PORTS, keyboard.clone())?;
    add(cmos::PORTS, Arc::new(Mutex::new(Cmos::default())))?;
    let power = Power::new(signal, line(layout::EVENT_GSI)?, output.clone());
    let power = Arc::new(Mutex::new(power));
    add(power::PORTS, power.clone())?;
    let buses = Buses {
        ports: Arc::new(ports),
        memory: Arc::new(Bus::new()),
    };
    let button = move || lock(&power).press_button();
    let keys = move || {
        let heard = lock(&keyboard).press_ctrl_alt_del();
        eprintln!("first_boot: Ctrl-Alt-Del; the guest listens: {heard}");
    };
    Ok((buses, Box::new(button), Box::new(keys)))
}

fn lock<T>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}
