//! What the shim on the host and the agent in the guest say to each other: `proto/agent.proto` over ttrpc, and the
//! connections that carry standard streams.

pub mod name;
pub mod stream;

/// Made from `proto/agent.proto`, where everything is explained.
#[expect(
    clippy::allow_attributes,
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    reason = "others' code generators have other rules"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::agent as api;
pub use generated::agent_ttrpc as service;

/// The number of this description: both sides say it first, and another one is refused.
pub const PROTOCOL: u32 = 1;
/// The agent's ttrpc server, a vsock port of the guest.
pub const AGENT_PORT: u32 = 1024;
/// The agent's standard streams, a vsock port of the guest.
pub const STREAM_PORT: u32 = 1025;
/// The host's vsock port that the agent calls once it answers: the connection stands as long as the agent, and
/// carries nothing.
pub const READY_PORT: u32 = 1024;
/// The longest message of either side, bytes.
pub const MOST_MESSAGE: usize = 4 << 20;
