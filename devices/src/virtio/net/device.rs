//! A network card between two lives of its worker.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};

use crate::catalog::{self, UpdateError};
use crate::limiter::{Limiter, RateLimiter};
use crate::metrics::Group;
use crate::mmds;
use crate::virtio::net::config::{Config, Error, Mtu, Update};
use crate::virtio::net::detour::Detour;
use crate::virtio::net::offloads::Offloads;
use crate::virtio::net::tap::{Port, Tap};
use crate::virtio::net::window::Window;
use crate::virtio::net::worker::NetWorker;
use crate::virtio::net::{Metrics, QUEUE_SIZES};
use crate::virtio::{Device, DeviceType, Lent, VirtQueue};

/// `struct virtio_net_config` up to `mtu` (virtio 1.2 §5.1.4): address, status, pairs of queues, MTU.
const SPACE: usize = 12;
/// Frames that a tap holds at most when it is emptied: more than any `txqueuelen` in use.
const MOST_STALE: u32 = 65_536;

/// A network card over a tap of the host.
#[derive(Debug)]
pub struct Net<P: Port = Tap> {
    id: String,
    features: u64,
    space: [u8; SPACE],
    metrics: Arc<Metrics>,
    /// With the worker while the device runs.
    backend: Option<Backend<P>>,
}

/// What serves the queues: lent to the worker.
#[derive(Debug)]
pub(super) struct Backend<P> {
    pub(super) port: P,
    /// What the port was told last.
    pub(super) offloads: Offloads,
    /// Whether the guest asked for them by a command.
    pub(super) is_chosen: bool,
    pub(super) rx_limiter: Limiter,
    pub(super) tx_limiter: Limiter,
    pub(super) window: Window,
    /// The way to the metadata service, if this card has one.
    pub(super) detour: Option<Detour>,
    pub(super) metrics: Arc<Metrics>,
}

impl<P: Port> Net<P> {
    /// A card whose frames go through `port`.
    ///
    /// # Errors
    /// When the kernel grants no timer for the limits.
    pub fn new(config: Config, port: P) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let limiter = |limits: Option<RateLimiter>| {
            Limiter::new(&limits.unwrap_or_default()).map_err(|source| Error::Timer {
                id: config.iface_id.clone(),
                source,
            })
        };
        Ok(Self {
            features: features(&config),
            space: space(&config),
            metrics: Arc::clone(&metrics),
            backend: Some(Backend {
                port,
                offloads: Offloads::default(),
                is_chosen: false,
                rx_limiter: limiter(config.rx_rate_limiter)?,
                tx_limiter: limiter(config.tx_rate_limiter)?,
                window: Window::new(),
                detour: None,
                metrics,
            }),
            id: config.iface_id,
        })
    }

    /// A card whose frames go through `port`, but for those to and from the metadata service.
    ///
    /// # Errors
    /// When the kernel grants no timer for the limits or for the service's connections.
    pub fn with_mmds(config: Config, port: P, attachment: mmds::Attachment) -> Result<Self, Error> {
        let mtu = config.mtu.map(Mtu::get);
        let mut net = Self::new(config, port)?;
        let detour = Detour::new(attachment, mtu).map_err(|source| Error::MmdsTimer {
            id: net.id.clone(),
            source,
        })?;
        if let Some(backend) = &mut net.backend {
            backend.detour = Some(detour);
        }
        Ok(net)
    }

    /// The counters of this card.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    fn change(&mut self, update: &Update) -> Result<(), Error> {
        let backend = self
            .backend
            .as_mut()
            .expect("a stopped device has its backend");
        let limiters = [
            (&mut backend.rx_limiter, update.rx_rate_limiter),
            (&mut backend.tx_limiter, update.tx_rate_limiter),
        ];
        for (limiter, limits) in limiters {
            if let Some(limits) = limits {
                limiter.update(&limits).map_err(|source| Error::Timer {
                    id: self.id.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

impl<P: Port> Backend<P> {
    /// Tells the port what a guest with `features` takes, unless the guest itself has said it.
    fn agree(&mut self, features: u64) -> io::Result<()> {
        let before = self.offloads;
        if !self.is_chosen {
            self.offloads = Offloads::negotiated(features);
        }
        self.port.set_offloads(self.offloads.tap_flags())?;
        if !self.offloads.includes(before) {
            self.empty();
        }
        Ok(())
    }

    /// Drops the frames that wait in the port: they are for a driver that is gone, and may be of a kind
    /// that the present one did not agree to.
    fn empty(&self) {
        for _ in 0..MOST_STALE {
            if !matches!(rustix::io::read(&self.port, &mut [0_u8]), Ok(1..)) {
                return;
            }
            self.metrics.rx_fails.increment();
        }
    }
}

/// The features offered (virtio 1.2 §5.1.3).
fn features(config: &Config) -> u64 {
    let always = [
        VIRTIO_NET_F_CSUM,
        VIRTIO_NET_F_HOST_TSO4,
        VIRTIO_NET_F_HOST_TSO6,
        VIRTIO_NET_F_HOST_ECN,
        VIRTIO_NET_F_MRG_RXBUF,
        VIRTIO_NET_F_STATUS,
        VIRTIO_NET_F_CTRL_VQ,
        VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    ];
    let by_config = [
        config.guest_mac.map(|_| VIRTIO_NET_F_MAC),
        config.mtu.map(|_| VIRTIO_NET_F_MTU),
    ];
    always
        .into_iter()
        .chain(by_config.into_iter().flatten())
        .fold(Offloads::ALL, |features, bit| features | (1 << bit))
}

fn space(config: &Config) -> [u8; SPACE] {
    let mac = config.guest_mac.map_or([0; 6], |mac| mac.bytes());
    let [m0, m1, m2, m3, m4, m5] = mac;
    let [s0, s1, ..] = VIRTIO_NET_S_LINK_UP.to_le_bytes();
    let [p0, p1] = 1_u16.to_le_bytes();
    let [u0, u1] = config.mtu.map_or(0, |mtu| mtu.get()).to_le_bytes();
    [m0, m1, m2, m3, m4, m5, s0, s1, p0, p1, u0, u1]
}

impl<P: Port> Device for Net<P> {
    type Worker = NetWorker<P>;
    const TYPE: DeviceType = DeviceType::Net;

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

    fn start(&mut self, lent: Lent) -> NetWorker<P> {
        let mut backend = self
            .backend
            .take()
            .expect("a stopped device has its backend");
        if let Err(error) = backend.agree(lent.features) {
            log::error!(
                "net: the tap of {:?} refuses the guest's offloads: {error}",
                self.id
            );
            Device::activation_failed(self);
            lent.interrupt.fail();
        }
        NetWorker::new(lent, backend)
    }

    fn stop(&mut self, worker: NetWorker<P>) -> Vec<VirtQueue> {
        let (backend, queues) = worker.into_parts();
        self.backend = Some(backend);
        queues
    }

    fn reset(&mut self) {
        if let Some(backend) = &mut self.backend {
            backend.is_chosen = false;
            if let Some(detour) = &mut backend.detour {
                detour.reset();
            }
        }
    }

    fn update(&mut self, update: catalog::Update) -> Result<(), UpdateError> {
        match update {
            catalog::Update::Net(update) => Ok(self.change(&update)?),
            catalog::Update::Block(_) => Err(UpdateError::NotSupported),
        }
    }
}
