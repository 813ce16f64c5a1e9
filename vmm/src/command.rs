//! What a caller may ask of a running machine.

use devices::catalog::Update;

/// A request to a running machine.
#[derive(Debug)]
pub enum Command {
    /// Park every vCPU and take the queues back from the workers.
    Pause,
    /// Run on after [`Command::Pause`].
    Resume,
    /// Ask the guest to switch itself off.
    PressPowerButton,
    /// Give a virtio device a new setting.
    Update {
        /// The drive's or network interface's id.
        id: String,
        /// The setting.
        update: Update,
    },
}

/// Why a request was refused; the machine is as before.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such device.
    #[error("there is no device with the id `{0}`")]
    NoDevice(String),
    /// The device refused the setting.
    #[error("the device `{id}` was not changed: {source}")]
    Update {
        /// Which device.
        id: String,
        /// Why.
        source: devices::catalog::UpdateError,
    },
    /// A vCPU does not answer.
    #[error(transparent)]
    Vcpu(#[from] crate::machine::VcpuThreadError),
}
