//! The socket between guest and host.

use vmm::command::Setting;
use vmm::spec::Vsock;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// `PUT /vsock`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let vsock: Vsock = ask.json()?;
    let deprecated = vsock.vsock_id.is_some();
    Ok(Parsed::from(Setting::Vsock(vsock)).deprecated(deprecated))
}
