//! What a description names, opened: files, taps, and descriptors that somebody else has opened.
//!
//! A path that begins with `fd:` is none: it names a descriptor that was passed in ([`Parcels`]). So the
//! same words describe a VM whose monitor can open nothing.

mod parcels;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use devices::outside;
use devices::virtio::block;
use devices::virtio::net::{Mtu, Tap, TapError, TapName};
use devices::virtio::vsock;

use rustix::fs::OFlags;

pub use parcels::{DepositError, Parcels};

use crate::boot::{BootError, CommandLineError, FileFault, ImageFile};
use crate::host;
use crate::spec::{BootSource, Drive, NetworkInterface, SpecError, Vsock, is_passed};

/// Why something that was described cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The description itself is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The kernel or the initrd.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The kernel's command line.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The file behind a disk.
    #[error(transparent)]
    Disk(#[from] block::OpenError),
    /// The tap behind a network card.
    #[error("Open tap device failed: {0}")]
    Tap(#[from] TapError),
    /// The sockets behind the vsock device.
    #[error(transparent)]
    Vsock(#[from] vsock::SocketError),
    /// No descriptor was passed under this name.
    #[error(
        "no descriptor was passed under the name `{0}`: send it first, with PUT /ravelin/fds/{0}"
    )]
    NoParcel(String),
    /// The kernel grants no copy of it.
    #[error(
        "the descriptor `{name}` cannot be copied ({reason}): close some, or raise the limit on open files"
    )]
    Copy {
        /// Its name.
        name: String,
        /// What the kernel said.
        reason: std::io::Error,
    },
    /// The file for the guest's output.
    #[error(
        "the file {path} for the guest's output cannot be opened ({reason}): name one that this user may write, in a directory that exists"
    )]
    Output {
        /// The file.
        path: String,
        /// What the kernel said.
        reason: std::io::Error,
    },
}

impl OpenError {
    /// Whether the description itself is wrong, and not what it was found to name.
    pub fn is_of_the_description(&self) -> bool {
        matches!(
            self,
            Self::Spec(_) | Self::CommandLine(_) | Self::Boot(BootError::CommandLine(_))
        )
    }

    /// Whether somebody else has what is asked for.
    fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Disk(block::OpenError::Busy(_)) | Self::Tap(TapError::Busy(_))
        )
    }

    /// Whether the file at `path` is in use, and it is the one that `held` is.
    fn is_busy_with(&self, held: &File, path: &str, parcels: &Parcels) -> bool {
        FileId::of(held).is_some_and(|id| self.is_busy_file(id, path, parcels))
    }

    /// Whether the file at `path` is in use, and it is this one.
    pub(crate) fn is_busy_file(&self, id: FileId, path: &str, parcels: &Parcels) -> bool {
        matches!(self, Self::Disk(block::OpenError::Busy(_)))
            && FileId::at(Path::new(path), parcels) == Some(id)
    }
}

/// Which file something is, whatever paths lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of an open file.
    pub(crate) fn of(file: &File) -> Option<Self> {
        file.metadata().ok().map(Self::from)
    }

    /// That of the file that a path names now.
    fn at(path: &Path, parcels: &Parcels) -> Option<Self> {
        match parcels.copy(path).ok()? {
            Some(parcel) => Self::of(&parcel.into()),
            None => Self::of(&outside::open(path, OFlags::PATH).ok()?),
        }
    }
}

impl From<fs::Metadata> for FileId {
    fn from(metadata: fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What was opened for a VM that is described, under the ids of the description.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The kernel and the initrd.
    images: Option<(ImageFile, Option<ImageFile>)>,
    disks: BTreeMap<String, File>,
    taps: BTreeMap<String, Tap>,
    vsock: Option<(vsock::Host, Option<vsock::Bound>)>,
}

impl Opened {
    /// Opens the kernel and the initrd, in place of those that were open.
    pub(crate) fn boot_source(
        &mut self,
        boot: &BootSource,
        parcels: &mut Parcels,
    ) -> Result<(), OpenError> {
        let kernel = image(&boot.kernel_image_path, parcels)?;
        let path = || Path::new(&boot.kernel_image_path).to_owned();
        let kernel = kernel.map_err(|fault| BootError::Kernel {
            path: path(),
            fault: fault.into(),
        })?;
        let initrd = match &boot.initrd_path {
            None => None,
            Some(path) => {
                let initrd = image(path, parcels)?;
                Some(initrd.map_err(|fault| BootError::Initrd {
                    path: Path::new(path).to_owned(),
                    fault: fault.into(),
                })?)
            }
        };
        self.images = Some((kernel, initrd));
        Ok(())
    }

