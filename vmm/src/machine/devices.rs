//! The devices of a machine: opened, built, and put on its buses.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::acpi::power::{self, Power};
use devices::bus::{Bus, BusDevice, Overlap, Range};
use devices::catalog::{self, Needs, Update};
use devices::host::{End, EndSignal, Interrupt};
use devices::io_thread::{self, IoThread};
use devices::legacy::boot_timer::{self, BootTimer};
use devices::legacy::cmos::{self, Cmos};
use devices::legacy::console::Output;
use devices::legacy::i8042::{self, I8042};
use devices::legacy::serial::{self, Serial};
use devices::mmds::Mmds;
use devices::virtio::mmio::{self, Mmio};
use devices::virtio::net::MacAddr;
use devices::virtio::{rng, vsock};
use vm_memory::Address;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::places::{self, Places};
use super::{Buses, Chassis};
use crate::arch::x86_64::layout;
use crate::boot::MmioSlot;
use crate::command::UpdateError;
use crate::end::{EndReporter, GuestEnd};
use crate::event::borrow;
use crate::kvm::{Doorbell, Vm, VmError};
use crate::metrics::{Kind, Metrics};
use crate::open::{OpenError, Opened, Parcels};
use crate::sandbox::{Confinement, Role, SandboxError};
use crate::spec::{Spec, TokenBucket};

/// Why the devices could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// One device.
    #[error("the device `{id}` could not be built: {source}")]
    Build {
        /// Which one.
        id: String,
        /// Why.
        source: catalog::BuildError,
    },
    /// The thread for their work.
    #[error(transparent)]
    IoThread(#[from] io_thread::Error),
    /// A call on the VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// Two devices at one address.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// More virtio devices than places.
    #[error(transparent)]
    Full(#[from] places::Full),
    /// The kernel grants no eventfd.
    #[error("cannot make an eventfd: {0}")]
    EventFd(#[from] io::Error),
}

/// What was opened for a virtio device, under the device's id.
#[derive(Debug)]
pub struct Backend {
    id: String,
    spec: catalog::Spec,
}

/// How the devices are that every machine has, and those that are no virtio devices.
#[derive(Debug, Default)]
pub struct Fixtures {
    /// How much the guest may say on its console, in bytes; more is dropped.
    pub console_limit: Option<TokenBucket>,
    /// A timer for the guest's init to stop.
    pub boot_timer: Option<BootTimer>,
}

/// The devices of a machine, at work.
#[derive(Debug)]
pub struct Devices {
    ports: Arc<Bus>,
    memory: Arc<Bus>,
    virtio: Vec<Slot>,
    power: Arc<Mutex<Power>>,
    keyboard: Arc<Mutex<I8042>>,
    console: Console,
    // Dropped last: the workers go with their thread.
    io: IoThread,
}

/// A virtio device in its slot.
#[derive(Debug)]
struct Slot {
    id: String,
    place: MmioSlot,
    device: Arc<Mutex<Mmio>>,
    /// Whether it has failed since somebody asked.
    failed: Arc<AtomicBool>,
}

/// The guest's serial port, from the user's side.
#[derive(Debug)]
pub struct Console {
    output: Output,
    serial: Arc<Mutex<Serial>>,
    input_room: Arc<EventFd>,
}

impl Console {
    /// What the guest says.
    pub fn output(&self) -> Output {
        self.output.clone()
    }

    /// Readable when the guest has said something.
    pub fn output_ready(&self) -> BorrowedFd<'_> {
        borrow(self.output.ready())
    }

    /// Offers input to the guest; how many bytes of it were taken.
    pub fn input(&self, bytes: &[u8]) -> usize {
        lock(&self.serial).input(bytes)
    }

    /// Readable when the guest has read all its input.
    pub fn input_room(&self) -> BorrowedFd<'_> {
        borrow(&self.input_room)
    }
}

