//! What the first process of a guest does, in rooms that two of them share: `guest-init`, which runs one command of the
//! root it is in, and ravelin's agent, which runs containers.

pub mod button;
pub mod cmdline;
pub mod kmsg;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod power;
pub mod raw;
pub mod root;
pub mod session;
pub mod supervise;
