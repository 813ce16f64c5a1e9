//! Actions: Ctrl-Alt-Del, metrics, and the ways to end that Firecracker's users know.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use super::monitor::{ARGS, Monitor, with_script};
use crate::kit;

crate::tests!(
    STOCK => [
        a_stock_guest_obeys_ctrl_alt_del,
    ],
    TRIMMED => [
        a_guest_obeys_ctrl_alt_del,
        a_guest_that_reboots_ends_firecracker_with_0,
        a_guest_that_powers_off_ends_firecracker_with_0,
        a_guest_whose_command_fails_ends_firecracker_with_0,
        a_guest_without_acpi_and_pci_boots,
        flushed_metrics_are_what_the_guest_has_done,
        the_boot_timer_says_how_long_the_boot_took,
    ],
);

/// Lives until it is ended.
const WAITS: &str = "echo guest is waiting; read never; echo never comes";
const MIB: u64 = 1 << 20;

fn a_guest_obeys_ctrl_alt_del() {
    let monitor = Monitor::firecracker();
    monitor.describe(WAITS);
    obeys(monitor);
}

fn a_stock_guest_obeys_ctrl_alt_del() {
    let monitor = Monitor::firecracker();
    let source = json!({
        "kernel_image_path": kit::file("vmlinux"),
        "initrd_path": kit::file("initramfs"),
        "boot_args": with_script(ARGS, WAITS),
    });
    monitor.put("/boot-source", source).done();
    monitor
        .put(
            "/machine-config",
            json!({ "vcpu_count": 1, "mem_size_mib": 512 }),
        )
        .done();
    obeys(monitor);
}

fn obeys(monitor: Monitor) {
    monitor.start();
    monitor.wait_for("guest is waiting");
    monitor.act("SendCtrlAltDel");
    let outcome = monitor.end();
    outcome.status(0);
    assert!(!outcome.console.contains("never comes"), "{outcome}");
}

/// A guest that does this by itself.
fn does(args: &str, script: &str) {
    let monitor = Monitor::firecracker();
    monitor.describe_with(args, script);
    monitor.start();
    let outcome = monitor.end();
    outcome.said("guest is up").status(0);
    assert!(!outcome.console.contains("never comes"), "{outcome}");
}

fn a_guest_that_reboots_ends_firecracker_with_0() {
    does(ARGS, "echo guest is up; reboot -f; echo never comes");
}

fn a_guest_that_powers_off_ends_firecracker_with_0() {
    does(ARGS, "echo guest is up; poweroff -f; echo never comes");
}

fn a_guest_whose_command_fails_ends_firecracker_with_0() {
    does(ARGS, "echo guest is up; exit 7");
}

fn a_guest_without_acpi_and_pci_boots() {
    does(
        "console=ttyS0 reboot=k panic=1 pci=off acpi=off",
        "[ -e /sys/firmware/acpi ] || echo guest is up",
    );
}

/// The last line of the metrics.
fn flush(monitor: &Monitor, metrics: &Path) -> Value {
    monitor.act("FlushMetrics");
    let text = std::fs::read_to_string(metrics).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn flushed_metrics_are_what_the_guest_has_done() {
    let mut monitor = Monitor::firecracker();
    let [metrics, disk] = ["metrics", "disk"].map(|name| monitor.path(name));
    File::create(&metrics).unwrap();
    File::create(&disk).unwrap().set_len(8 * MIB).unwrap();
    monitor
        .put("/metrics", json!({ "metrics_path": metrics }))
        .done();
    monitor.describe(
        "echo guest is up; read line; \
         dd if=/dev/vda of=/dev/null bs=64k count=48 iflag=direct 2>&1; \
         dd if=/dev/zero of=/dev/vda bs=64k count=16 oflag=direct 2>&1; echo work is done; read line",
    );
    monitor.drive("data", &disk);
    monitor.start();
    monitor.wait_for("guest is up");
    let boot = flush(&monitor, &metrics);
    assert_eq!(boot["put_api_requests"]["drive_count"], 1, "{boot}");
    assert!(boot["uart"]["write_count"].as_u64().unwrap() > 0, "{boot}");
    monitor.type_line("go on");
    monitor.wait_for("work is done");
    let work = flush(&monitor, &metrics);
    for device in ["block", "block_data"] {
        let disk = &work[device];
        assert_eq!(disk["read_bytes"], 3 * MIB, "{work}");
        assert_eq!(disk["write_bytes"], MIB, "{work}");
        assert_eq!(disk["read_count"], 48, "{work}");
        assert_eq!(disk["write_count"], 16, "{work}");
    }
    let nothing = flush(&monitor, &metrics);
    assert_eq!(nothing["block"]["read_bytes"], 0, "{nothing}");
    monitor.type_line("go on");
    monitor.end().status(0);
}

fn the_boot_timer_says_how_long_the_boot_took() {
    let monitor = Monitor::firecracker_with(&["--boot-timer"]);
    // Firecracker's users write this byte from their init (its documents call the address magic).
    monitor.describe("devmem 0xc0000000 8 123; echo guest is up");
    monitor.start();
    monitor.wait_for_log("Guest-boot-time =");
    monitor.end().said("guest is up").status(0);
}