impl Devices {
    /// What the devices of `spec` need, in the order of their slots: what is open already, and the rest
    /// opened now.
    ///
    /// # Errors
    /// The first that cannot be opened.
    pub(crate) fn backends(
        spec: &Spec,
        opened: &mut Opened,
        parcels: &mut Parcels,
        mmds: &Mmds,
    ) -> Result<Vec<Backend>, OpenError> {
        let mut backends = Vec::new();
        for drive in spec.drives_in_order() {
            let file = opened.disk(drive, parcels)?;
            let access = if drive.is_read_only {
                ", read-only"
            } else {
                ""
            };
            log::info!("disk `{}`: {}{access}", drive.drive_id, drive.path_on_host);
            backends.push(Backend {
                id: drive.drive_id.clone(),
                spec: catalog::Spec::Block(drive.config(), file),
            });
        }
        for interface in &spec.network_interfaces {
            let mut config = interface.clone();
            let tap = opened.tap(interface, parcels)?;
            log::info!(
                "network card `{}`: tap {}",
                config.iface_id,
                config.host_dev_name
            );
            // The same address at every start, so that the guest knows its card again.
            let own = || MacAddr::for_guest("", &interface.host_dev_name);
            config.guest_mac = Some(config.guest_mac.unwrap_or_else(own));
            let service = spec
                .mmds_config
                .iter()
                .find(|it| it.serves(&config.iface_id));
            let attachment = service.map(|service| mmds.attach(service));
            backends.push(Backend {
                id: config.iface_id.clone(),
                spec: catalog::Spec::Net(config, tap, attachment),
            });
        }
        if let Some(entropy) = &spec.entropy {
            let config = rng::Config {
                limiter: entropy.rate_limiter.unwrap_or_default(),
            };
            backends.push(Backend {
                id: "entropy".to_owned(),
                spec: catalog::Spec::Rng(config),
            });
        }
        if let Some(vsock) = &spec.vsock {
            let host = opened.vsock_host(vsock, parcels)?;
            log::info!(
                "vsock: context id {}, socket {}",
                vsock.guest_cid,
                vsock.uds_path
            );
            let config = vsock::Config {
                guest_cid: vsock.guest_cid,
            };
            backends.push(Backend {
                id: "vsock".to_owned(),
                spec: catalog::Spec::Vsock(config, host),
            });
        }
        Ok(backends)
    }

    /// Builds the devices and puts them on the buses of `chassis`.
    ///
    /// # Errors
    /// The first that cannot be built.
    pub fn build(
        chassis: &Chassis,
        backends: Vec<Backend>,
        fixtures: Fixtures,
        ends: &EndReporter,
    ) -> Result<Self, DeviceError> {
        let vm = chassis.vm();
        let io = IoThread::start("io0")?;
        let (ports, memory) = (Arc::new(Bus::new()), Arc::new(Bus::new()));
        let end = end_signal(ends);
        let console = console(vm, &ports, fixtures.console_limit)?;
        if let Some(timer) = fixtures.boot_timer {
            let timer = shared(timer);
            for base in layout::BOOT_TIMERS {
                let len = boot_timer::SIZE;
                insert(&memory, Range { base, len }, timer.clone())?;
            }
        }
        let power = shared(Power::new(
            end.clone(),
            interrupt(vm, layout::EVENT_GSI)?,
            console.output(),
        ));
        insert(&ports, power::PORTS, power.clone())?;
        let keyboard = shared(I8042::new(end, interrupt(vm, layout::KEYBOARD_GSI)?));
        insert(&ports, i8042::PORTS, keyboard.clone())?;
        insert(&ports, cmos::PORTS, shared(Cmos::default()))?;
        let mut places = Places::new();
        let virtio = backends
            .into_iter()
            .map(|backend| virtio_slot(chassis, &io, &memory, ends, backend, places.take()?))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            ports,
            memory,
            virtio,
            power,
            keyboard,
            console,
            io,
        })
    }

    /// What the devices behind these backends will ask of the kernel.
    pub(crate) fn needs(backends: &[Backend]) -> Vec<Needs> {
        let needs = backends.iter().map(|backend| backend.spec.needs());
        needs.collect()
    }

    /// Confines the thread that serves the devices, which then lasts until the process ends.
    ///
    /// # Errors
    /// When it is not confined.
    pub fn confine(&self, confinement: &Confinement) -> Result<(), SandboxError> {
        if !confinement.is_on() {
            return Ok(());
        }
        let confinement = confinement.clone();
        let entered = self.io.settle(move || confinement.enter(Role::Io));
        entered.unwrap_or(Err(SandboxError::Gone(Role::Io)))
    }

    /// Has everything that the devices count told of.
    pub fn count_in(&self, metrics: &mut Metrics) {
        for slot in &self.virtio {
            metrics.add_device(&slot.id, lock(&slot.device).core());
        }
        metrics.add(Kind::Uart, "", lock(&self.console.serial).metrics());
        metrics.add(Kind::I8042, "", lock(&self.keyboard).metrics());
    }

    /// The buses for the vCPUs.
    pub fn buses(&self) -> Buses {
        Buses {
            ports: self.ports.clone(),
            memory: self.memory.clone(),
        }
    }

    /// Where the guest finds the virtio devices.
    pub fn slots(&self) -> Vec<MmioSlot> {
        self.virtio.iter().map(|slot| slot.place).collect()
    }

    /// The serial port, from the user's side.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Presses the power button.
    pub fn press_power_button(&self) {
        lock(&self.power).press_button();
    }

    /// Presses Ctrl-Alt-Del on the guest's keyboard or, when it has no driver for one, its power button.
    pub fn send_ctrl_alt_del(&self) {
        if !lock(&self.keyboard).press_ctrl_alt_del() {
            log::info!("the guest does not listen to its keyboard: its power button was pressed");
            self.press_power_button();
        }
    }

    /// What the guest has left as its exit status.
    pub fn exit_status(&self) -> Option<u8> {
        lock(&self.power).exit_status()
    }

    /// The devices that have failed since the last call.
    pub fn failed(&self) -> Vec<String> {
        let failed = self.virtio.iter();
        failed
            .filter(|slot| slot.failed.swap(false, Ordering::AcqRel))
            .map(|slot| slot.id.clone())
            .collect()
    }

    /// Takes the queues back from the workers, with everything in flight completed.
    pub fn pause(&self) {
        for slot in &self.virtio {
            lock(&slot.device).core().pause();
        }
    }

    /// Lends the queues to the workers again.
    pub fn resume(&self) {
        for slot in &self.virtio {
            lock(&slot.device).core().resume();
        }
    }

    /// Gives the device `id` a new setting.
    ///
    /// # Errors
    /// When there is no such device, or it refuses.
    pub fn update(&self, id: &str, update: Update) -> Result<(), UpdateError> {
        let kind = update.device_type();
        let is_meant =
            |slot: &&Slot| slot.id == id && lock(&slot.device).core().device_type() == kind;
        let slot = self.virtio.iter().find(is_meant);
        let slot = slot.ok_or_else(|| UpdateError::NoDevice(id.to_owned()))?;
        Ok(lock(&slot.device).core().update(update)?)
    }
}

