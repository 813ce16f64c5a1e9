//! What a VM is, as far as its answers depend on it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A request that a client may think of.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Get(&'static str),
    Kernel(Kernel),
    Machine { vcpus: u8, memory: u64, patch: bool },
    Drive { id: u8, disk: Disk },
    OtherFile { id: u8, file: u8 },
    TakeAway(u8),
    Balloon(u32),
    Vsock(u32),
    Entropy,
    Metrics,
    PutMmds(u8),
    PatchMmds(u8),
    MmdsConfig,
    Start,
    Flush,
    CtrlAltDel,
    Pause,
    Resume,
    Save,
    Load,
    Nonsense(&'static str, &'static str),
}

/// A file as the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    Good,
    Bad,
    Missing,
}

/// A disk. The file of this number is missing: [`MISSING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) file: u8,
    pub(crate) root: bool,
    pub(crate) read_only: bool,
}

/// The number of a file that is not there.
pub(crate) const MISSING: u8 = 3;

/// The answer that is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 204.
    Done,
    /// 200.
    Shown,
    /// 400, with a `fault_message` that starts so; nothing has changed.
    Refused(&'static str),
    /// The same, and the process ends.
    Fatal(&'static str),
}

use Answer::{Done, Fatal, Refused, Shown};

const TOO_EARLY: Answer =
    Refused("The requested operation is not supported before starting the microVM.");
const TOO_LATE: Answer =
    Refused("The requested operation is not supported after starting the microVM.");
const NO_BUS: Answer = Refused("PCI is not enabled");

/// The VM.
#[derive(Debug)]
pub(crate) struct Model {
    state: &'static str,
    kernel: Option<Kernel>,
    vcpus: u8,
    memory: u64,
    /// In the order in which they were first described.
    drives: Vec<(u8, Disk)>,
    balloon: Option<u32>,
    vsock: bool,
    entropy: bool,
    metrics: bool,
    mmds: Option<BTreeMap<String, u8>>,
    has_boot_resources: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            state: "Not started",
            kernel: None,
            vcpus: 1,
            memory: 128,
            drives: Vec::new(),
            balloon: None,
            vsock: false,
            entropy: false,
            metrics: false,
            mmds: None,
            has_boot_resources: false,
        }
    }
}

