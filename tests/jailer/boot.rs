//! A guest that boots from inside a jail.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use crate::guest::Guest;
use crate::kit::{GID, Place, UID, jailing};

/// Boots a guest through the API, from a kernel that lies in the jail: what it says on the serial port.
fn boots(place: &Place, jailer: &mut Command, owner: (u32, u32)) {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("SKIPPED: this machine has no /dev/kvm");
        return;
    }
    fs::create_dir_all(place.root()).unwrap();
    let kernel = place.root().join("kernel");
    fs::write(
        &kernel,
        Guest::default().say("from the jail").power_off().elf(),
    )
    .unwrap();
    chown(&kernel, Some(owner.0), Some(owner.1)).unwrap();
    let mut vm = place.start_by(jailer);
    vm.put("/machine-config", r#"{"vcpu_count":1,"mem_size_mib":64}"#);
    vm.put("/boot-source", r#"{"kernel_image_path":"/kernel"}"#);
    vm.put("/actions", r#"{"action_type":"InstanceStart"}"#);
    let output = vm.end();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("from the jail"), "{output:?}");
}

#[test]
fn a_guest_boots_in_a_jail() {
    jailing(|place| boots(place, &mut place.jailer(""), (UID, GID)));
}

#[test]
fn a_guest_boots_in_a_jail_of_root_without_rights() {
    jailing(|place| boots(place, &mut place.jailer_as((0, 0), ""), (0, 0)));
}

#[test]
fn katas_command_line_boots_a_guest_from_a_configuration_file() {
    jailing(|place| {
        if !Path::new("/dev/kvm").exists() {
            eprintln!("SKIPPED: this machine has no /dev/kvm");
            return;
        }
        fs::create_dir_all(place.root()).unwrap();
        let kernel = Guest::default().say("kata").halt().elf();
        fs::write(place.root().join("vmlinux"), kernel).unwrap();
        let config = r#"{"boot-source":{"kernel_image_path":"vmlinux"},"drives":[],
            "machine-config":{"vcpu_count":1,"mem_size_mib":64},"logger":{"log_path":"/log"}}"#;
        fs::write(place.root().join("fcConfig.json"), config).unwrap();
        fs::write(place.root().join("log"), "").unwrap();
        // As virtcontainers/fc.go passes them.
        let line = "--daemonize --netns /proc/self/ns/net -- --config-file /fcConfig.json";
        let vm = place.start_by(&mut place.jailer_as((0, 0), line));
        let mut state = vm.ask("GET", "/", "");
        while !state.contains("Running") {
            state = vm.ask("GET", "/", "");
        }
        assert_eq!(vm.proc("comm"), "firecracker\n");
    });
}
