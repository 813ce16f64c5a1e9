//! A disk between two lives of its worker.

use std::fs::File;
use std::mem;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};

use crate::catalog::{self, UpdateError};
use crate::limiter::Limiter;
use crate::metrics::Group;
use crate::virtio::block::config::{self, Cache, Config, Error, Update};
use crate::virtio::block::disk::Disk;
use crate::virtio::block::engine::Engine;
use crate::virtio::block::worker::BlockWorker;
use crate::virtio::block::{Metrics, QUEUE_SIZES, space};
use crate::virtio::{Device, DeviceType, Lent, VirtQueue};

/// A disk over a file or block device of the host.
#[derive(Debug)]
pub struct Block {
    /// What serves the disk where its file permits.
    asked_engine: config::Engine,
    features: u64,
    space: [u8; space::LEN],
    metrics: Arc<Metrics>,
    /// With the worker while the device runs.
    backend: Option<Backend>,
    /// The ring of a disk whose file lives in memory now: a filter forbids to make another.
    spare: Option<Engine>,
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
        let engine = engine_for(config.engine, &disk)?;
        let limiter = Limiter::new(&config.limiter).map_err(|source| Error::Timer {
            id: config.id.clone(),
            source,
        })?;
        let metrics = Arc::new(Metrics::default());
        Ok(Self {
            asked_engine: config.engine,
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
            spare: None,
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
            Some(disk) => {
                if self.asked_engine == config::Engine::Uring {
                    backend.suit(&mut self.spare, &disk);
                }
                backend.disk = disk;
            }
            None => backend.disk.measure()?,
        }
        self.space = space::layout(backend.disk.capacity);
        Ok(())
    }
}

impl Backend {
    /// Takes the engine that suits `disk`: the ring, or none while the file lives in memory. **No ring is made
    /// after the start**: that would be a way around every filter.
    fn suit(&mut self, spare: &mut Option<Engine>, disk: &Disk) {
        let wants_ring = !disk.lives_in_memory();
        let has_ring = matches!(self.engine, Engine::Uring(_));
        match (wants_ring, has_ring, spare.take()) {
            (true, false, Some(ring)) => self.engine = ring,
            (true, false, None) => log::info!(
                "disk `{}`: it began with a file in memory, so it stays without io_uring",
                disk.id
            ),
            (false, true, _) => *spare = Some(mem::replace(&mut self.engine, Engine::sync())),
            (_, _, ring) => *spare = ring,
        }
    }
}

/// The engine for `disk`, where `asked` was asked for.
///
/// A file system in memory cannot say that a request would not block, so the kernel hands each request of a
/// ring to a thread of its own (`io-wq`): a system call at once is twice as fast there.
fn engine_for(asked: config::Engine, disk: &Disk) -> Result<Engine, Error> {
    let id = &disk.id;
    let kind = match asked {
        config::Engine::Uring if disk.lives_in_memory() => {
            log::info!("disk `{id}`: its file lives in memory, so it is served without io_uring");
            config::Engine::Sync
        }
        other => other,
    };
    Engine::new(kind).map_err(|source| Error::Uring {
        id: id.clone(),
        source,
    })
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

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::limiter::RateLimiter;

    const SIZE: u64 = 4096;

    fn in_memory() -> File {
        let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(SIZE).unwrap();
        file
    }

    fn on_storage() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        file
    }

    fn disk(file: File) -> Block {
        let config = Config {
            id: "rootfs".into(),
            serial: None,
            read_only: false,
            cache: Cache::Writeback,
            engine: config::Engine::Uring,
            limiter: RateLimiter::default(),
        };
        Block::new(&config, file).unwrap()
    }

    fn over(file: File) -> Update {
        Update {
            file: Some(file),
            limiter: None,
        }
    }

    fn has_a_ring(block: &Block) -> bool {
        matches!(block.backend.as_ref().unwrap().engine, Engine::Uring(_))
    }

    #[test]
    fn a_disk_in_memory_is_served_without_io_uring() {
        assert!(!has_a_ring(&disk(in_memory())));
    }

    #[test]
    fn another_file_gets_the_engine_that_suits_it() {
        let storage = Disk::new(on_storage(), "", [0; 20], false).unwrap();
        if storage.lives_in_memory() || Engine::new(config::Engine::Uring).is_err() {
            eprintln!("SKIPPED: there is no io_uring here, or temporary files live in memory");
            return;
        }
        let mut block = disk(on_storage());
        assert!(has_a_ring(&block));
        block.change(over(in_memory())).unwrap();
        assert!(!has_a_ring(&block));
        block.change(Update::default()).unwrap();
        assert!(!has_a_ring(&block));
        block.change(over(on_storage())).unwrap();
        assert!(has_a_ring(&block));
    }

    #[test]
    fn no_ring_is_made_after_the_start() {
        let mut block = disk(in_memory());
        block.change(over(on_storage())).unwrap();
        assert!(!has_a_ring(&block));
    }

    #[test]
    fn a_device_node_does_not_live_in_memory_though_its_name_does() {
        let mut disk = Disk::new(in_memory(), "", [0; 20], false).unwrap();
        assert!(disk.lives_in_memory());
        disk.file = File::open("/dev/null").unwrap();
        assert!(!disk.lives_in_memory());
    }
}
