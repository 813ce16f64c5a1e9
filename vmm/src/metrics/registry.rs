//! Who counts, and in which group of a line its figures stand.

use std::sync::Arc;

use devices::legacy::metrics::{I8042Metrics, SerialMetrics};
use devices::metrics::{Audience, Figure, Group};
use devices::mmds;
use devices::virtio::{block, net, rng, vsock};

use super::lacking::{BALLOON, INTERRUPTS, MEMORY_HOTPLUG, PMEM};
use super::process::Process;
use super::sum::{add, since, without_extremes};
use super::vcpu::Vcpu;

/// What counts: which group of a line its figures belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A drive.
    Block,
    /// A network interface.
    Net,
    /// The entropy source.
    Entropy,
    /// The socket between guest and host.
    Vsock,
    /// The metadata service.
    Mmds,
    /// The serial port.
    Uart,
    /// The keyboard controller.
    I8042,
    /// A vCPU.
    Vcpu,
    /// A device's interrupt.
    Interrupt,
}

/// A group of a line, and who counts in it.
#[derive(Debug)]
pub(super) struct Section {
    /// Its key in a line.
    pub(super) name: &'static str,
    /// Who may come to count in it; the groups of the process and of what is lacking have nobody.
    kind: Option<Kind>,
    /// Its figures, with nothing counted. **Made when a line needs them**: most VMs never write one.
    nothing: fn() -> Vec<Figure>,
    /// By id.
    pub(super) sources: Vec<Source>,
}

/// Somebody who counts.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: String,
    group: Arc<dyn Group>,
    /// What the last line had told, and all before it; `None` before the first.
    told: Option<Vec<Figure>>,
    /// It is gone, and the next line tells of it for the last time.
    is_gone: bool,
}

/// Everybody who counts.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) sections: Vec<Section>,
}

/// One group of a line: its key, and the figures since the last line.
pub(super) type Entry = (String, Vec<Figure>);

impl Registry {
    /// The groups in Firecracker's order, with the process's own counters and no device.
    pub(super) fn new(process: &Process) -> Self {
        let sections = vec![
            own("api_server", &process.api_server),
            lacking("balloon", || BALLOON.figures()),
            of::<block::Metrics>("block", Kind::Block),
            own("deprecated_api", &process.deprecated_api),
            own("get_api_requests", &process.get_api_requests),
            of::<I8042Metrics>("i8042", Kind::I8042),
            of::<SerialMetrics>("uart", Kind::Uart),
            own("latencies_us", &process.latencies_us),
            own("logger", &process.logger),
            of::<mmds::Metrics>("mmds", Kind::Mmds),
            of::<net::Metrics>("net", Kind::Net),
            own("patch_api_requests", &process.patch_api_requests),
            own("put_api_requests", &process.put_api_requests),
            own("seccomp", &process.seccomp),
            of::<Vcpu>("vcpu", Kind::Vcpu),
            own("vmm", &process.vmm),
            own("signals", &process.signals),
            of::<vsock::Metrics>("vsock", Kind::Vsock),
            of::<rng::Metrics>("entropy", Kind::Entropy),
            lacking("pmem", || PMEM.figures()),
            Section::new("interrupts", Some(Kind::Interrupt), || INTERRUPTS.figures()),
            lacking("memory_hotplug", || MEMORY_HOTPLUG.figures()),
        ];
        Self { sections }
    }

    pub(super) fn add(&mut self, kind: Kind, id: &str, group: Arc<dyn Group>) {
        self.section(kind).add(id.to_owned(), group);
    }

    /// Forgets who is gone: at once, or when the next line has told of it.
    pub(super) fn remove(&mut self, kind: Kind, id: &str, at_once: bool) {
        let section = self.section(kind);
        for source in &mut section.sources {
            source.is_gone |= source.id == id;
        }
        if at_once {
            section.sources.retain(|source| !source.is_gone);
        }
    }

    /// What everybody has counted by now.
    pub(super) fn read(&self) -> Reading {
        let figures = |section: &Section| {
            let sources = section.sources.iter();
            sources.map(|source| source.group.figures()).collect()
        };
        Reading(self.sections.iter().map(figures).collect())
    }

