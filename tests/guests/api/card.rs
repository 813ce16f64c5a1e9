//! A guest with a network card and a disk with curl on it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::monitor::{ARGS, Monitor, with_script};
use crate::kit;

/// Makes a file system of curl, what it is linked with, and the guest's script.
const MAKE: &str = r#"
    tree=$1/tree; mkdir -p "$tree/dev"; curl=$(command -v curl)
    cp --parents --dereference "$curl" $(ldd "$curl" | grep -o '/[^ )]*') "$tree"
    ln -s "$curl" "$tree/curl"; cp "$1/script" "$tree/script"
    PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -d "$tree" "$1/disk" 64M
"#;
/// What every script may use: the metadata service, by curl.
const PRELUDE: &str = r#"
    mmds=http://169.254.169.254
    mount -o bind /dev /disk/dev
    ip route add 169.254.169.254 dev eth0
    # Says what came back, or why nothing did.
    curl() { chroot /disk /curl --silent --show-error --max-time 60 "$@" 2>&1; }
    # The status alone.
    status() { curl --output /dev/null --write-out '%{http_code}' "$@"; }
"#;

/// A tap of this network with the host's address on it.
fn tap() {
    let script =
        "ip tuntap add tap0 mode tap && ip address add 10.9.0.1/24 dev tap0 && ip link set tap0 up";
    let status = Command::new("sh").args(["-c", script]).status();
    assert!(status.unwrap().success());
}

/// Describes a guest with the card `eth0` on a new `tap0` that runs a script of any length.
pub(crate) fn describe(monitor: &Monitor, script: &str) {
    tap();
    describe_on(monitor, "tap0", script);
}

/// The same on a tap that is there.
pub(crate) fn describe_on(monitor: &Monitor, tap: &str, script: &str) {
    let folder = monitor.path("");
    fs::write(folder.join("script"), format!("{PRELUDE}{script}")).unwrap();
    let made = Command::new("sh")
        .args(["-ec", MAKE, "sh"])
        .arg(&folder)
        .status();
    assert!(made.unwrap().success(), "no disk with curl could be made");
    let source = json!({
        "kernel_image_path": kit::file("vmlinux-trimmed"),
        "initrd_path": kit::file("initramfs"),
        "boot_args": with_script(
            &format!("{ARGS} ravelin.ip=10.9.0.2/24"),
            "mkdir /disk && mount -t ext4 -o ro /dev/vda /disk && . /disk/script",
        ),
    });
    monitor.put("/boot-source", source).done();
    monitor.drive("curl", &folder.join("disk"));
    monitor
        .put(
            "/network-interfaces/eth0",
            json!({ "iface_id": "eth0", "host_dev_name": tap }),
        )
        .done();
}

/// Switches the metadata service on.
pub(crate) fn serve_metadata(monitor: &Monitor, version: &str, data: Value) {
    monitor.put("/mmds", data).done();
    let config = json!({ "network_interfaces": ["eth0"], "version": version });
    monitor.put("/mmds/config", config).done();
}
