//! Guests behind a socket: what of the API only a real guest shows, and clients that others have written.

mod actions;
mod card;
mod client;
mod clients;
mod descriptors;
mod drives;
mod events;
mod mmds;
mod monitor;
mod network;
mod pause;

/// The tests of every module here.
pub(crate) const TESTS: &[&[crate::Test]] = &[
    actions::TESTS,
    clients::TESTS,
    descriptors::TESTS,
    drives::TESTS,
    events::TESTS,
    mmds::TESTS,
    network::TESTS,
    pause::TESTS,
];
