//! Guests behind a socket: what of the API only a real guest shows, and clients that others have written.

mod actions;
mod client;
mod clients;
mod descriptors;
mod drives;
mod events;
mod monitor;
mod pause;

/// The tests of every module here.
pub(crate) const TESTS: &[&[crate::Test]] = &[
    actions::TESTS,
    clients::TESTS,
    descriptors::TESTS,
    drives::TESTS,
    events::TESTS,
    pause::TESTS,
];
