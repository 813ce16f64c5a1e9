//! A request on its way from bytes to a command.

use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use vmm::command::{Command, Setting};

use super::fault::Fault;
use super::http::Response;

/// What a row of the table gets to work with.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// The part of the path that the row leaves open; empty where it leaves none.
    pub(super) id: &'a str,
    /// The body; empty where there was none.
    pub(super) body: &'a [u8],
    /// Descriptors that came with it.
    pub(super) fds: Vec<OwnedFd>,
}

/// What a request comes to.
#[derive(Debug)]
pub(super) enum Call {
    /// Something for the VM to do.
    Command(Command),
    /// Something for the VM to do that leaves it useless when it fails.
    Fateful(Command),
    /// An answer that needs nobody.
    Answer(Response),
    /// A stream of events.
    Events,
}

/// A call, and whether its request used something that will go away.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) call: Call,
    pub(super) deprecated: bool,
}

impl From<Call> for Parsed {
    fn from(call: Call) -> Self {
        Self {
            call,
            deprecated: false,
        }
    }
}

impl From<Command> for Parsed {
    fn from(command: Command) -> Self {
        Call::Command(command).into()
    }
}

impl From<Setting> for Parsed {
    fn from(setting: Setting) -> Self {
        Command::Set(setting).into()
    }
}

impl Parsed {
    /// The same call, with the mark of what will go away.
    pub(super) fn deprecated(self, deprecated: bool) -> Self {
        Self { deprecated, ..self }
    }
}

impl Ask<'_> {
    /// The body as a `T`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(self.body).map_err(|error| Fault::Json(error.to_string()))
    }

    /// Checks the id in the path.
    pub(super) fn checked_id(&self) -> Result<&str, Fault> {
        if self.id.is_empty() {
            return Err(Fault::EmptyId);
        }
        let fits = |c: char| c.is_alphanumeric() || c == '_';
        if self.id.chars().all(fits) {
            Ok(self.id)
        } else {
            Err(Fault::BadId)
        }
    }

    /// The body as a `T` whose id is the path's.
    pub(super) fn json_of_id<T: DeserializeOwned>(
        &self,
        id: impl Fn(&T) -> &str,
    ) -> Result<T, Fault> {
        let in_path = self.checked_id()?;
        let body = self.json()?;
        if id(&body) == in_path {
            Ok(body)
        } else {
            Err(Fault::OtherId)
        }
    }
}
