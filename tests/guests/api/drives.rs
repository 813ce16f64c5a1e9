//! Disks that change under a running guest.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::monitor::{ARGS, Monitor, with_script};
use crate::kit;

crate::tests!(
    STOCK => [
        a_stock_guest_sees_a_new_file_behind_its_disk,
    ],
    TRIMMED => [
        a_guest_sees_a_new_file_of_another_size,
        a_guest_sees_that_the_same_file_has_grown,
        a_placeholder_without_a_byte_becomes_a_disk,
        what_a_guest_writes_goes_into_the_new_file,
        a_new_limit_is_felt_and_an_old_one_is_lifted,
        a_file_that_is_not_there_leaves_the_disk_as_it_was,
        a_root_drive_is_found_without_a_word_on_the_command_line,
    ],
);

const MIB: u64 = 1 << 20;
/// Says what is there and, once it has another size, what there is then.
const LOOK: &str = "size() { blockdev --getsize64 /dev/vda; }; \
    first=$(size); echo first=$first byte=$(head -c 3 /dev/vda); echo first is seen; \
    until [ $(size) != $first ]; do :; done; \
    echo second=$(size); echo bytes=$(head -c 3 /dev/vda)";

/// A file of one byte, over and over.
fn file(monitor: &Monitor, name: &str, byte: u8, mib: u64) -> PathBuf {
    let path = monitor.path(name);
    fs::write(&path, vec![byte; usize::try_from(mib * MIB).unwrap()]).unwrap();
    path
}

fn give(monitor: &Monitor, path: &Path) {
    let update = json!({ "drive_id": "data", "path_on_host": path });
    monitor.patch("/drives/data", update).done();
}

fn a_guest_sees_a_new_file_of_another_size() {
    let monitor = Monitor::firecracker();
    monitor.describe(LOOK);
    sees_a_new_file(monitor);
}

fn a_stock_guest_sees_a_new_file_behind_its_disk() {
    let monitor = Monitor::firecracker();
    let source = json!({
        "kernel_image_path": kit::file("vmlinux"),
        "initrd_path": kit::file("initramfs"),
        "boot_args": with_script(ARGS, LOOK),
    });
    monitor.put("/boot-source", source).done();
    monitor
        .put(
            "/machine-config",
            json!({ "vcpu_count": 2, "mem_size_mib": 512 }),
        )
        .done();
    sees_a_new_file(monitor);
}

fn sees_a_new_file(monitor: Monitor) {
    let second = file(&monitor, "second", b'b', 5);
    monitor.drive("data", &file(&monitor, "first", b'a', 8));
    monitor.start();
    monitor.wait_for("first is seen");
    give(&monitor, &second);
    let config = monitor.get("/vm/config").json();
    assert_eq!(config["drives"][0]["path_on_host"], json!(second));
    let outcome = monitor.end();
    outcome.status(0).said("first=8388608 byte=aaa");
    assert_eq!(outcome.number("second"), 5 * MIB, "{outcome}");
    assert_eq!(outcome.value("bytes"), "bbb", "{outcome}");
}

fn a_guest_sees_that_the_same_file_has_grown() {
    let monitor = Monitor::firecracker();
    let path = file(&monitor, "disk", b'a', 2);
    monitor.describe(LOOK);
    monitor.drive("data", &path);
    monitor.start();
    monitor.wait_for("first is seen");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(3 * MIB)
        .unwrap();
    give(&monitor, &path);
    let outcome = monitor.end();
    assert_eq!(outcome.status(0).number("second"), 3 * MIB, "{outcome}");
    assert_eq!(outcome.value("bytes"), "aaa", "{outcome}");
}

fn a_placeholder_without_a_byte_becomes_a_disk() {
    let monitor = Monitor::firecracker();
    let real = file(&monitor, "real", b'r', 1);
    monitor.describe(LOOK);
    let empty = monitor.path("empty");
    File::create(&empty).unwrap();
    // As Kata's driver does it, with null for what it does not set.
    let drive = json!({
        "drive_id": "data", "is_root_device": false, "is_read_only": false, "path_on_host": empty,
        "partuuid": null, "cache_type": null, "rate_limiter": null, "io_engine": null,
    });
    monitor.put("/drives/data", drive).done();
    monitor.start();
    monitor.wait_for("first is seen");
    let update = json!({ "drive_id": "data", "path_on_host": real, "rate_limiter": null });
    monitor.patch("/drives/data", update).done();
    let outcome = monitor.end();
    outcome.status(0);
    assert_eq!(outcome.value("first"), "0 byte=", "{outcome}");
    assert_eq!(outcome.number("second"), MIB, "{outcome}");
    assert_eq!(outcome.value("bytes"), "rrr", "{outcome}");
}

