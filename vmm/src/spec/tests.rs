//! What makes a description valid, and what it reads like.

use super::*;

fn parse(json: &str) -> Spec {
    serde_json::from_str(json).unwrap()
}

fn good() -> Spec {
    parse(
        r#"{
          "boot-source": {"kernel_image_path": "vmlinux", "boot_args": "console=ttyS0"},
          "drives": [
            {"drive_id": "data", "path_on_host": "data.img", "is_root_device": false},
            {"drive_id": "rootfs", "path_on_host": "root.ext4", "is_root_device": true,
             "is_read_only": true, "cache_type": "Writeback", "io_engine": "Async",
             "rate_limiter": {"bandwidth": {"size": 4096, "one_time_burst": 65536, "refill_time": 100},
                               "ops": {"size": 10, "refill_time": 100}}}
          ],
          "machine-config": {"vcpu_count": 2, "mem_size_mib": 512},
          "network-interfaces": [
            {"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": null,
             "rx_rate_limiter": {"bandwidth": null, "ops": {"size": 1, "refill_time": 1}},
             "tx_rate_limiter": null}
          ]
        }"#,
    )
}

#[test]
fn a_firecracker_configuration_file_is_understood() {
    assert_eq!(good().validate(), Ok(()));
}

#[test]
fn what_is_printed_reads_back_the_same() {
    let printed = serde_json::to_string(&good()).unwrap();
    assert_eq!(parse(&printed), good());
}

#[test]
fn the_root_device_comes_first() {
    let spec = good();
    let order: Vec<_> = spec
        .drives_in_order()
        .map(|drive| drive.drive_id.as_str())
        .collect();
    assert_eq!(order, ["rootfs", "data"]);
}

#[test]
fn an_unknown_key_is_named() {
    let error = serde_json::from_str::<Spec>(r#"{"boot-sauce": {}}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `boot-sauce`"));
}

#[test]
fn a_machine_has_1_to_32_vcpus() {
    for (count, ok) in [(0, false), (1, true), (32, true), (33, false)] {
        let mut spec = good();
        spec.machine_config.vcpu_count = count;
        assert_eq!(spec.validate().is_ok(), ok, "{count}");
    }
}

#[test]
fn two_drives_cannot_share_an_id() {
    let mut spec = good();
    spec.drives[0].drive_id = "rootfs".to_owned();
    let id = "rootfs".to_owned();
    assert_eq!(
        spec.validate(),
        Err(SpecError::DuplicateId { kind: "drive", id })
    );
}

#[test]
fn an_id_is_letters_digits_and_underscores() {
    for id in ["", "a-b", "a/b", &"a".repeat(65)] {
        let mut spec = good();
        spec.drives[0].drive_id = id.to_owned();
        assert!(matches!(spec.validate(), Err(SpecError::Id { .. })), "{id}");
    }
}

#[test]
fn there_is_one_root_device() {
    let mut spec = good();
    spec.drives[0].is_root_device = true;
    assert!(matches!(spec.validate(), Err(SpecError::TwoRoots(..))));
}

#[test]
fn a_tap_serves_one_interface() {
    let mut spec = good();
    let mut second = spec.network_interfaces[0].clone();
    second.iface_id = "eth1".to_owned();
    spec.network_interfaces.push(second);
    assert!(matches!(spec.validate(), Err(SpecError::DuplicateTap(_))));
}

#[test]
fn a_serial_number_has_20_printable_characters_at_most() {
    for (serial, ok) in [("disk-1", true), (&"x".repeat(21), false), ("a\tb", false)] {
        let mut spec = good();
        spec.drives[0].serial = Some(serial.to_owned());
        assert_eq!(spec.validate().is_ok(), ok, "{serial}");
    }
}

#[test]
fn one_file_may_be_two_disks_only_when_both_are_read_only() {
    for (first, second, ok) in [
        (true, true, true),
        (true, false, false),
        (false, false, false),
    ] {
        let mut spec = good();
        spec.drives[0].is_read_only = first;
        spec.drives[1].is_read_only = second;
        spec.drives[1].path_on_host = "data.img".to_owned();
        assert_eq!(spec.validate().is_ok(), ok, "{first} {second}");
    }
}

#[test]
fn what_firecracker_prints_for_nothing_is_nothing() {
    let spec = parse(
        r#"{"boot-source": {"kernel_image_path": "k", "initrd_path": null, "boot_args": null},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": null},
            "drives": [{"drive_id": "a", "is_root_device": false, "path_on_host": "a", "partuuid": null,
                        "is_read_only": null, "rate_limiter": null, "socket": null}],
            "pmem": null, "network-interfaces": [], "balloon": null, "cpu-config": null, "logger": null,
            "metrics": null, "mmds-config": null, "vsock": null, "memory-hotplug": null,
            "entropy": {"rate_limiter": null}}"#,
    );
    assert_eq!(spec.validate(), Ok(()));
}

#[test]
fn every_key_of_get_vm_config_is_printed_also_for_nothing() {
    let printed = serde_json::to_value(Spec::default()).unwrap();
    let mut keys: Vec<_> = printed.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "balloon",
            "boot-source",
            "cpu-config",
            "drives",
            "entropy",
            "logger",
            "machine-config",
            "memory-hotplug",
            "metrics",
            "mmds-config",
            "network-interfaces",
            "pmem",
            "vsock"
        ]
    );
    assert!(printed["balloon"].is_null());
    assert_eq!(printed["pmem"], serde_json::json!([]));
}

#[test]
fn a_device_that_cannot_be_built_yet_is_named() {
    for (json, word) in [
        (
            r#"{"balloon": {"amount_mib": 1, "deflate_on_oom": true}}"#,
            "balloon",
        ),
        (r#"{"pmem": [{"id": "a", "path_on_host": "p"}]}"#, "pmem"),
        (r#"{"memory-hotplug": {"total_size_mib": 128}}"#, "plug"),
        (
            r#"{"drives": [{"drive_id": "a", "is_root_device": false, "socket": "s"}]}"#,
            "socket",
        ),
    ] {
        let mut spec = parse(json);
        spec.boot_source = good().boot_source;
        let error = spec.validate().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn the_metadata_service_is_reached_through_cards_that_are_there() {
    let mut spec = good();
    let mmds = |id: &str| {
        let text = format!(r#"{{"network_interfaces": ["{id}"]}}"#);
        Some(serde_json::from_str(&text).unwrap())
    };
    spec.mmds_config = mmds("eth0");
    assert_eq!(spec.validate(), Ok(()));
    spec.mmds_config = mmds("eth9");
    assert!(matches!(spec.validate(), Err(SpecError::Mmds(_))));
}
