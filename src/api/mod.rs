//! The REST socket: Firecracker's API, wire for wire, and ravelin's own paths beside it.
//!
//! A request goes one way: [`http`] reads it, [`route`] finds its row, the resource's module turns its body
//! into a [`Command`](vmm::command::Command), the main thread does it, [`reply`] turns the outcome into an
//! answer.

mod count;
mod fault;
pub(crate) mod http;
#[cfg(test)]
mod openapi;
mod reply;
mod request;
mod resources;
mod route;
mod service;

pub(crate) use reply::FIRECRACKER_VERSION;
pub(crate) use service::Api;
