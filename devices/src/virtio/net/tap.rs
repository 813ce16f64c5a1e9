//! The tap behind a card: opened by whoever may, then passed to the device as an fd.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::outside;
use crate::virtio::net::config::{Mtu, TapName};
use crate::virtio::net::{HEADER, ioctl};

/// What carries frames, each with a header of [`HEADER`] bytes before it. Reads and writes do not block.
pub trait Port: AsFd + Send + 'static {
    /// Says which unfinished frames may be read from now on: a set of the tun driver's `TUN_F_` bits.
    ///
    /// # Errors
    /// When the other side cannot finish the frames that the guest does not take.
    fn set_offloads(&mut self, flags: libc::c_uint) -> io::Result<()>;
}

/// A tap, ready for use: attached to its interface, with virtio's header before each frame. The
/// interface vanishes with the tap if it was made with it.
#[derive(Debug)]
pub struct Tap(OwnedFd);

/// Why a tap cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The tun driver is missing.
    #[error("this host has no /dev/net/tun; load the driver with `modprobe tun`")]
    NoDriver,
    /// The driver may not be opened.
    #[error("/dev/net/tun may not be opened by this user; change its permissions or the user")]
    Driver,
    /// The interface does not exist and may not be made.
    #[error(
        "the tap {0} does not exist and this user may not create it; make it first with `ip tuntap add {0} mode tap user $USER` as root, or run with CAP_NET_ADMIN"
    )]
    MayNotCreate(TapName),
    /// The interface belongs to another user.
    #[error(
        "the tap {0} belongs to another user; make it with `ip tuntap add {0} mode tap user $USER` as root, or run with CAP_NET_ADMIN"
    )]
    MayNotUse(TapName),
    /// Another process has it open.
    #[error(
        "the tap {0} is in use by another process (Resource busy); stop that one or use another tap"
    )]
    Busy(TapName),
    /// An interface of another kind.
    #[error(
        "the interface {0} exists and is not a tap; use another name, or make it with `ip tuntap add {0} mode tap`"
    )]
    NotATap(TapName),
    /// A tap that was made for several queues.
    #[error(
        "the tap {0} was made for several queues and a card here has one; make it again without `multi_queue`"
    )]
    MultiQueue(TapName),
    /// A descriptor that is no attached tap.
    #[error(
        "the descriptor {0} is no tap that is attached with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR to one queue; attach it before it is passed"
    )]
    NotPassed(TapName),
    /// The MTU is another one than asked for.
    #[error(
        "the tap {name} has an MTU of {present} bytes and {wanted} were asked for; set it with `ip link set {name} mtu {wanted}`, or ask for {present}"
    )]
    Mtu {
        /// The tap.
        name: TapName,
        /// Its MTU.
        present: i32,
        /// The MTU asked for.
        wanted: u16,
    },
    /// What was said by whoever opens taps for this process.
    #[error("{0}")]
    Outside(String),
    /// Anything else.
    #[error("cannot {act} the tap {name}: {source}")]
    Setup {
        /// What was tried.
        act: &'static str,
        /// The tap.
        name: TapName,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Tap {
    /// Attaches to the tap `name` of this thread's network namespace. One that exists is used as it
    /// is; one that does not is made with the MTU asked for, set up, and vanishes with the result.
    ///
    /// # Errors
    /// When the tap may not be had, is in use, or is not as asked for.
    pub fn open(name: &TapName, mtu: Option<Mtu>) -> Result<Self, TapError> {
        match outside::way() {
            Some(way) => way
                .tap(name.as_str(), mtu.map_or(0, Mtu::get))
                .map_err(TapError::Outside)
                .and_then(|tap| Self::adopt(name, tap)),
            None => Self::open_here(name, mtu),
        }
    }

    fn open_here(name: &TapName, mtu: Option<Mtu>) -> Result<Self, TapError> {
        let setup = |act| {
            move |source| TapError::Setup {
                act,
                name: name.clone(),
                source,
            }
        };
        let (tun, is_new) = match create(name)? {
            Some(tun) => (tun, true),
            None => (attach(name)?, false),
        };
        let header = libc::c_int::try_from(HEADER).unwrap_or(libc::c_int::MAX);
        ioctl::set_header_size(tun.as_fd(), header)
            .and_then(|()| ioctl::set_offloads(tun.as_fd(), 0))
            .map_err(setup("set the headers of"))?;
        let kind = (AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC);
        let socket = socket_with(kind.0, kind.1, kind.2, None)
            .map_err(|errno| setup("ask about")(errno.into()))?;
        if is_new {
            if let Some(mtu) = mtu {
                ioctl::set_mtu(socket.as_fd(), name, mtu.get()).map_err(setup("set the MTU of"))?;
            }
            ioctl::set_up(socket.as_fd(), name).map_err(setup("set up"))?;
        } else {
            check(socket.as_fd(), name, mtu)?;
        }
        Ok(Self(tun.into()))
    }

    /// Takes a descriptor of `/dev/net/tun` that somebody else has attached to a tap, in whatever network
    /// namespace; `name` is what messages call it. Its MTU is that somebody's to set.
    ///
    /// # Errors
    /// When it is no such descriptor, or its tap has no headers for offloads (`IFF_VNET_HDR`).
    pub fn adopt(name: &TapName, tap: OwnedFd) -> Result<Self, TapError> {
        let header = libc::c_int::try_from(HEADER).unwrap_or(libc::c_int::MAX);
        let wanted = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let is_tap = ioctl::attached(tap.as_fd()).is_ok_and(|flags| {
            let flags = libc::c_int::from(flags);
            flags & wanted == wanted && flags & libc::IFF_MULTI_QUEUE == 0
        });
        if !is_tap {
            return Err(TapError::NotPassed(name.clone()));
        }
        fcntl_getfl(&tap)
            .and_then(|flags| fcntl_setfl(&tap, flags | OFlags::NONBLOCK))
            .map_err(io::Error::from)
            .and_then(|()| ioctl::set_header_size(tap.as_fd(), header))
            .and_then(|()| ioctl::set_offloads(tap.as_fd(), 0))
            .map_err(|source| TapError::Setup {
                act: "set the headers of",
                name: name.clone(),
                source,
            })?;
        Ok(Self(tap))
    }
}

impl Port for Tap {
    fn set_offloads(&mut self, flags: libc::c_uint) -> io::Result<()> {
        ioctl::set_offloads(self.0.as_fd(), flags)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An fd from [`Tap::open`] in another process.
impl From<OwnedFd> for Tap {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Tap> for OwnedFd {
    fn from(tap: Tap) -> Self {
        tap.0
    }
}

/// Makes a tap; `None` when an interface of this name exists, of whatever kind.
fn create(name: &TapName) -> Result<Option<File>, TapError> {
    let tun = open_driver(name)?;
    match bind(&tun, name, libc::IFF_TUN_EXCL) {
        Ok(()) => Ok(Some(tun)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::BUSY) => Ok(None),
            Some(Errno::PERM | Errno::ACCESS) => Err(TapError::MayNotCreate(name.clone())),
            _ => Err(TapError::Setup {
                act: "create",
                name: name.clone(),
                source: error,
            }),
        },
    }
}

/// Attaches to a tap that exists.
fn attach(name: &TapName) -> Result<File, TapError> {
    let tun = open_driver(name)?;
    let Err(source) = bind(&tun, name, 0) else {
        return Ok(tun);
    };
    let name = name.clone();
    Err(match Errno::from_io_error(&source) {
        Some(Errno::BUSY) => TapError::Busy(name),
        Some(Errno::PERM | Errno::ACCESS) => TapError::MayNotUse(name),
        // The driver says the same of both.
        Some(Errno::INVAL) if bind(&tun, &name, libc::IFF_MULTI_QUEUE).is_ok() => {
            TapError::MultiQueue(name)
        }
        Some(Errno::INVAL) => TapError::NotATap(name),
        _ => TapError::Setup {
            act: "attach to",
            name,
            source,
        },
    })
}

fn bind(tun: &File, name: &TapName, extra: libc::c_int) -> io::Result<()> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | extra;
    let flags = u16::try_from(flags).map_err(|_| io::Error::from(Errno::INVAL))?;
    ioctl::attach(tun.as_fd(), name, flags)
}

fn open_driver(name: &TapName) -> Result<File, TapError> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    outside::open(Path::new("/dev/net/tun"), flags).map_err(|source| {
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => TapError::NoDriver,
            Some(Errno::PERM | Errno::ACCESS) => TapError::Driver,
            _ => TapError::Setup {
                act: "open /dev/net/tun for",
                name: name.clone(),
                source,
            },
        }
    })
}

/// Whether a tap of the user's own is as asked for; it is not ours to change.
fn check(socket: BorrowedFd<'_>, name: &TapName, mtu: Option<Mtu>) -> Result<(), TapError> {
    let ask = |source| TapError::Setup {
        act: "ask about",
        name: name.clone(),
        source,
    };
    let present = ioctl::mtu(socket, name).map_err(ask)?;
    if let Some(wanted) = mtu.map(Mtu::get)
        && i32::from(wanted) != present
    {
        return Err(TapError::Mtu {
            name: name.clone(),
            present,
            wanted,
        });
    }
    if !ioctl::is_up(socket, name).map_err(ask)? {
        log::warn!(
            "the tap {name} is down and carries nothing; set it up with `ip link set {name} up`"
        );
    }
    Ok(())
}
