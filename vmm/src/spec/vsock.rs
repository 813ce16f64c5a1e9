//! The socket between guest and host.

use serde::{Deserialize, Serialize};

use super::SpecError;

/// The least context id of a guest: 0 to 2 are the hypervisor's, the local machine's and the host's
/// (virtio 1.2 §5.10.4).
const LEAST_CID: u32 = 3;

/// A socket between guest and host (virtio 1.2 §5.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's context id, from 3 on.
    #[cfg_attr(feature = "schema", schemars(range(min = LEAST_CID)))]
    pub guest_cid: u32,
    /// The unix socket on the host's side: a path, or `fd:NAME`, a listening one that was passed.
    pub uds_path: String,
    /// Deprecated: a name, which is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("deprecated" = true)))]
    pub vsock_id: Option<String>,
}

impl Vsock {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        if self.guest_cid < LEAST_CID {
            return Err(SpecError::Cid(self.guest_cid));
        }
        if self.uds_path.is_empty() {
            return Err(SpecError::NoVsockPath);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_a_context_id_from_3_on() {
        for (cid, ok) in [(0, false), (2, false), (3, true), (u32::MAX, true)] {
            let vsock = Vsock {
                guest_cid: cid,
                uds_path: "v.sock".to_owned(),
                vsock_id: None,
            };
            assert_eq!(vsock.validate().is_ok(), ok, "{cid}");
        }
    }
}
