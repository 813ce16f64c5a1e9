//! The guest's serial port, as a user describes it: the body of `PUT /serial`.

use serde::{Deserialize, Serialize};

use super::TokenBucket;

/// The serial port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// A file or named pipe for what the guest says; without one, ravelin's stdout.
    #[serde(default)]
    pub serial_out_path: Option<String>,
    /// How much the guest may say, in bytes.
    #[serde(default)]
    pub rate_limiter: Option<TokenBucket>,
}
