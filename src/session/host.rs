//! The process around a VM, as the VM sees it.

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use vmm::controller::Host;
use vmm::events::Event;
use vmm::spec::{LoggerConfig, Serial};

use crate::console::sink::Sink;
use crate::logger;
use crate::warden::warden;

/// Where other places for the guest's output come from.
#[derive(Debug)]
pub(crate) struct Sinks(Receiver<Sink>);

impl Sinks {
    /// The place that was set last, if any was since the last call.
    pub(super) fn latest(&self) -> Option<Sink> {
        self.0.try_iter().last()
    }
}

/// Somebody who hears what happens to a VM.
pub(crate) type Watch = Box<dyn Fn(&Event)>;

/// What this process does for its VM.
pub(crate) struct ProcessHost {
    sinks: Sender<Sink>,
    watch: Option<Watch>,
}

impl ProcessHost {
    /// A host that tells `watch` what happens, if somebody watches.
    pub(crate) fn new(watch: Option<Watch>) -> (Self, Sinks) {
        let (sender, receiver) = channel();
        let host = Self {
            sinks: sender,
            watch,
        };
        (host, Sinks(receiver))
    }
}

impl fmt::Debug for ProcessHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessHost")
    }
}

impl Host for ProcessHost {
    fn set_log(&mut self, config: &LoggerConfig) -> Result<(), String> {
        logger::reconfigure(config).map_err(|error| error.to_string())
    }

    fn set_serial(&mut self, config: &Serial) -> Result<(), String> {
        let Some(path) = &config.serial_out_path else {
            return Ok(());
        };
        let sink = Sink::file(Path::new(path)).map_err(|error| {
            format!(
                "the file {path} for the guest's output cannot be written ({error}): name one that this user may \
                 write, in a directory that exists"
            )
        })?;
        // The session outlives its host.
        let _ = self.sinks.send(sink);
        Ok(())
    }

    fn builds(&mut self) {
        if let Some(warden) = warden() {
            warden.is_busy();
        }
    }

    fn is_complete(&mut self, memory_mib: u64, vcpus: u64) {
        if let Some(warden) = warden() {
            warden.is_complete(memory_mib, vcpus);
        }
    }

    fn bound(&mut self, memory_mib: u64, vcpus: u64) -> Result<(), String> {
        match warden() {
            Some(warden) => warden.bound(memory_mib, vcpus),
            None => Ok(()),
        }
    }

    fn may_run(&mut self, memory_mib: u64, vcpus: u64) -> Result<(), String> {
        match warden() {
            Some(warden) => warden.may_run(memory_mib, vcpus),
            None => Ok(()),
        }
    }

    fn hear(&mut self, event: &Event) {
        if let Some(watch) = &self.watch {
            watch(event);
        }
    }
}
