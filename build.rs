//! Packs the relocations of the program: some 110 KiB of the file, read at every start, become 2.
//!
//! A static program unpacks them itself, with what glibc 2.36 and later link into it; linked with an older one it
//! would crash before `main`, so there they stay as they are.

use std::env;
use std::process::Command;

/// The first glibc whose static programs unpack them (its NEWS: "Support for DT_RELR").
const SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_native = env::var("HOST") == env::var("TARGET");
    if is_native && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, which is the one that is linked in.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = String::from_utf8(told.ok()?.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
