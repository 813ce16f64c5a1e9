//! Clients of Firecracker that others have written, and ravelin in its place. `tools/test` installs them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::monitor::named_firecracker;
use crate::kit;
use crate::network::in_own_network;

crate::tests!(
    STOCK => [
        a_stock_guest_is_started_with_curl,
    ],
    TRIMMED => [
        a_trimmed_guest_is_started_with_curl,
        the_rust_sdk_fctools_leads_a_guest_through_its_life,
        the_python_package_leads_a_guest_through_its_life,
    ],
);

/// One of this folder's clients.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// Something that `tools/test` has installed; `None`, said aloud, where it has not and need not have.
fn installed(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("RAVELIN_CLIENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    let is_required = env::var_os("RAVELIN_GUESTS").is_some();
    assert!(
        !is_required,
        "{} is missing: run tools/test",
        path.display()
    );
    eprintln!(
        "guests: SKIPPED {name}: {} is missing: run tools/test",
        path.display()
    );
    None
}

/// Asserts that it ends with 0.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let said = said.join("\n--- stderr\n");
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

/// A copy of the kit's root image.
fn root(folder: &Path) -> PathBuf {
    let copy = folder.join("root.ext4");
    let mut cp = Command::new("cp");
    succeeds(
        cp.arg("--sparse=always")
            .arg(kit::file("root.ext4"))
            .arg(&copy),
    );
    copy
}

fn a_stock_guest_is_started_with_curl() {
    in_own_network(|| getting_started("vmlinux", Some("initramfs")));
}

fn a_trimmed_guest_is_started_with_curl() {
    in_own_network(|| getting_started("vmlinux-trimmed", None));
}

fn getting_started(kernel: &str, initrd: Option<&str>) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut command = Command::new(script("getting-started.sh"));
    command
        .current_dir(folder.path())
        .arg(named_firecracker(folder.path()))
        .arg(kit::file(kernel))
        .arg(root(folder.path()))
        .args(initrd.map(kit::file));
    let said = succeeds(&mut command);
    assert!(said.contains("the guest answers"), "{said}");
}

fn the_rust_sdk_fctools_leads_a_guest_through_its_life() {
    let Some(client) = installed("fctools-client") else {
        return;
    };
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut command = Command::new(client);
    command
        .arg(named_firecracker(folder.path()))
        .arg(kit::file("vmlinux-trimmed"))
        .arg(kit::file("initramfs"));
    succeeds(&mut command);
}

fn the_python_package_leads_a_guest_through_its_life() {
    in_own_network(|| {
        let Some(packages) = installed("python") else {
            return;
        };
        // What it takes the default route's interface for: the guest's own.
        let route = "ip tuntap add eth0 mode tap && ip address add 192.0.2.1/24 dev eth0 && ip link set eth0 up && \
                     ip route add default via 192.0.2.2";
        succeeds(Command::new("sh").args(["-c", route]));
        // Its HTTP library takes a socket's path for a host's name: no capital letters.
        let name = format!("ravelin-{}", std::process::id());
        let folder = tempfile::Builder::new()
            .prefix(&name)
            .rand_bytes(0)
            .tempdir_in("/var/tmp")
            .unwrap();
        // It looks for monitors in all of /proc, and must not find those of other tests.
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(script("firecracker_python.py"))
            .env("PYTHONPATH", packages)
            .arg(named_firecracker(folder.path()))
            .arg(kit::file("vmlinux-trimmed"))
            .arg(kit::file("root.ext4"))
            .arg(folder.path());
        succeeds(&mut command);
    });
}
