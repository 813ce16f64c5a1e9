//! The entropy source between two lives of its worker.

use std::sync::Arc;

use crate::limiter::Limiter;
use crate::metrics::Group;
use crate::virtio::rng::Metrics;
use crate::virtio::rng::config::{Config, Error};
use crate::virtio::rng::worker::RngWorker;
use crate::virtio::{Device, DeviceType, Lent, VirtQueue};

/// One queue of requests; 256 is what Linux's driver asks for at most.
const QUEUE_SIZES: &[u16] = &[256];

/// An entropy source fed by the host kernel.
#[derive(Debug)]
pub struct Rng {
    /// With the worker while the device runs.
    limiter: Option<Limiter>,
    metrics: Arc<Metrics>,
}

impl Rng {
    /// A source with these limits.
    ///
    /// # Errors
    /// When there is a limit and the kernel grants no timer.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let limiter = Limiter::new(&config.limiter).map_err(Error::Timer)?;
        Ok(Self {
            limiter: Some(limiter),
            metrics: Arc::default(),
        })
    }
}

impl Device for Rng {
    type Worker = RngWorker;
    const TYPE: DeviceType = DeviceType::Rng;

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn figures(&self) -> Arc<dyn Group> {
        self.metrics.clone()
    }

    fn activation_failed(&self) {
        self.metrics.activate_fails.increment();
    }

    fn start(&mut self, lent: Lent) -> RngWorker {
        let limiter = self.limiter.take();
        let limiter = limiter.expect("a stopped device has its limits");
        RngWorker::new(lent, limiter, Arc::clone(&self.metrics))
    }

    fn stop(&mut self, worker: RngWorker) -> Vec<VirtQueue> {
        let (limiter, queues) = worker.into_parts();
        self.limiter = Some(limiter);
        queues
    }
}
