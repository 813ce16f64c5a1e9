//! Who counts, and in which group of a line its figures stand.

use std::sync::Arc;

use devices::legacy::metrics::{I8042Metrics, SerialMetrics};
use devices::metrics::{Audience, Figure, Group};
use devices::mmds;
use devices::virtio::{block, net, rng};

use super::lacking::{BALLOON, INTERRUPTS, MEMORY_HOTPLUG, PMEM, VSOCK};
use super::process::Process;
use super::sum::{add, empty, since, without_extremes};
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
    /// Its figures, with nothing counted.
    nothing: Vec<Figure>,
    /// By id.
    pub(super) sources: Vec<Source>,
}

/// Somebody who counts.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: String,
    group: Arc<dyn Group>,
    /// What the last line had told, and all before it.
    told: Vec<Figure>,
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
        let own = |name, group: Arc<dyn Group>| {
            let mut section = Section::new(name, None, group.as_ref());
            section.add(String::new(), group);
            section
        };
        let of = |name, kind, group: &dyn Group| Section::new(name, Some(kind), group);
        let lacking = |name, group: &dyn Group| Section::new(name, None, group);
        let sections = vec![
            own("api_server", process.api_server.clone()),
            lacking("balloon", &BALLOON),
            of("block", Kind::Block, &block::Metrics::default()),
            own("deprecated_api", process.deprecated_api.clone()),
            own("get_api_requests", process.get_api_requests.clone()),
            of("i8042", Kind::I8042, &I8042Metrics::default()),
            of("uart", Kind::Uart, &SerialMetrics::default()),
            own("latencies_us", process.latencies_us.clone()),
            own("logger", process.logger.clone()),
            of("mmds", Kind::Mmds, &mmds::Metrics::default()),
            of("net", Kind::Net, &net::Metrics::default()),
            own("patch_api_requests", process.patch_api_requests.clone()),
            own("put_api_requests", process.put_api_requests.clone()),
            own("seccomp", process.seccomp.clone()),
            of("vcpu", Kind::Vcpu, &Vcpu::default()),
            own("vmm", process.vmm.clone()),
            own("signals", process.signals.clone()),
            lacking("vsock", &VSOCK),
            of("entropy", Kind::Entropy, &rng::Metrics::default()),
            lacking("pmem", &PMEM),
            of("interrupts", Kind::Interrupt, &INTERRUPTS),
            lacking("memory_hotplug", &MEMORY_HOTPLUG),
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
                source.told = figures;
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
    fn new(name: &'static str, kind: Option<Kind>, group: &dyn Group) -> Self {
        Self {
            name,
            kind,
            nothing: empty(&group.figures()),
            sources: Vec::new(),
        }
    }

    /// Keeps the sources in the order of their ids, and those of one id beside each other.
    fn add(&mut self, id: String, group: Arc<dyn Group>) {
        let place = self.sources.partition_point(|source| source.id <= id);
        let told = empty(&group.figures());
        let source = Source {
            id,
            group,
            told,
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
            Kind::Entropy | Kind::Mmds | Kind::Uart | Kind::I8042 => None,
        }
    }

    /// The group's entries of a line: each source's, where they are shown, then the sum.
    fn news(&self, read: &[Vec<Figure>]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut total = self.nothing.clone();
        for (source, figures) in self.sources.iter().zip(read) {
            let news = since(figures, &source.told);
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
