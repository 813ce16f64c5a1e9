//! The REST socket.

pub(crate) mod http;
