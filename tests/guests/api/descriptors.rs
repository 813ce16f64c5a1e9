//! A guest whose monitor was given no path.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use serde_json::json;

use super::monitor::{ARGS, Monitor, with_script};
use crate::kit;

crate::tests!(
    TRIMMED => [
        a_guest_boots_from_descriptors_alone,
        a_disk_becomes_another_descriptor,
    ],
);

fn open(path: &std::path::Path) -> File {
    File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap())
}

fn in_memory(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file
}

fn a_guest_boots_from_descriptors_alone() {
    let monitor = Monitor::ravelin();
    let files = ["vmlinux-trimmed", "root.ext4"].map(|name| open(&kit::file(name)));
    monitor.deposit("kernel", files[0].as_fd());
    monitor.deposit("root", files[1].as_fd());
    monitor.deposit("data", in_memory(&[b'm'; 1 << 20]).as_fd());
    let source = json!({
        "kernel_image_path": "fd:kernel",
        "boot_args": with_script(ARGS, "grep -w / /proc/mounts; echo data=$(head -c 3 /dev/vdb)"),
    });
    monitor.put("/boot-source", source).done();
    for (id, is_root) in [("root", true), ("data", false)] {
        let drive = json!({
            "drive_id": id, "is_root_device": is_root, "is_read_only": is_root, "path_on_host": format!("fd:{id}"),
        });
        monitor.put(&format!("/drives/{id}"), drive).done();
    }
    monitor.start();
    let outcome = monitor.end();
    outcome.status(0).said(" ext4 ro,");
    assert_eq!(outcome.value("data"), "mmm", "{outcome}");
}

fn a_disk_becomes_another_descriptor() {
    let monitor = Monitor::ravelin();
    monitor.describe(
        "echo size=$(blockdev --getsize64 /dev/vda); echo guest is up; \
         until [ $(blockdev --getsize64 /dev/vda) = 2097152 ]; do :; done; echo data=$(head -c 3 /dev/vda)",
    );
    monitor.deposit("one", in_memory(&[b'1'; 1 << 20]).as_fd());
    let drive = json!({ "drive_id": "data", "is_root_device": false, "path_on_host": "fd:one" });
    monitor.put("/drives/data", drive).done();
    monitor.start();
    monitor.wait_for("guest is up");
    monitor.deposit("two", in_memory(&[b'2'; 2 << 20]).as_fd());
    let update = json!({ "drive_id": "data", "path_on_host": "fd:two" });
    monitor.patch("/drives/data", update).done();
    let outcome = monitor.end();
    assert_eq!(outcome.status(0).number("size"), 1 << 20, "{outcome}");
    assert_eq!(outcome.value("data"), "222", "{outcome}");
}
