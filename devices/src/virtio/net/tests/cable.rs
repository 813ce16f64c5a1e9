//! A cable in place of a tap: a pair of sockets that keep frames apart, as a tap does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair,
};

use crate::host::{GuestRam, Interrupt};
use crate::io_thread::IoHandle;
use crate::mmds::Attachment;
use crate::virtio::Core;
use crate::virtio::driver::Driver;
use crate::virtio::net::{Config, HEADER, Metrics, Net, Port};

/// The card's end.
#[derive(Debug)]
pub(super) struct Cable {
    socket: OwnedFd,
    asked: Arc<AtomicU32>,
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Port for Cable {
    fn set_offloads(&mut self, flags: libc::c_uint) -> std::io::Result<()> {
        self.asked.store(flags, Ordering::SeqCst);
        Ok(())
    }
}

/// The other end, in the test's hand.
pub(super) struct Far {
    far: OwnedFd,
    near: OwnedFd,
    asked: Arc<AtomicU32>,
    metrics: Mutex<Arc<Metrics>>,
    /// What the cards reach the metadata service with.
    attachment: Option<Attachment>,
}

impl Far {
    pub(super) fn new() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        Self {
            far,
            near,
            asked: Arc::new(AtomicU32::new(u32::MAX)),
            metrics: Mutex::default(),
            attachment: None,
        }
    }

    /// A cable whose cards reach the metadata service.
    pub(super) fn with_mmds(attachment: Attachment) -> Self {
        Self {
            attachment: Some(attachment),
            ..Self::new()
        }
    }

    /// A card at the near end; every call gives one over the same cable.
    pub(super) fn core(
        &self,
        config: Config,
        ram: GuestRam,
        io: IoHandle,
        interrupt: Interrupt,
    ) -> Core {
        let cable = Cable {
            socket: self.near.try_clone().unwrap(),
            asked: Arc::clone(&self.asked),
        };
        let net = match self.attachment.clone() {
            Some(attachment) => Net::with_mmds(config, cable, attachment).unwrap(),
            None => Net::new(config, cable).unwrap(),
        };
        *self.metrics.lock().unwrap() = net.metrics();
        Core::new(net, ram, io, interrupt).unwrap()
    }

    pub(super) fn driver(&self, config: Config) -> Driver {
        Driver::new(|ram, io, interrupt| self.core(config, ram, io, interrupt))
    }

    /// The counters of the card built last.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics.lock().unwrap())
    }

    /// The offloads that the card asked for last.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn send(&self, frame: &[u8]) {
        assert!(self.try_send(frame), "the cable is full");
    }

    /// False when the cable is full.
    pub(super) fn try_send(&self, frame: &[u8]) -> bool {
        match send(&self.far, frame, SendFlags::empty()) {
            Ok(n) => n == frame.len(),
            Err(Errno::AGAIN) => false,
            Err(errno) => panic!("{errno}"),
        }
    }

    /// Takes out of the cable what is in it, both ways.
    pub(super) fn clear(&self) {
        for end in [&self.far, &self.near] {
            while rustix::io::read(end, &mut [0_u8; 1]).is_ok() {}
        }
    }

    /// From now on nothing comes and nothing goes.
    pub(super) fn unplug(&self) {
        shutdown(&self.far, Shutdown::Both).unwrap();
    }

    /// The next frame, which has to come.
    pub(super) fn receive(&self) -> Vec<u8> {
        let mut fds = [PollFd::new(&self.far, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "no frame came");
        self.try_receive().unwrap()
    }

    /// The next frame, if there is one.
    pub(super) fn try_receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 0x2_0000];
        match rustix::io::read(&self.far, &mut frame) {
            Ok(len) => {
                frame.truncate(len);
                Some(frame)
            }
            Err(Errno::AGAIN) => None,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// A card without anything special.
pub(super) fn config() -> Config {
    Config {
        iface_id: "eth0".to_owned(),
        host_dev_name: "tap0".parse().unwrap(),
        guest_mac: None,
        mtu: None,
        rx_rate_limiter: None,
        tx_rate_limiter: None,
    }
}

/// A frame of `len` bytes behind an empty header; every `seed` gives another.
pub(super) fn frame(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    let pattern = (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap() ^ seed);
    bytes.extend(pattern);
    bytes
}
