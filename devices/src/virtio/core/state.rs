//! A device's saved negotiation and queues. **Saved state is no more trusted than a guest**: it passes the
//! checks that a driver's own writes pass.

use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::status::{FAILED, FEATURES_OK};
use super::{Core, STEPS, Serving};
use crate::virtio::device::DeviceType;
use crate::virtio::queue::{SavedQueue, VirtQueue};

/// Why saved state was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The state is of another kind of device.
    #[error("the saved state is of a {saved:?} device and this is a {present:?} device")]
    DeviceType {
        /// What was saved.
        saved: DeviceType,
        /// What is here.
        present: DeviceType,
    },
    /// Bits that the state machine cannot have.
    #[error("the saved status {0:#x} is none that a device can have")]
    Status(u8),
    /// Features that the device does not offer.
    #[error("the saved features {0:#x} are not all offered by this device")]
    Features(u64),
    /// A queue with settings that the driver could not have made.
    #[error("the saved queue {0} has settings that no driver could have made")]
    Queue(usize),
}

/// A device's saved negotiation and queues: version 1 of the format.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreState {
    /// The kind of device.
    pub device_type: DeviceType,
    /// The status bits, without NEEDS_RESET.
    pub status: u8,
    /// Whether the device waits for a reset.
    pub needs_reset: bool,
    /// The features that the driver accepted.
    pub driver_features: u64,
    /// The config space's generation.
    pub generation: u32,
    /// The interrupt causes not yet acknowledged.
    pub causes: u32,
    /// The queues, in order.
    pub queues: Vec<SavedQueue>,
}

impl Core {
    /// The state to save, while paused. `None` while the queues are lent.
    pub fn save(&self) -> Option<CoreState> {
        let Serving::Stopped(queues) = &self.serving else {
            return None;
        };
        Some(CoreState {
            device_type: self.device_type(),
            status: self.status,
            needs_reset: self.interrupt.needs_reset(),
            driver_features: self.driver_features,
            generation: self.generation,
            causes: self.interrupt.causes(),
            queues: queues.iter().map(VirtQueue::save).collect(),
        })
    }

    /// Takes up saved state on a device after power-on; `resume` then starts it. The state passes the
    /// same checks as a driver's own writes: a snapshot is no more trusted than a guest.
    ///
    /// # Errors
    /// When the state is none that this device could have had.
    pub fn restore(&mut self, saved: &CoreState) -> Result<(), RestoreError> {
        if saved.device_type != self.device_type() {
            return Err(RestoreError::DeviceType {
                saved: saved.device_type,
                present: self.device_type(),
            });
        }
        if !is_reachable(saved.status) {
            return Err(RestoreError::Status(saved.status));
        }
        let agreed = saved.status & FEATURES_OK != 0;
        if agreed && !self.is_acceptable(saved.driver_features) {
            return Err(RestoreError::Features(saved.driver_features));
        }
        self.restore_queues(saved)?;
        self.status = saved.status;
        self.driver_features = saved.driver_features;
        self.generation = saved.generation;
        self.interrupt.restore(saved.causes);
        if saved.needs_reset {
            self.interrupt.fail();
        }
        Ok(())
    }

    fn restore_queues(&mut self, saved: &CoreState) -> Result<(), RestoreError> {
        let Serving::Stopped(queues) = &mut self.serving else {
            return Err(RestoreError::Queue(0));
        };
        if queues.len() != saved.queues.len() {
            return Err(RestoreError::Queue(saved.queues.len()));
        }
        let event_idx = saved.driver_features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for (index, (queue, state)) in queues.iter_mut().zip(&saved.queues).enumerate() {
            queue
                .restore(state, event_idx)
                .map_err(|_| RestoreError::Queue(index))?;
            if state.ready && !queue.is_sound(&self.ram) {
                return Err(RestoreError::Queue(index));
            }
        }
        Ok(())
    }
}

/// Whether the state machine can arrive at these bits.
fn is_reachable(status: u8) -> bool {
    let steps = status & !FAILED;
    (0..=STEPS.len()).any(|n| STEPS.iter().take(n).fold(0, |bits, bit| bits | bit) == steps)
}
