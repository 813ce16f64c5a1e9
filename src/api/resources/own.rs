//! ravelin's own paths.

use vmm::command::{Command, Show};

use crate::api::fault::Fault;
use crate::api::http::Response;
use crate::api::request::{Ask, Call, Parsed};

/// `GET /ravelin/health`: answered by the main thread, so a VM that answers is one that works.
pub(in crate::api) fn health(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Instance).into())
}

/// `GET /ravelin/metrics`: the figures as Prometheus reads them.
pub(in crate::api) fn metrics(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Metrics).into())
}

/// `GET /ravelin/events`: a stream of what happens (HTML standard §9.2, server-sent events).
pub(in crate::api) fn events(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Call::Events.into())
}

/// `GET /ravelin/openapi.json`: all of this, described.
pub(in crate::api) fn openapi(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    const DESCRIPTION: &[u8] = include_bytes!("../../../resources/openapi.json");
    Ok(Call::Answer(Response::json(200, DESCRIPTION.to_vec())).into())
}

/// `PUT /ravelin/fds/{name}`: keeps the one descriptor that came with the request.
pub(in crate::api) fn put_fd(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let count = ask.fds.len();
    let Some(fd) = ask.fds.pop().filter(|_| count == 1) else {
        return Err(Fault::Descriptors(count));
    };
    let name = ask.id.to_owned();
    Ok(Command::Deposit { name, fd }.into())
}
