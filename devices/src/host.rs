//! The few capabilities a VM lends a device: its memory and an interrupt.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::metrics::{Audience, Counter, Figure, Group, Measure, Value};

/// The guest's RAM. Every access to it goes through vm-memory's checked accessors.
pub type GuestRam = vm_memory::GuestMemoryMmap<()>;

/// `VIRTIO_MMIO_INT_VRING`: a used ring has moved (virtio 1.2 §4.2.2 `InterruptStatus`).
pub const INTERRUPT_USED: u32 = 1;
/// `VIRTIO_MMIO_INT_CONFIG`: the config space or the status has changed.
pub const INTERRUPT_CONFIG: u32 = 2;

/// How a device gets its guest's attention.
///
/// Shared by the transport, which shows and acknowledges the causes, and the worker, which raises
/// them; it needs no lock because each cause is one bit. Raising writes to an eventfd that the VM has
/// bound to an interrupt line.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    line: EventFd,
    causes: AtomicU32,
    needs_reset: AtomicBool,
    raised: Counter,
    trouble: Option<Trouble>,
}

/// Who hears that a device has failed.
struct Trouble(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trouble")
    }
}

impl Interrupt {
    /// An interrupt that is raised by writing to `line`.
    pub fn new(line: EventFd) -> Self {
        Self::build(line, None)
    }

    /// As [`Self::new`], and `report` is called, on whatever thread, when the device fails. A guest can make
    /// that happen as often as it likes.
    pub fn with_report(line: EventFd, report: impl Fn() + Send + Sync + 'static) -> Self {
        Self::build(line, Some(Trouble(Box::new(report))))
    }

    fn build(line: EventFd, trouble: Option<Trouble>) -> Self {
        Self(Arc::new(Shared {
            trouble,
            line,
            causes: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            raised: Counter::default(),
        }))
    }

    /// The eventfd behind the interrupt, for the VM to bind to a line.
    pub fn line(&self) -> &EventFd {
        &self.0.line
    }

    /// Tells the guest that a used ring has moved.
    pub fn signal_used(&self) {
        self.raise(INTERRUPT_USED);
    }

    /// Tells the guest that the config space or the device's status has changed.
    pub fn signal_config(&self) {
        self.raise(INTERRUPT_CONFIG);
    }

    /// Declares the device broken: DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2) and a config interrupt.
    pub fn fail(&self) {
        let already = self.0.needs_reset.swap(true, Ordering::AcqRel);
        self.signal_config();
        if let (false, Some(trouble)) = (already, &self.0.trouble) {
            (trouble.0)();
        }
    }

    /// Whether the device waits for a reset.
    pub fn needs_reset(&self) -> bool {
        self.0.needs_reset.load(Ordering::Acquire)
    }

    /// The causes not yet acknowledged: a set of `INTERRUPT_USED` and `INTERRUPT_CONFIG`.
    pub fn causes(&self) -> u32 {
        self.0.causes.load(Ordering::Acquire)
    }

    /// Forgets the causes in `mask`: the guest has seen them.
    pub fn acknowledge(&self, mask: u32) {
        self.0.causes.fetch_and(!mask, Ordering::AcqRel);
    }

    /// Back to the state after power-on.
    pub fn reset(&self) {
        self.0.needs_reset.store(false, Ordering::Release);
        self.0.causes.store(0, Ordering::Release);
    }

    /// Takes up the causes of a saved device.
    pub fn restore(&self, causes: u32) {
        self.0.causes.store(causes, Ordering::Release);
    }

    fn raise(&self, cause: u32) {
        self.0.causes.fetch_or(cause, Ordering::AcqRel);
        // An eventfd refuses only when its counter is full, and then the line is raised anyway.
        let _ = self.0.line.write(1);
        self.0.raised.increment();
    }
}

/// Firecracker's group `interrupts`, of one device.
impl Group for Interrupt {
    fn visit(&self, see: &mut dyn FnMut(Figure)) {
        see(Figure {
            key: "triggers",
            help: "Times the interrupt was raised.",
            audience: Audience::All,
            value: self.0.raised.value(),
        });
        see(Figure {
            key: "config_updates",
            help: "Changes of where an interrupt goes: a line goes where it went at the start.",
            audience: Audience::All,
            value: Value::Never,
        });
    }
}

/// How a guest ends itself through a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It pulled the reset line.
    Reset,
    /// It switched itself off.
    PowerOff,
}

/// The way for a device to say that its guest has ended. The VM decides what follows; a guest that ends
/// twice says it twice.
#[derive(Clone)]
pub struct EndSignal(Arc<dyn Fn(End) + Send + Sync>);

impl EndSignal {
    /// A signal that calls `report`, on the vCPU thread whose write ended the guest.
    pub fn new(report: impl Fn(End) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Says how the guest has ended.
    pub fn send(&self, end: End) {
        (self.0)(end);
    }
}

impl fmt::Debug for EndSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndSignal")
    }
}
