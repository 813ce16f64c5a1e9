//! What several black-box tests need.

use std::process::{Command, Output};

/// The program under test.
pub(crate) const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");

/// Runs `script` in a mount and a network namespace of its own. Its /dev is empty but for `/dev/null` and a
/// copy of ravelin, `/dev/ravelin`; it has no network interface but `lo`. `None`, said aloud, where this user
/// may not do so.
pub(crate) fn in_an_empty_dev(script: &str) -> Option<Output> {
    let prepare = format!(
        "mount -t tmpfs -o mode=0755 tmpfs /dev && cp '{RAVELIN}' /dev/ravelin && chmod 755 /dev/ravelin && \
         mknod -m 0666 /dev/null c 1 3 || exit 99; {script}"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--net"])
        .args(["sh", "-c", &prepare])
        .output();
    match output {
        Ok(output) if output.status.code() == Some(99) || refused(&output) => {
            eprintln!("SKIPPED: an empty /dev needs root and unshare(1): {output:?}");
            None
        }
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: unshare(1) is not installed: {error}");
            None
        }
    }
}

fn refused(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("unshare failed")
}
