//! What is described, shown and read from a file is one and the same.

use std::fs;

use serde_json::{Value, json};

use crate::vm::{self, Face, Vm};

/// A description with every part that this version can start, and with what it cannot if `all`.
fn description(vm: &Vm, all: bool) -> Value {
    let file = |name: &str| vm.file(name, 1 << 20);
    let limits = json!({
        "bandwidth": {"size": 1_000_000, "refill_time": 100, "one_time_burst": 5},
        "ops": {"size": 1000, "refill_time": 100},
    });
    let mut whole = json!({
        "balloon": null,
        "drives": [
            {
                "drive_id": "data", "is_root_device": false, "partuuid": null, "cache_type": "Writeback",
                "is_read_only": true, "path_on_host": file("data"), "io_engine": "Async",
                "rate_limiter": limits, "socket": null,
            },
            {
                "drive_id": "root", "is_root_device": true, "partuuid": "0-1", "cache_type": "Unsafe",
                "is_read_only": false, "path_on_host": file("root"), "io_engine": "Sync",
                "rate_limiter": null, "socket": null,
            },
        ],
        "boot-source": {
            "kernel_image_path": vm::payload(), "initrd_path": null, "boot_args": "payload=idle",
        },
        "cpu-config": null,
        "logger": {
            "log_path": vm.folder().join("log"), "level": "Debug", "show_level": true,
            "show_log_origin": true, "module": null,
        },
        "machine-config": {
            "vcpu_count": 2, "mem_size_mib": 64, "smt": false, "track_dirty_pages": true,
            "huge_pages": "Transparent",
        },
        "metrics": {"metrics_path": vm.folder().join("metrics")},
        "mmds-config": null,
        "network-interfaces": [],
        "vsock": null,
        "entropy": {"rate_limiter": limits},
        "pmem": [],
        "memory-hotplug": null,
    });
    if all {
        whole["balloon"] = json!({
            "amount_mib": 16, "deflate_on_oom": true, "stats_polling_interval_s": 1,
            "free_page_hinting": true, "free_page_reporting": false,
        });
        whole["cpu-config"] = json!({
            "kvm_capabilities": ["!56"],
            "cpuid_modifiers": [{
                "leaf": "0x1", "subleaf": "0x0", "flags": 0,
                "modifiers": [{"register": "ecx", "bitmap": "0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx1"}],
            }],
            "msr_modifiers": [],
        });
        whole["vsock"] = json!({"guest_cid": 3, "uds_path": "v.sock"});
        whole["pmem"] = json!([{
            "id": "p", "path_on_host": file("pmem"), "root_device": false, "read_only": true,
        }]);
        whole["memory-hotplug"] =
            json!({"total_size_mib": 1024, "slot_size_mib": 256, "block_size_mib": 4});
    }
    whole
}

/// Puts each part of a description over the socket.
fn put(vm: &Vm, whole: &Value) {
    let mut client = vm.client();
    for (part, value) in whole.as_object().unwrap() {
        let path = match part.as_str() {
            "memory-hotplug" => "hotplug/memory",
            other => other,
        };
        let (id, values) = match value {
            Value::Null => continue,
            Value::Array(values) => (["drive_id", "iface_id", "id"], values.clone()),
            one => ([""; 3], vec![one.clone()]),
        };
        for value in values {
            let id = id.iter().find_map(|key| value[key].as_str());
            let path = match id {
                Some(id) => format!("/{path}/{id}"),
                None => format!("/{path}"),
            };
            let reply = client.ask("PUT", &path, Some(&value.to_string()));
            assert_eq!(reply.status, 204, "{path}: {reply:?}");
        }
    }
}

#[test]
fn what_was_put_is_shown_and_can_be_put_again() {
    let vm = Vm::firecracker();
    let whole = description(&vm, true);
    put(&vm, &whole);
    let shown = vm.ask("GET", "/vm/config", None).json();
    assert_eq!(shown, whole);
    // The figures go to one place, once.
    let mut again = shown;
    again["metrics"] = Value::Null;
    put(&vm, &again);
    assert_eq!(vm.ask("GET", "/vm/config", None).json(), whole);
}

#[test]
fn a_configuration_file_is_shown_as_it_was_given_and_may_hold_what_was_shown() {
    if !vm::kvm() {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let maker = Vm::firecracker();
    let whole = description(&maker, false);
    let mut given = whole.clone();
    for _ in 0..2 {
        let path = files.path().join("vm.json");
        fs::write(&path, given.to_string()).unwrap();
        let vm = Vm::start(
            Face::Firecracker,
            &["--config-file", path.to_str().unwrap()],
        );
        // The socket is there before the guest runs.
        vm::until("the guest", || {
            let state = vm.ask("GET", "/", None).json()["state"].clone();
            (state == "Running").then_some(())
        });
        given = vm.ask("GET", "/vm/config", None).json();
        assert_eq!(given, whole);
    }
}
