//! Why something was not done, and what containerd is told.

use std::io;
use std::path::PathBuf;

use protocol::name::BadName;
use ttrpc::Code;

use crate::agent::AgentError;
use crate::agent::dial::DialError;
use crate::rootfs::RootfsError;
use crate::spec::SpecError;
use crate::stdio::StdioError;
use crate::vm::VmError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    /// No such container.
    #[error("there is no container {0} here")]
    NoContainer(String),
    /// No such process.
    #[error("there is no process {0} in the container")]
    NoProcess(String),
    /// It is there.
    #[error("{0} is there already")]
    Exists(String),
    /// Not in this state.
    #[error("the process is not in a state for this: {0}")]
    State(String),
    /// More than one container.
    #[error("a microVM holds one container for now, and {0} would be its second")]
    Second(String),
    /// What the guest's agent said, or did not.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The way to it.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The guest.
    #[error("the guest did not get ready: {0}")]
    Guest(String),
    /// A file.
    #[error("{0} cannot be used: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The root.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The document.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A stream.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The VM.
    #[error(transparent)]
    Vm(#[from] VmError),
}

impl PodError {
    /// In containerd's words: by these it tells what is gone from what has failed.
    fn code(&self) -> Code {
        match self {
            Self::NoContainer(_) | Self::NoProcess(_) => Code::NOT_FOUND,
            Self::Exists(_) => Code::ALREADY_EXISTS,
            Self::State(_) => Code::FAILED_PRECONDITION,
            Self::Name(_) | Self::Spec(_) | Self::Stdio(_) => Code::INVALID_ARGUMENT,
            Self::Second(_) => Code::UNIMPLEMENTED,
            Self::Agent(AgentError::Refused(code, _)) => *code,
            _ => Code::UNKNOWN,
        }
    }
}

impl From<PodError> for ttrpc::Error {
    fn from(error: PodError) -> Self {
        Self::RpcStatus(ttrpc::get_status(error.code(), error.to_string()))
    }
}