impl Model {
    /// As `GET /` tells it.
    pub(crate) fn state(&self) -> &'static str {
        self.state
    }

    fn has_started(&self) -> bool {
        self.state != "Not started"
    }

    /// What becomes of a call.
    pub(crate) fn answer(&mut self, call: &Call) -> Answer {
        let answer = match (call, self.has_started()) {
            (Call::Nonsense(..), _) => Refused(""),
            (Call::Get(path), started) => self.show(path, started),
            (Call::PutMmds(_) | Call::PatchMmds(_), started) => self.mmds(call, started),
            (_, false) => self.before(call),
            (_, true) => self.after(call),
        };
        if answer == Done {
            self.has_boot_resources |= matches!(
                call,
                Call::Kernel(_)
                    | Call::Machine { .. }
                    | Call::Drive { .. }
                    | Call::Balloon(_)
                    | Call::Vsock(_)
                    | Call::Entropy
            );
        }
        answer
    }

    fn show(&self, path: &str, started: bool) -> Answer {
        match (path, started) {
            ("/balloon", false) if self.balloon.is_none() => {
                Refused("Balloon config error: No balloon device found.")
            }
            ("/balloon/statistics" | "/hotplug/memory", false) => TOO_EARLY,
            ("/balloon" | "/balloon/statistics" | "/hotplug/memory", true) => {
                Refused("Internal VMM error: Failed perform action on device: Device not found")
            }
            _ => Shown,
        }
    }

    fn mmds(&mut self, call: &Call, started: bool) -> Answer {
        const NO_DATA: Answer = Refused("MMDS error: The MMDS data store is not initialized.");
        let key = |key: u8| (format!("k{key}"), key);
        match (call, &mut self.mmds) {
            (_, _) if started => return NO_DATA,
            (Call::PutMmds(new), data) => *data = Some([key(*new)].into()),
            (Call::PatchMmds(new), Some(data)) => data.extend([key(*new)]),
            _ => return NO_DATA,
        }
        Done
    }

    fn before(&mut self, call: &Call) -> Answer {
        match *call {
            Call::Kernel(Kernel::Missing) => return Refused("Boot source error: "),
            Call::Kernel(kernel) => self.kernel = Some(kernel),
            Call::Machine { vcpus, memory, .. } => {
                let holds = self
                    .balloon
                    .is_none_or(|amount| u64::from(amount) <= memory);
                if !(1..=32).contains(&vcpus) || memory < 16 || !holds {
                    return Refused("Machine config error: ");
                }
                (self.vcpus, self.memory) = (vcpus, memory);
            }
            Call::Drive { id, disk } => return self.drive(id, disk),
            Call::Balloon(amount) if u64::from(amount) > self.memory => {
                return Refused("Balloon config error: ");
            }
            Call::Balloon(amount) => self.balloon = Some(amount),
            Call::Vsock(cid) if cid < 3 => return Refused("Vsock config error: "),
            Call::Vsock(_) => self.vsock = true,
            Call::Entropy => self.entropy = true,
            Call::Metrics if self.metrics => {
                return Refused("Metrics error: Reinitialization of metrics not allowed.");
            }
            Call::Metrics => self.metrics = true,
            Call::MmdsConfig => return Refused("MMMDS config error: "),
            Call::Start => return self.start(),
            Call::Load if self.has_boot_resources => {
                return Refused("Load snapshot error: Loading a microVM snapshot not allowed");
            }
            Call::Load => return Fatal("Load snapshot error: "),
            _ => return TOO_EARLY,
        }
        Done
    }

    fn drive(&mut self, id: u8, disk: Disk) -> Answer {
        let is_second_root = self.others(id).any(|other| disk.root && other.root);
        if is_second_root {
            return Refused("Drive config error: A root block device already exists");
        }
        if disk.file == MISSING || self.is_taken(id, disk) {
            return Refused("Drive config error: ");
        }
        match self.drives.iter_mut().find(|(other, _)| *other == id) {
            Some((_, old)) => *old = disk,
            None => self.drives.push((id, disk)),
        }
        Done
    }

    fn others(&self, id: u8) -> impl Iterator<Item = Disk> {
        let others = self.drives.iter().filter(move |(other, _)| *other != id);
        others.map(|(_, disk)| *disk)
    }

    /// Whether another disk is over the same file and one of the two may write.
    fn is_taken(&self, id: u8, disk: Disk) -> bool {
        let mut others = self.others(id);
        others.any(|other| other.file == disk.file && !(other.read_only && disk.read_only))
    }

    fn start(&mut self) -> Answer {
        let cannot_be_built = self.balloon.is_some();
        match self.kernel {
            None => Refused("Start microvm error: Cannot start microvm without kernel"),
            Some(Kernel::Good) if !cannot_be_built => {
                self.state = "Running";
                Done
            }
            Some(_) => Refused("Start microvm error: "),
        }
    }

    fn after(&mut self, call: &Call) -> Answer {
        match *call {
            Call::Drive { .. } | Call::TakeAway(_) => return NO_BUS,
            Call::OtherFile { id, file } => return self.other_file(id, file),
            Call::Pause => self.state = "Paused",
            Call::Resume => self.state = "Running",
            Call::Flush | Call::CtrlAltDel => {}
            Call::Save => return Refused("Create snapshot error: "),
            _ => return TOO_LATE,
        }
        Done
    }

    fn other_file(&mut self, id: u8, file: u8) -> Answer {
        let Some(at) = self.drives.iter().position(|(other, _)| *other == id) else {
            return Refused("Drive config error: Device not found");
        };
        let disk = Disk {
            file,
            ..self.drives[at].1
        };
        if file == MISSING || self.is_taken(id, disk) {
            return Refused("Drive config error: ");
        }
        self.drives[at].1 = disk;
        Done
    }

    /// What must be seen in `GET /vm/config`.
    pub(crate) fn check(&self, config: &Value) {
        let drives = config["drives"].as_array().unwrap().iter().map(|drive| {
            let keys = ["drive_id", "path_on_host", "is_root_device", "is_read_only"];
            json!(keys.map(|key| drive[key].clone()))
        });
        let expected = self.drives.iter().map(|(id, disk)| {
            let (id, file) = (format!("d{id}"), format!("disk{}", disk.file));
            json!([id, file, disk.root, disk.read_only])
        });
        let (drives, expected): (Vec<_>, Vec<_>) = (drives.collect(), expected.collect());
        assert_eq!(drives, expected);
        let machine = &config["machine-config"];
        assert_eq!(machine["vcpu_count"], self.vcpus);
        assert_eq!(machine["mem_size_mib"], self.memory);
        assert_eq!(config["balloon"]["amount_mib"], json!(self.balloon));
        assert_eq!(!config["vsock"].is_null(), self.vsock);
        assert_eq!(!config["entropy"].is_null(), self.entropy);
        assert_eq!(!config["metrics"].is_null(), self.metrics);
        assert_eq!(!config["boot-source"].is_null(), self.kernel.is_some());
    }

    /// What `GET /mmds` shows.
    pub(crate) fn data(&self) -> Value {
        json!(self.mmds.clone().unwrap_or_default())
    }
}
