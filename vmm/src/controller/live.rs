//! A VM whose machine exists.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;

use devices::catalog::Update;
use devices::virtio::{block, vsock};

use super::Draft;
use crate::arch::x86_64::reset_by_panic;
use crate::command::{DriveUpdate, NetworkUpdate, Phase, UpdateError};
use crate::end::{Ends, Finish, GuestEnd};
use crate::event::borrow;
use crate::machine::{Console, Devices, Guest, VcpuThreadError};
use crate::metrics::Metrics;
use crate::open::{self, FileId, OpenError, Parcels};
use crate::spec::{Drive, Spec};

/// A VM whose vCPUs have started.
#[derive(Debug)]
pub struct Live {
    // Dropped first: no vCPU runs when the devices go.
    guest: Guest,
    devices: Devices,
    ends: Ends,
    spec: Spec,
    /// Which files the disks are, under their ids.
    disk_files: BTreeMap<String, FileId>,
    phase: Phase,
    /// The file of the vsock device's socket, if it is to be removed at the end.
    _vsock_file: Option<vsock::Bound>,
}

impl Live {
    /// A machine that runs, as `draft` describes it.
    pub(super) fn new(draft: &mut Draft, guest: Guest, devices: Devices, ends: Ends) -> Self {
        Self {
            guest,
            devices,
            ends,
            spec: draft.spec.clone(),
            disk_files: draft.opened.disk_files(),
            phase: Phase::Running,
            _vsock_file: draft.opened.vsock_file(),
        }
    }

    /// The description, with what was changed since the start.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the vCPUs run.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Parks every vCPU and takes the queues back from the workers.
    pub(super) fn pause(&mut self) -> Result<(), VcpuThreadError> {
        self.guest.pause()?;
        self.devices.pause();
        self.phase = Phase::Paused;
        Ok(())
    }

    /// Lends the queues out again and lets the vCPUs run.
    pub(super) fn resume(&mut self) -> Result<(), VcpuThreadError> {
        self.devices.resume();
        self.guest.resume()?;
        self.phase = Phase::Running;
        Ok(())
    }

    /// Has everything that the machine counts told of.
    pub(super) fn count_in(&self, metrics: &mut Metrics) {
        self.guest.count_in(metrics);
        self.devices.count_in(metrics);
    }

    /// Gives a disk another file, or its present one's new size, and other limits.
    pub(super) fn update_drive(
        &mut self,
        update: DriveUpdate,
        parcels: &mut Parcels,
    ) -> Result<(), UpdateError> {
        let id = &update.drive_id;
        let drive = self.spec.drives.iter_mut().find(|one| one.drive_id == *id);
        let drive = drive.ok_or_else(|| UpdateError::NoDevice(id.clone()))?;
        let present = self.disk_files.get(id).copied();
        let file = match &update.path_on_host {
            None => None,
            Some(path) => other_file(drive, present, path, parcels)?,
        };
        let new = file.as_ref().and_then(FileId::of);
        let limiter = update.rate_limiter;
        self.devices
            .update(id, Update::Block(block::Update { file, limiter }))?;
        self.disk_files.extend(new.map(|new| (id.clone(), new)));
        if let Some(path) = update.path_on_host {
            parcels.spend(Path::new(&path));
            drive.path_on_host = path;
        }
        merge(&mut drive.rate_limiter, limiter);
        Ok(())
    }

    /// Gives a network card other limits.
    pub(super) fn update_network(&mut self, update: &NetworkUpdate) -> Result<(), UpdateError> {
        let id = &update.iface_id;
        let mut cards = self.spec.network_interfaces.iter_mut();
        let card = cards.find(|one| one.iface_id == *id);
        let card = card.ok_or_else(|| UpdateError::NoDevice(id.clone()))?;
        self.devices
            .update(id, Update::Net(update.clone().into()))?;
        merge(&mut card.rx_rate_limiter, update.rx_rate_limiter);
        merge(&mut card.tx_rate_limiter, update.tx_rate_limiter);
        Ok(())
    }

    /// The devices.
    pub(super) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The guest's serial port, from the user's side.
    pub fn console(&self) -> &Console {
        self.devices.console()
    }

    /// The devices that have failed since the last call (virtio 1.2 §2.1.2, DEVICE_NEEDS_RESET).
    pub fn failed_devices(&self) -> Vec<String> {
        // In this order: a device that fails meanwhile makes the event readable again.
        self.ends.calm();
        self.devices.failed()
    }

    /// Readable when the guest has ended or a device has failed.
    pub fn ended(&self) -> BorrowedFd<'_> {
        borrow(self.ends.event())
    }

    /// How the guest has ended, once.
    pub fn end(&self) -> Option<GuestEnd> {
        self.ends.take()
    }

    /// Stops the vCPUs for good and says what the guest has left. The console's last output can still be
    /// taken.
    pub fn finish(&mut self) -> Finish {
        self.devices.console().output().seal();
        if let Err(error) = self.guest.pause() {
            log::warn!("while ending the guest: {error}");
        }
        Finish {
            exit_status: self.devices.exit_status(),
            panicked: reset_by_panic(self.guest.memory()),
        }
    }
}

/// The file behind `path` for a disk that has one already: `None` where it is the very file of now, which is
/// locked and only needs to be measured again.
fn other_file(
    drive: &Drive,
    present: Option<FileId>,
    path: &str,
    parcels: &Parcels,
) -> Result<Option<File>, OpenError> {
    match open::disk(drive, path, parcels) {
        Ok(file) => Ok(Some(file)),
        Err(error) if present.is_some_and(|id| error.is_busy_file(id, path, parcels)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The limits after an update: a bucket that is not named stays.
fn merge(limits: &mut Option<crate::spec::RateLimiter>, update: Option<crate::spec::RateLimiter>) {
    let Some(update) = update else { return };
    let limits = limits.get_or_insert_default();
    limits.bandwidth = update.bandwidth.or(limits.bandwidth);
    limits.ops = update.ops.or(limits.ops);
}
