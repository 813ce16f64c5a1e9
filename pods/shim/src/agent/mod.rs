//! The agent in the guest, as the shim sees it: **hostile**. Each answer has a time limit and a largest size, and comes
//! once; whoever breaks the rules is not spoken to any more, and its VM ends.

pub(crate) mod dial;
mod wire;

use std::time::Duration;

use protobuf::Message;
use protocol::api::{Empty, Event, ProcessRequest, VersionReply, WaitReply};

use self::wire::Wire;
pub(crate) use self::wire::WireError;

/// The service's name in the protocol.
const SERVICE: &str = "ravelin.agent.v1.Agent";

/// Why the agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// It says so.
    #[error("{1}")]
    Refused(ttrpc::Code, String),
    /// It does not speak as it should, or no more.
    #[error("the agent in the guest: {0}")]
    Wire(#[from] WireError),
    /// It is of another version than this shim.
    #[error("the agent in the guest speaks version {0} of its protocol and this shim {expected}: install agent.cpio and shim of one release", expected = protocol::PROTOCOL)]
    Version(u32),
}

/// The longest of an agent's sentences that is passed on, in characters.
const LONGEST_SENTENCE: usize = 512;

/// A connection to an agent.
#[derive(Debug)]
pub(crate) struct Agent {
    wire: Wire,
    limit: Duration,
}

impl Agent {
    /// Speaks over `stream`, which leads to the agent; an answer may take `limit`.
    ///
    /// # Errors
    /// When nobody answers as an agent of this version.
    pub(crate) async fn meet(
        stream: tokio::net::UnixStream,
        limit: Duration,
    ) -> Result<Self, AgentError> {
        let agent = Self {
            wire: Wire::new(stream),
            limit,
        };
        let reply: VersionReply = agent.call("Version", &Empty::new()).await?;
        match reply.protocol {
            protocol::PROTOCOL => Ok(agent),
            other => Err(AgentError::Version(other)),
        }
    }

    /// Asks, and waits for the answer no longer than an answer may take.
    ///
    /// # Errors
    /// A refusal, or the end of an agent that does not speak as it should.
    pub(crate) async fn call<Q: Message, A: Message>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<A, AgentError> {
        self.ask(method, request, Some(self.limit)).await
    }

    /// Waits for the end of a process: as long as its guest lives.
    ///
    /// # Errors
    /// As of [`Self::call`].
    pub(crate) async fn wait(&self, process: &ProcessRequest) -> Result<WaitReply, AgentError> {
        self.ask("Wait", process, None).await
    }

    /// Waits for the next thing that nobody has asked for.
    ///
    /// # Errors
    /// As of [`Self::call`].
    pub(crate) async fn next_event(&self) -> Result<Event, AgentError> {
        self.ask("NextEvent", &Empty::new(), None).await
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        self.wire.ended().await;
    }

    async fn ask<Q: Message, A: Message>(
        &self,
        method: &str,
        request: &Q,
        limit: Option<Duration>,
    ) -> Result<A, AgentError> {
        let payload = request
            .write_to_bytes()
            .map_err(|_| WireError::Unreadable)?;
        let response = self.wire.request(SERVICE, method, payload, limit).await?;
        let status = response.status.into_option().unwrap_or_default();
        if status.code() != ttrpc::Code::OK {
            let sentence = status.message().chars().filter(|c| !c.is_control());
            return Err(AgentError::Refused(
                status.code(),
                sentence.take(LONGEST_SENTENCE).collect(),
            ));
        }
        match A::parse_from_bytes(&response.payload) {
            Ok(answer) => Ok(answer),
            Err(_) => {
                // It cannot be trusted with the next one either.
                self.wire.close();
                Err(WireError::Unreadable.into())
            }
        }
    }
}
