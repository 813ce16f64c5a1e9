//! A place to change what is the whole host's.

use std::process::{Command, Stdio};

/// A shell with `script`, in mount, network, IPC, UTS and PID namespaces that end with it; what is given to the command further
/// is the script's, from `$0` on.
pub(crate) fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "--net",
            "--ipc",
            "--uts",
        ])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["sh", "-c", script])
        .stdin(Stdio::null());
    command
}
