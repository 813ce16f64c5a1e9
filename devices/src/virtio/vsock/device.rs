//! A vsock device between two lives of its worker.

use std::sync::Arc;

use super::Metrics;
use super::config::{Config, Error};
use super::hub::Hub;
use super::socket::Host;
use super::worker::VsockWorker;
use crate::metrics::Group;
use crate::virtio::{Device, DeviceType, Lent, VirtQueue};

/// Receive, transmit and event queue (virtio 1.2 §5.10.2).
const QUEUE_SIZES: &[u16] = &[256, 256, 64];
/// `VIRTIO_VSOCK_F_STREAM`: stream sockets (§5.10.3).
const STREAM: u64 = 1 << 0;

/// A socket between guest and host.
#[derive(Debug)]
pub struct Vsock {
    /// The guest's context id (§5.10.4).
    space: [u8; 8],
    /// With the worker while the device runs.
    backend: Option<Backend>,
    metrics: Arc<Metrics>,
}

/// What the worker works with, and what outlives it: connections go on after a pause.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) hub: Hub,
    /// Whether the guest has connections that this device knows nothing of: it is a saved guest, and was not told yet.
    pub(super) is_moved: bool,
}

impl Vsock {
    /// A device over sockets that are open.
    ///
    /// # Errors
    /// When the kernel grants no timer.
    pub fn new(config: &Config, host: Host) -> Result<Self, Error> {
        let metrics: Arc<Metrics> = Arc::default();
        let hub = Hub::new(config.guest_cid, host, Arc::clone(&metrics)).map_err(Error::Timer)?;
        Ok(Self {
            space: u64::from(config.guest_cid).to_le_bytes(),
            // A driver that begins resets the device first, and one that was saved does not.
            backend: Some(Backend {
                hub,
                is_moved: true,
            }),
            metrics,
        })
    }
}

impl Device for Vsock {
    type Worker = VsockWorker;
    const TYPE: DeviceType = DeviceType::Vsock;

    fn features(&self) -> u64 {
        STREAM
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn figures(&self) -> Arc<dyn Group> {
        self.metrics.clone()
    }

    fn activation_failed(&self) {
        self.metrics.activate_fails.increment();
    }

    fn start(&mut self, lent: Lent) -> VsockWorker {
        let backend = self.backend.take();
        VsockWorker::new(lent, backend.expect("a stopped device has its backend"))
    }

    fn stop(&mut self, worker: VsockWorker) -> Vec<VirtQueue> {
        let (backend, queues) = worker.into_parts();
        self.backend = Some(backend);
        queues
    }

    fn reset(&mut self) {
        if let Some(backend) = &mut self.backend {
            backend.hub.clear();
            backend.is_moved = false;
        }
    }
}
