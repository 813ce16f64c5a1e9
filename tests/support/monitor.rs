//! The process in the jail that a started ravelin has made.

use std::fs;

/// The monitor of the ravelin that is the process `pid`, once it is in its jail.
pub(crate) fn monitor_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let line = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        line.contains("\0--jailed=").then(|| child.parse().unwrap())
    })
}
