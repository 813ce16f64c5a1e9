//! What a request can fail of, and which code of ttrpc that is.

use std::io;

use protocol::name::BadName;
use ttrpc::Code;

use crate::spec::Refusal;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Name(#[from] BadName),
    #[error(transparent)]
    Spec(#[from] Refusal),
    #[error("there is no container {0}")]
    NoContainer(String),
    #[error("the container {0} has no process {1}")]
    NoProcess(String, String),
    #[error("{0} is there already: take another name, or remove it first")]
    Exists(String),
    #[error("there are {0} {1} already, and no more can be: remove some")]
    TooMany(usize, &'static str),
    #[error("{0}")]
    Asked(String),
    #[error("{0}")]
    State(String),
    #[error("{0}")]
    Failed(String),
    #[error("cannot {what}: {source}")]
    System { what: String, source: io::Error },
}

impl AgentError {
    fn code(&self) -> Code {
        match self {
            Self::Name(_) | Self::Spec(_) | Self::Asked(_) => Code::INVALID_ARGUMENT,
            Self::NoContainer(_) | Self::NoProcess(..) => Code::NOT_FOUND,
            Self::Exists(_) => Code::ALREADY_EXISTS,
            Self::TooMany(..) => Code::RESOURCE_EXHAUSTED,
            Self::State(_) => Code::FAILED_PRECONDITION,
            Self::Failed(_) | Self::System { .. } => Code::INTERNAL,
        }
    }
}

impl From<AgentError> for ttrpc::Error {
    fn from(error: AgentError) -> Self {
        Self::RpcStatus(ttrpc::get_status(error.code(), error))
    }
}

/// Names what was to be done when it fails.
pub(crate) trait Doing<T> {
    /// `cannot WHAT: why`
    fn doing(self, what: impl Into<String>) -> Result<T, AgentError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, AgentError> {
        self.map_err(|source| AgentError::System {
            what: what.into(),
            source: source.into(),
        })
    }
}
