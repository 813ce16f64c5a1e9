//! Nothing is left behind: of starts that are broken off at every step, of ends of every kind, of a thousand of them.
//!
//! Each test runs in namespaces of its own, as their first process: whatever is orphaned there becomes its child, so that
//! the end of everything is waited for and not guessed.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod ends;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../run/guest.rs"]
mod guest;
#[path = "../support/isolated.rs"]
mod isolated;
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../jailer/kit.rs"]
mod kit;
#[path = "../support/monitor.rs"]
mod monitor;
mod scene;
mod sweep;
mod thousand;
mod trace;
