//! The user's side of the guest's serial port: terminal, escape keys, where the output goes.

pub(crate) mod escape;
pub(crate) mod line;
pub(crate) mod progress;
pub(crate) mod sink;
pub(crate) mod terminal;
