//! A disk between two lives of its worker.

use std::fs::File;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::catalog::{self, UpdateError};
use crate::limiter::Limiter;
use crate::metrics::Group;
use crate::virtio::block::config::{Cache, Config, Error, Update};
use crate::virtio::block::disk::Disk;
use crate::virtio::block::engine::Engine;
use crate::virtio::block::worker::BlockWorker;
use crate::virtio::block::{Metrics, QUEUE_SIZES, space};
use crate::virtio::{Device, DeviceType, Lent, VirtQueue};

/// A disk over a file or block device of the host.
#[derive(Debug)]
pub struct Block {
    features: u64,
    space: [u8; space::LEN],
    metrics: Arc<Metrics>,
    /// With the worker while the device runs.
    backend: Option<Backend>,
}

/// What serves requests: lent to the worker.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) disk: Disk,
    pub(super) engine: Engine,
    pub(super) limiter: Limiter,
    pub(super) cache: Cache,
    pub(super) metrics: Arc<Metrics>,
}

impl Block {
    /// A disk over `file`, which was opened for writing too unless the disk is read-only.
    ///
    /// # Errors
    /// When the file is no disk, or the kernel does not grant what the config asks for.
    pub fn new(config: &Config, file: File) -> Result<Self, Error> {
        let disk = Disk::new(file, &config.id, config.serial_bytes()?, config.read_only)?;
        Self::over(config, disk)
    }

    /// A disk over a backend that was measured.
    pub(super) fn over(config: &Config, disk: Disk) -> Result<Self, Error> {
        let engine = Engine::new(config.engine).map_err(|source| Error::Uring {
            id: config.id.clone(),
            source,
        })?;
        let limiter = Limiter::new(&config.limiter).map_err(|source| Error::Timer {
            id: config.id.clone(),
            source,
        })?;
        let metrics = Arc::new(Metrics::default());
        Ok(Self {
            features: features(config),
            space: space::layout(disk.capacity),
            metrics: Arc::clone(&metrics),
            backend: Some(Backend {
                disk,
                engine,
                limiter,
                cache: config.cache,
                metrics,
            }),
        })
    }

    /// The counters of this disk.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    fn change(&mut self, update: Update) -> Result<(), Error> {
        let backend = self
            .backend
            .as_mut()
            .expect("a stopped device has its backend");
        let other = match update.file {
            Some(file) => Some(backend.disk.with_file(file)?),
            None => None,
        };
        if let Some(limits) = &update.limiter {
            let id = &backend.disk.id;
            let wrap = |source| Error::Timer {
                id: id.clone(),
                source,
            };
            backend.limiter.update(limits).map_err(wrap)?;
        }
        match other {
            Some(disk) => backend.disk = disk,
            None => backend.disk.measure()?,
        }
        self.space = space::layout(backend.disk.capacity);
        Ok(())
    }
}

/// The features offered (virtio 1.2 §5.2.3).
fn features(config: &Config) -> u64 {
    let mut features =
        (1 << VIRTIO_BLK_F_SEG_MAX) | (1 << VIRTIO_BLK_F_BLK_SIZE) | (1 << VIRTIO_BLK_F_TOPOLOGY);
    if config.cache == Cache::Writeback {
        features |= 1 << VIRTIO_BLK_F_FLUSH;
    }
    features
        | if config.read_only {
            1 << VIRTIO_BLK_F_RO
        } else {
            (1 << VIRTIO_BLK_F_DISCARD) | (1 << VIRTIO_BLK_F_WRITE_ZEROES)
        }
}

impl Device for Block {
    type Worker = BlockWorker;
    const TYPE: DeviceType = DeviceType::Block;

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn figures(&self) -> Arc<dyn Group> {
        self.metrics()
    }

    fn activation_failed(&self) {
        self.metrics.activate_fails.increment();
    }

    fn start(&mut self, lent: Lent) -> BlockWorker {
        let backend = self
            .backend
            .take()
            .expect("a stopped device has its backend");
        BlockWorker::new(lent, backend)
    }

    fn stop(&mut self, worker: BlockWorker) -> Vec<VirtQueue> {
        let (backend, queues) = worker.into_parts();
        self.backend = Some(backend);
        queues
    }

    fn update(&mut self, update: catalog::Update) -> Result<(), UpdateError> {
        match update {
            catalog::Update::Block(update) => {
                let outcome = self.change(update);
                match &outcome {
                    Ok(()) => self.metrics.update_count.increment(),
                    Err(_) => self.metrics.update_fails.increment(),
                }
                Ok(outcome?)
            }
            catalog::Update::Net(_) => Err(UpdateError::NotSupported),
        }
    }
}