fn what_a_guest_writes_goes_into_the_new_file() {
    let mut monitor = Monitor::firecracker();
    let (first, second) = (
        file(&monitor, "first", b'a', 1),
        file(&monitor, "second", b'b', 1),
    );
    let write = |word: &str| format!("yes {word} | head -c 4096 | dd of=/dev/vda conv=fsync");
    monitor.describe(&format!(
        "{}; echo first is written; read line; {}",
        write("one"),
        write("two")
    ));
    monitor.drive("data", &first);
    monitor.start();
    monitor.wait_for("first is written");
    give(&monitor, &second);
    monitor.type_line("go on");
    // The folder goes with the monitor, but not what is open.
    let files = [first, second].map(|path| File::open(path).unwrap());
    let outcome = monitor.end();
    outcome.status(0);
    let starts = files.map(|mut file| {
        let mut start = [0; 4];
        file.read_exact(&mut start).unwrap();
        start
    });
    assert_eq!(starts, [*b"one\n", *b"two\n"], "{outcome}");
}

/// What the metrics say that a disk has done since the last line.
fn counted(monitor: &Monitor, metrics: &Path) -> Value {
    monitor.act("FlushMetrics");
    let text = fs::read_to_string(metrics).unwrap();
    serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["block_data"].take()
}

fn a_new_limit_is_felt_and_an_old_one_is_lifted() {
    let mut monitor = Monitor::firecracker();
    let metrics = monitor.path("metrics");
    File::create(&metrics).unwrap();
    monitor
        .put("/metrics", json!({ "metrics_path": metrics }))
        .done();
    let read = "dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>&1";
    monitor.describe(&format!(
        "{read}; echo first pass is over; read line; {read}; echo second pass is over; read line; {read}; \
         echo third pass is over; read line"
    ));
    monitor.drive("data", &file(&monitor, "disk", b'a', 4));
    monitor.start();
    monitor.wait_for("first pass is over");
    let free = counted(&monitor, &metrics);
    assert_eq!(free["rate_limiter_throttled_events"], 0, "{free}");
    let limit = |monitor: &Monitor, bucket: Value| {
        let update = json!({ "drive_id": "data", "rate_limiter": { "bandwidth": bucket } });
        monitor.patch("/drives/data", update).done();
    };
    // 4 MiB at 1 MiB a second: the guest has to wait.
    limit(&monitor, json!({ "size": MIB, "refill_time": 1000 }));
    monitor.type_line("go on");
    monitor.wait_for("second pass is over");
    let limited = counted(&monitor, &metrics);
    assert_eq!(limited["read_bytes"], 4 * MIB, "{limited}");
    assert!(
        limited["rate_limiter_throttled_events"].as_u64().unwrap() > 0,
        "{limited}"
    );
    // A bucket of nothing is no limit.
    limit(&monitor, json!({ "size": 0, "refill_time": 0 }));
    monitor.type_line("go on");
    monitor.wait_for("third pass is over");
    let lifted = counted(&monitor, &metrics);
    assert_eq!(lifted["read_bytes"], 4 * MIB, "{lifted}");
    assert_eq!(lifted["rate_limiter_throttled_events"], 0, "{lifted}");
    monitor.type_line("go on");
    monitor.end().status(0);
}

fn a_file_that_is_not_there_leaves_the_disk_as_it_was() {
    let mut monitor = Monitor::firecracker();
    let read = "dd if=/dev/vda bs=3 count=1 iflag=fullblock 2>/dev/null";
    monitor.describe(&format!(
        "echo first=$({read}); echo first is seen; read line; echo 3 > /proc/sys/vm/drop_caches; echo second=$({read})"
    ));
    monitor.drive("data", &file(&monitor, "disk", b'a', 1));
    monitor.start();
    monitor.wait_for("first is seen");
    let update = json!({ "drive_id": "data", "path_on_host": "/nonexistent/disk" });
    monitor
        .patch("/drives/data", update)
        .refused(400, "No such file or directory");
    monitor.type_line("go on");
    let outcome = monitor.end();
    assert_eq!(outcome.status(0).value("first"), "aaa", "{outcome}");
    assert_eq!(outcome.value("second"), "aaa", "{outcome}");
}

fn a_root_drive_is_found_without_a_word_on_the_command_line() {
    let monitor = Monitor::firecracker();
    let source = json!({
        "kernel_image_path": kit::file("vmlinux-trimmed"),
        "boot_args": with_script(ARGS, "echo root=$(grep -w / /proc/mounts)"),
    });
    monitor.put("/boot-source", source).done();
    let drive = json!({
        "drive_id": "rootfs", "is_root_device": true, "is_read_only": true, "path_on_host": kit::file("root.ext4"),
    });
    monitor.put("/drives/rootfs", drive).done();
    monitor.start();
    let outcome = monitor.end();
    assert!(
        outcome.status(0).value("root").contains(" ext4 ro,"),
        "{outcome}"
    );
}