    /// Copies of the kernel and the initrd, opened now if they are not. The originals stay, for a start that
    /// fails may be tried again.
    pub(crate) fn images(
        &mut self,
        boot: &BootSource,
        parcels: &mut Parcels,
    ) -> Result<(ImageFile, Option<ImageFile>), OpenError> {
        if self.images.is_none() {
            self.boot_source(boot, parcels)?;
        }
        let (kernel, initrd) = self.images.as_ref().expect("the images are open");
        let initrd = initrd.as_ref().map(ImageFile::try_clone).transpose();
        match (kernel.try_clone(), initrd) {
            (Ok(kernel), Ok(initrd)) => Ok((kernel, initrd)),
            (Err(reason), _) | (_, Err(reason)) => {
                Err(copy_failed(&boot.kernel_image_path, reason))
            }
        }
    }

    /// Opens the file behind `drive`, in place of the one that the drive of this id had; that one, which
    /// `before` describes, stays if the new one cannot be had.
    pub(crate) fn drive(
        &mut self,
        drive: &Drive,
        before: Option<&Drive>,
        parcels: &mut Parcels,
    ) -> Result<(), OpenError> {
        let path = &drive.path_on_host;
        let held = before.zip(self.disks.get(&drive.drive_id));
        let opened = again_if(OpenError::is_busy, || disk(drive, path, parcels));
        let file = match (opened, held) {
            (Err(error), Some((before, held))) if error.is_busy_with(held, path, parcels) => {
                disk_again(drive, before, held, parcels)
            }
            (opened, _) => opened,
        }?;
        parcels.spend(Path::new(path));
        self.disks.insert(drive.drive_id.clone(), file);
        Ok(())
    }

    /// Which files the disks are.
    pub(crate) fn disk_files(&self) -> BTreeMap<String, FileId> {
        let files = self.disks.iter();
        files
            .filter_map(|(id, file)| Some((id.clone(), FileId::of(file)?)))
            .collect()
    }

    /// A copy of the file behind `drive`, as [`Opened::images`].
    pub(crate) fn disk(&mut self, drive: &Drive, parcels: &mut Parcels) -> Result<File, OpenError> {
        if !self.disks.contains_key(&drive.drive_id) {
            self.drive(drive, None, parcels)?;
        }
        let file = &self.disks[&drive.drive_id];
        file.try_clone()
            .map_err(|reason| copy_failed(&drive.path_on_host, reason))
    }

    /// Attaches to the tap behind `card`, in place of the one that the card of this id had, which `before`
    /// describes. A tap that is to stay is let go of first, since it has room for one.
    pub(crate) fn card(
        &mut self,
        card: &NetworkInterface,
        before: Option<&NetworkInterface>,
        parcels: &mut Parcels,
    ) -> Result<(), OpenError> {
        let id = &card.iface_id;
        let same = before.filter(|old| {
            old.host_dev_name == card.host_dev_name && !is_passed(card.host_dev_name.as_str())
        });
        if same.is_some() {
            self.taps.remove(id);
        }
        let opened = again_if(OpenError::is_busy, || tap(card, parcels));
        if opened.is_err()
            && let Some(Ok(old)) = same.map(|old| tap(old, parcels))
        {
            self.taps.insert(id.clone(), old);
        }
        self.taps.insert(id.clone(), opened?);
        Ok(())
    }

    /// A copy of the tap behind `card`, as [`Opened::images`].
    pub(crate) fn tap(
        &mut self,
        card: &NetworkInterface,
        parcels: &mut Parcels,
    ) -> Result<Tap, OpenError> {
        if !self.taps.contains_key(&card.iface_id) {
            self.card(card, None, parcels)?;
        }
        let tap = self.taps[&card.iface_id].as_fd().try_clone_to_owned();
        tap.map(Tap::from)
            .map_err(|reason| copy_failed(card.host_dev_name.as_str(), reason))
    }

