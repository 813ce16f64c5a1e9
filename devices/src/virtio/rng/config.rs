//! What a user may say about the entropy source.

use std::io;

use crate::limiter::RateLimiter;

/// An entropy source.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How much the guest may read; operations are requests.
    #[serde(default)]
    pub limiter: RateLimiter,
}

/// Why an entropy source could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel grants no timer for the limits.
    #[error("cannot make a timer for the limits of the entropy source: {0}")]
    Timer(io::Error),
}
