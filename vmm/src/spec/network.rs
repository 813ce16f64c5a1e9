//! A network card, as a user describes it.

use devices::limiter::RateLimiter;
use serde::{Deserialize, Serialize};

/// A network card on a tap of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterface {
    /// Its name: letters, digits and underscores.
    pub iface_id: String,
    /// The tap on the host.
    pub host_dev_name: String,
    /// The guest's MAC address; without one, an address made from the tap's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_mac: Option<String>,
    /// The largest packet, in bytes, that the guest is told to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// How much the guest may receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_rate_limiter: Option<RateLimiter>,
    /// How much the guest may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_rate_limiter: Option<RateLimiter>,
}
