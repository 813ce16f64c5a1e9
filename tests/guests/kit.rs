//! The guest kit: kernels, initramfs and root image, as `tools/guest` has built them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// What a guest with Debian's kernel boots from.
pub(crate) const STOCK: &[&str] = &["vmlinux", "vmlinuz", "initramfs"];
/// What one with the trimmed kernel boots from.
pub(crate) const TRIMMED: &[&str] = &[
    "vmlinux-trimmed",
    "bzImage-trimmed",
    "initramfs",
    "root.ext4",
];

/// What a container boots from.
pub(crate) const CONTAINER: &[&str] = &["vmlinux-trimmed", "agent.cpio"];

/// The first of these files that the kit does not have.
pub(crate) fn missing(names: &'static [&'static str]) -> Option<&'static str> {
    names
        .iter()
        .copied()
        .find(|name| !files().contains_key(*name))
}

/// The path of a file of the kit. Nothing may write to it.
pub(crate) fn file(name: &str) -> PathBuf {
    let path = files().get(name);
    path.unwrap_or_else(|| panic!("the guest kit has no {name}: run tools/guest all"))
        .clone()
}

/// What there is, by name. Nothing is built: that could take longer than a test may.
fn files() -> &'static BTreeMap<String, PathBuf> {
    static FILES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| match std::env::var_os("RAVELIN_KIT") {
        Some(path) => serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
        None => built(),
    })
}

fn built() -> BTreeMap<String, PathBuf> {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/guest");
    match Command::new(tool).arg("--json").output() {
        Ok(output) if output.status.success() => serde_json::from_slice(&output.stdout).unwrap(),
        other => {
            eprintln!("guests: {tool} --json does not list the guest kit: {other:?}");
            BTreeMap::new()
        }
    }
}