fn end_signal(ends: &EndReporter) -> EndSignal {
    let ends = ends.clone();
    EndSignal::new(move |end| {
        ends.report(match end {
            End::Reset => GuestEnd::Reset,
            End::PowerOff => GuestEnd::PowerOff,
        });
    })
}

fn console(vm: &Vm, ports: &Bus, limit: Option<TokenBucket>) -> Result<Console, DeviceError> {
    let output = Output::new()?;
    let line = interrupt(vm, layout::SERIAL_GSI)?;
    let serial = Serial::new(line, output.clone(), limit)?;
    let input_room = serial.input_room();
    let serial = shared(serial);
    insert(ports, serial::PORTS, serial.clone())?;
    Ok(Console {
        output,
        serial,
        input_room,
    })
}

fn virtio_slot(
    chassis: &Chassis,
    io: &IoThread,
    bus: &Bus,
    ends: &EndReporter,
    backend: Backend,
    place: MmioSlot,
) -> Result<Slot, DeviceError> {
    let Backend { id, spec } = backend;
    log::info!(
        "virtio device `{id}`: registers at {:#x}, interrupt {}",
        place.address.raw_value(),
        place.gsi
    );
    let vm = chassis.vm();
    let failed = Arc::new(AtomicBool::new(false));
    let (flag, listener) = (Arc::clone(&failed), ends.clone());
    let interrupt = Interrupt::with_report(interrupt(vm, place.gsi)?, move || {
        flag.store(true, Ordering::Release);
        listener.wake();
    });
    let core = spec
        .build(chassis.memory().clone(), io.handle(), interrupt)
        .map_err(|source| DeviceError::Build {
            id: id.clone(),
            source,
        })?;
    for (queue, doorbell) in (0..).zip(core.doorbells()) {
        let register = Doorbell {
            address: place.address.raw_value() + mmio::QUEUE_NOTIFY,
            value: Some(queue),
        };
        vm.register_doorbell(doorbell, register)?;
    }
    let device = shared(Mmio::new(core));
    let range = Range {
        base: place.address.raw_value(),
        len: mmio::SIZE,
    };
    insert(bus, range, device.clone())?;
    Ok(Slot {
        id,
        place,
        device,
        failed,
    })
}

/// An eventfd that raises an interrupt line.
fn interrupt(vm: &Vm, gsi: u32) -> Result<EventFd, DeviceError> {
    let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
    vm.register_interrupt(&event, gsi)?;
    Ok(event)
}

fn insert(bus: &Bus, range: Range, device: Arc<Mutex<dyn BusDevice>>) -> Result<(), Overlap> {
    bus.insert(range, device)
}

fn shared<T>(device: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(device))
}

fn lock<T>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}
