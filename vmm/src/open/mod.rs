//! What a description names, opened: files, taps, and descriptors that somebody else has opened.
//!
//! A path that begins with `fd:` is none: it names a descriptor that was passed in ([`Parcels`]). So the
//! same words describe a VM whose monitor can open nothing.

mod parcels;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use devices::virtio::block;
use devices::virtio::net::{Tap, TapError};

pub use parcels::{DepositError, Parcels};

use crate::boot::{BootError, CommandLineError, FileFault, ImageFile};
use crate::spec::{BootSource, Drive, NetworkInterface, SpecError};

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
}

/// What was opened for a VM that is described, under the ids of the description.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The kernel and the initrd.
    images: Option<(ImageFile, Option<ImageFile>)>,
    disks: BTreeMap<String, File>,
    taps: BTreeMap<String, Tap>,
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

    /// Opens the file behind `drive`. `before` is what the drive of this id was: its file is given up, since
    /// the same file cannot be locked twice, and taken back if the new one cannot be had.
    pub(crate) fn drive(
        &mut self,
        drive: &Drive,
        before: Option<&Drive>,
        parcels: &mut Parcels,
    ) -> Result<(), OpenError> {
        drop(self.disks.remove(&drive.drive_id));
        match disk(drive, &drive.path_on_host, parcels) {
            Ok(file) => {
                self.disks.insert(drive.drive_id.clone(), file);
                Ok(())
            }
            Err(error) => {
                if let Some(Ok(file)) = before.map(|old| disk(old, &old.path_on_host, parcels)) {
                    self.disks.insert(drive.drive_id.clone(), file);
                }
                Err(error)
            }
        }
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

    /// Attaches to the tap behind `card`. `before` is what the card of this id was, as for a drive.
    pub(crate) fn card(
        &mut self,
        card: &NetworkInterface,
        before: Option<&NetworkInterface>,
        parcels: &mut Parcels,
    ) -> Result<(), OpenError> {
        drop(self.taps.remove(&card.iface_id));
        match tap(card, parcels) {
            Ok(tap) => {
                self.taps.insert(card.iface_id.clone(), tap);
                Ok(())
            }
            Err(error) => {
                if let Some(Ok(tap)) = before.map(|old| tap(old, parcels)) {
                    self.taps.insert(card.iface_id.clone(), tap);
                }
                Err(error)
            }
        }
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
}

fn copy_failed(name: &str, reason: std::io::Error) -> OpenError {
    OpenError::Copy {
        name: name.to_owned(),
        reason,
    }
}

/// Opens `path` for the disk `drive`.
pub(crate) fn disk(drive: &Drive, path: &str, parcels: &mut Parcels) -> Result<File, OpenError> {
    let path = Path::new(path);
    let file = match parcels.copy(path)? {
        Some(parcel) => block::adopt(path, parcel.into(), drive.is_read_only)?,
        None => block::open(path, drive.is_read_only)?,
    };
    parcels.spend(path);
    Ok(file)
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
