//! Programs that tests need beside the one under test.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Has cargo build in `folder`, into this build's own folder `target`, and gives the program `name` of it; cargo does nothing
/// when it is there already. A machine that the tests were carried to has no cargo, and takes what was built before.
pub(crate) fn built(folder: &str, target: &str, arguments: &[&str], name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target);
    let status = Command::new("cargo")
        .args(["build", "--quiet"])
        .args(arguments)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(folder)
        .status();
    let program = target.join("x86_64-unknown-linux-gnu").join(name);
    match status {
        Err(error) if error.kind() == ErrorKind::NotFound && program.exists() => {}
        status => assert!(status.unwrap().success(), "{name} does not build"),
    }
    program
}