    /// Makes the socket behind `vsock`, or takes the one that was passed, in place of the one of before. That one stays
    /// if it is the same, or if the new one cannot be had.
    pub(crate) fn vsock(
        &mut self,
        vsock: &Vsock,
        before: Option<&Vsock>,
        parcels: &mut Parcels,
    ) -> Result<(), OpenError> {
        let path = Path::new(&vsock.uds_path);
        let is_same = before.is_some_and(|old| old.uds_path == vsock.uds_path);
        let host = match parcels.copy(path)? {
            Some(parcel) => (vsock::Host::adopt(path, parcel)?, None),
            None if is_same && self.vsock.is_some() => return Ok(()),
            None => again_if(vsock::SocketError::is_busy, || vsock::Host::bind(path))?,
        };
        parcels.spend(path);
        self.vsock = Some(host);
        Ok(())
    }

    /// The file of the socket behind the vsock device, if this process has made it: whoever takes it keeps it.
    pub(crate) fn vsock_file(&mut self) -> Option<vsock::Bound> {
        self.vsock.as_mut()?.1.take()
    }

    /// A copy of the sockets behind `vsock`, as [`Opened::images`].
    pub(crate) fn vsock_host(
        &mut self,
        vsock: &Vsock,
        parcels: &mut Parcels,
    ) -> Result<vsock::Host, OpenError> {
        if self.vsock.is_none() {
            self.vsock(vsock, None, parcels)?;
        }
        let (host, _) = self.vsock.as_ref().expect("the sockets are open");
        host.try_clone()
            .map_err(|reason| copy_failed(&vsock.uds_path, reason))
    }
}

/// Opens the tap `name` for a process that may not itself, with an MTU of `mtu` bytes, or the one that it has where
/// that is 0.
///
/// # Errors
/// A sentence.
pub fn open_tap(name: &str, mtu: u16) -> Result<OwnedFd, String> {
    let name = TapName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mtu = match mtu {
        0 => None,
        mtu => Some(Mtu::try_from(u64::from(mtu)).map_err(|error| error.to_string())?),
    };
    let is_busy = |error: &TapError| matches!(error, TapError::Busy(_));
    let tap = again_if(is_busy, || Tap::open(&name, mtu)).map_err(|error| error.to_string())?;
    Ok(tap.into())
}

/// Tries once more what somebody else has, if that is a monitor that is just ending: who has killed one starts the next
/// at once.
fn again_if<T, E>(
    is_busy: impl Fn(&E) -> bool,
    mut open: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match open() {
        Err(error) if is_busy(&error) && host::await_ending() => open(),
        opened => opened,
    }
}

fn copy_failed(name: &str, reason: std::io::Error) -> OpenError {
    OpenError::Copy {
        name: name.to_owned(),
        reason,
    }
}

/// Opens `path` for the disk `drive`. A descriptor that it names is the caller's to spend.
pub(crate) fn disk(drive: &Drive, path: &str, parcels: &Parcels) -> Result<File, OpenError> {
    let path = Path::new(path);
    Ok(match parcels.copy(path)? {
        Some(parcel) => block::adopt(path, parcel.into(), drive.is_read_only)?,
        None => block::open(path, drive.is_read_only)?,
    })
}

/// Opens the file behind `drive` although `held` has it locked for the drive that it was before. The lock is
/// taken back if that fails.
fn disk_again(
    drive: &Drive,
    before: &Drive,
    held: &File,
    parcels: &Parcels,
) -> Result<File, OpenError> {
    let locked = |error| {
        OpenError::Disk(block::OpenError::Open {
            path: Path::new(&before.path_on_host).to_owned(),
            source: error,
        })
    };
    held.unlock().map_err(locked)?;
    let opened = disk(drive, &drive.path_on_host, parcels);
    if opened.is_err() {
        // Nobody can have taken it but in this moment; then two have it, as without any lock.
        let _ = match before.is_read_only {
            true => held.try_lock_shared(),
            false => held.try_lock(),
        };
    }
    opened
}

fn tap(card: &NetworkInterface, parcels: &mut Parcels) -> Result<Tap, OpenError> {
    let name = &card.host_dev_name;
    let path = Path::new(name.as_str());
    let tap = match parcels.copy(path)? {
        Some(parcel) => Tap::adopt(name, parcel)?,
        None => Tap::open(name, card.mtu)?,
    };
    parcels.spend(path);
    Ok(tap)
}

/// Opens a kernel or initrd; what is wrong with the file itself, the caller names.
fn image(path: &str, parcels: &mut Parcels) -> Result<Result<ImageFile, FileFault>, OpenError> {
    let path = Path::new(path);
    let image = match parcels.copy(path)? {
        Some(parcel) => ImageFile::from_file(path, parcel.into()),
        None => ImageFile::open(path),
    };
    if image.is_ok() {
        parcels.spend(path);
    }
    Ok(image)
}