    /// What of `reading` is new since the last that was told.
    pub(super) fn news(&self, reading: &Reading) -> Vec<Entry> {
        let sections = self.sections.iter().zip(&reading.0);
        sections
            .flat_map(|(section, read)| section.news(read))
            .collect()
    }

    /// `reading` has been told. Who was gone by then is forgotten.
    pub(super) fn told(&mut self, reading: Reading) {
        for (section, read) in self.sections.iter_mut().zip(reading.0) {
            for (source, figures) in section.sources.iter_mut().zip(read) {
                source.told = Some(figures);
            }
            section.sources.retain(|source| !source.is_gone);
        }
    }

    fn section(&mut self, kind: Kind) -> &mut Section {
        let mut sections = self.sections.iter_mut();
        sections
            .find(|section| section.kind == Some(kind))
            .expect("every kind has its group")
    }
}

/// A group in which the process itself counts.
fn own<G: Group + Default + 'static>(name: &'static str, group: &Arc<G>) -> Section {
    let mut section = Section::new(name, None, || G::default().figures());
    section.add(String::new(), group.clone());
    section
}

/// A group in which those of one kind count, as they come and go.
fn of<G: Group + Default>(name: &'static str, kind: Kind) -> Section {
    Section::new(name, Some(kind), || G::default().figures())
}

/// A group in which nobody counts.
fn lacking(name: &'static str, nothing: fn() -> Vec<Figure>) -> Section {
    Section::new(name, None, nothing)
}

/// The figures of every source of every section at one time.
#[derive(Debug)]
pub(super) struct Reading(Vec<Vec<Vec<Figure>>>);

impl Reading {
    /// Each section with the figures of its sources.
    pub(super) fn of<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> impl Iterator<Item = (&'a Section, &'a [Vec<Figure>])> {
        registry
            .sections
            .iter()
            .zip(self.0.iter().map(Vec::as_slice))
    }
}

impl Section {
    fn new(name: &'static str, kind: Option<Kind>, nothing: fn() -> Vec<Figure>) -> Self {
        Self {
            name,
            kind,
            nothing,
            sources: Vec::new(),
        }
    }

    /// Keeps the sources in the order of their ids, and those of one id beside each other.
    fn add(&mut self, id: String, group: Arc<dyn Group>) {
        let place = self.sources.partition_point(|source| source.id <= id);
        let source = Source {
            id,
            group,
            told: None,
            is_gone: false,
        };
        self.sources.insert(place, source);
    }

    /// Whether a line has each source by itself too. The sum then has no shortest and no longest time, as
    /// Firecracker's has none.
    fn shows_each(&self) -> bool {
        matches!(self.kind, Some(Kind::Block | Kind::Net))
    }

    /// The name of what tells the sources apart.
    pub(super) fn label(&self) -> Option<&'static str> {
        match self.kind? {
            Kind::Block => Some("drive"),
            Kind::Net => Some("interface"),
            Kind::Interrupt => Some("device"),
            Kind::Vcpu => Some("vcpu"),
            Kind::Entropy | Kind::Vsock | Kind::Mmds | Kind::Uart | Kind::I8042 => None,
        }
    }

    /// The group's entries of a line: each source's, where they are shown, then the sum.
    fn news(&self, read: &[Vec<Figure>]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut total = (self.nothing)();
        for (source, figures) in self.sources.iter().zip(read) {
            let news = match &source.told {
                Some(told) => since(figures, told),
                None => figures.clone(),
            };
            add(&mut total, &news);
            if !self.shows_each() {
                continue;
            }
            let key = format!("{}_{}", self.name, source.id);
            match entries.last_mut() {
                // Taken away and put in again since the last line.
                Some((last, sum)) if *last == key => add(sum, &news),
                _ => entries.push((key, news)),
            }
        }
        if self.shows_each() {
            without_extremes(&mut total);
        }
        entries.push((self.name.to_owned(), total));
        for (_, figures) in &mut entries {
            figures.retain(|figure| figure.audience == Audience::All);
        }
        entries
    }
}
