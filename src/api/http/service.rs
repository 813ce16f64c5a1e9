//! What the server hands to the service, and what it gets back.

use std::os::fd::OwnedFd;

use super::peer::Peer;
use super::response::Response;

/// Answers requests. Runs on the server's thread: while it works, every client waits.
pub(crate) trait Service {
    /// Answers one request. The time this takes counts against no client's deadline.
    fn call(&mut self, request: Request) -> Answer;
}

/// The methods that a resource can have. Any other is refused before the service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// The method of this name; names are case-sensitive (RFC 9110 §9.1).
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "GET" => Some(Self::Get),
            "PUT" => Some(Self::Put),
            "PATCH" => Some(Self::Patch),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One whole request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Without the query; empty when the target names no path (`http://localhost`).
    pub(crate) path: String,
    /// What stood after the first `?`.
    pub(crate) query: Option<String>,
    /// At most [`Limits::payload`](super::Limits::payload) bytes. A GET may have one: the service refuses it.
    pub(crate) body: Vec<u8>,
    /// Descriptors that came with the request, at most [`MAX_FDS`](super::MAX_FDS), closed on exec. What the service
    /// does not take is closed with the request.
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) peer: Peer,
    /// The `Accept` header.
    pub(crate) accept: Option<String>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(Response),
    /// The connection becomes an event stream: it gets every event from now on, and asks nothing more.
    Stream,
    /// The server ends once this is written: [`Server::serve`](super::Server::serve) returns
    /// [`Ending::Last`](super::Ending::Last).
    Last(Response),
}
