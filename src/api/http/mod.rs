//! An HTTP/1.1 server for one Unix socket and few clients, as Firecracker's clients expect it.
//!
//! One thread, one epoll, no runtime. Requests are answered in order and one at a time; a [`Service`] says how.
//!
//! **Everything a client can make the server hold is bounded**, in bytes and in time: see the constants here and
//! [`Limits`]. A client that is slow, silent, wrong or hostile costs its own connection and nothing else.
//!
//! System calls of the serving thread: `epoll_ctl`, `epoll_pwait`, `accept4`, `getsockopt`, `recvmsg`,
//! `sendto`, `shutdown`, `read` and `write` on the event counter, `read` of what is thrown away, `close`, and what the service
//! does.

mod connection;
mod inbox;
mod listen;
mod outbox;
mod parse;
mod peer;
mod receive;
mod response;
mod server;
mod service;
mod slots;
mod stream;
#[cfg(test)]
mod tests;

#[cfg(test)]
use peer::Peer;
#[cfg(test)]
use server::Ending;
#[cfg(test)]
use stream::EventSource;

pub(crate) use listen::Listener;
pub(crate) use response::Response;
pub(crate) use server::{Limits, Server};
pub(crate) use service::{Answer, Method, Request, Service};
pub(crate) use stream::{EventSink, events};

/// Connections at a time; the next one gets a 503. Firecracker's number.
pub(crate) const MAX_CONNECTIONS: usize = 10;
/// Of these, connections that may be event streams.
pub(crate) const MAX_STREAMS: usize = 4;
/// Bytes of a request's line and headers.
pub(crate) const MAX_HEAD: usize = 8192;
/// Headers of a request.
pub(crate) const MAX_HEADERS: usize = 64;
/// Descriptors that may come with a request; what is more is closed.
pub(crate) const MAX_FDS: usize = 16;
/// Bytes that wait for the reader of an event stream; what does not fit is lost to it.
pub(crate) const MAX_BEHIND: usize = 64 * 1024;
/// Bytes of a body unless [`Limits::payload`] says otherwise. Firecracker's number.
pub(crate) const DEFAULT_PAYLOAD: usize = 51_200;
