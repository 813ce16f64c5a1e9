//! What a user may say about the entropy source.

use std::io;

/// The entropy source has no settings: it is there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Why an entropy source could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's source of randomness cannot be opened.
    #[error("cannot open /dev/urandom: {0}")]
    Source(io::Error),
}
