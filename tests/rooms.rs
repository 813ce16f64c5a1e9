//! The house's rules: who may import whom, and how large a file may grow.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines beyond which a file is a room to split.
const LIMIT: usize = 500;
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, as a path from the root.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Asserts that no file below `folder` names one of `words`.
fn never(folder: &str, words: &[&str]) {
    for path in sources(folder) {
        let code = code(&path);
        for word in words {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn devices_know_neither_the_machine_nor_kvm_nor_the_command() {
    never(
        "devices",
        &["vmm::", "kvm_ioctls", "kvm_bindings", "ravelin::", "clap"],
    );
}

#[test]
fn the_machine_knows_nothing_of_the_command() {
    never("vmm", &["clap", "ravelin::", "crate::cli", "crate::api"]);
}

#[test]
fn the_command_reaches_devices_only_through_the_machine() {
    never("src", &["devices::", "kvm_ioctls", "vm_memory"]);
}

#[test]
fn the_preparer_knows_neither_the_machine_nor_who_calls_it() {
    never(
        "src/jail",
        &[
            "vmm::",
            "devices::",
            "crate::cli",
            "crate::api",
            "crate::serve",
            "clap",
        ],
    );
}

#[test]
fn pods_know_ravelin_only_as_any_user_does() {
    never("pods", &["vmm::", "devices::", "kvm_ioctls", "ravelin::"]);
}

#[test]
fn only_pods_have_an_async_runtime_and_what_reads_images() {
    for folder in ["src", "vmm", "devices", "tools/init"] {
        never(
            folder,
            &["tokio", "ttrpc", "containerd", "use image", "oci_"],
        );
    }
}

#[test]
fn only_the_kvm_room_uses_kvm_ioctls() {
    for path in sources("vmm/src") {
        let inside = path.starts_with("vmm/src/kvm");
        let names = code(&path).contains("kvm_ioctls");
        assert!(inside || !names, "{}", path.display());
    }
}

#[test]
fn a_device_folder_imports_no_other() {
    let devices = ["block", "net", "rng", "vsock"];
    for device in devices {
        for path in sources(&format!("devices/src/virtio/{device}")) {
            let code = code(&path);
            for other in devices.iter().filter(|other| **other != device) {
                let import = format!("virtio::{other}");
                assert!(
                    !code.contains(&import),
                    "{} imports {import}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_code_stands_only_in_the_named_rooms() {
    for folder in ["src", "devices", "vmm", "tools/init", "pods"] {
        for path in sources(folder) {
            let code = code(&path);
            let named = code.contains("#![expect(") && code.contains("unsafe_code");
            assert!(named || !code.contains("unsafe {"), "{}", path.display());
        }
    }
}

#[test]
fn a_file_has_at_most_500_lines() {
    for folder in ["src", "devices", "vmm", "tests", "tools/init", "pods"] {
        for path in sources(folder) {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let lines = text.lines().count();
            assert!(lines <= LIMIT, "{} has {lines} lines", path.display());
        }
    }
}
