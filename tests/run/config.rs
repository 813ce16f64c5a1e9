//! `--config` and `--print-config`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::guest::Guest;
use crate::process::{kvm, run, stderr, stdout};
use crate::support::RAVELIN;

/// A file with `text`, and its path as text.
fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

/// Asserts that a configuration is refused with `status`, in words that contain `word`.
fn refuses(text: &str, status: i32, word: &str) {
    let (_file, path) = file(text);
    let output = run(["--config", &path]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(word), "no {word:?} in {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn printed(arguments: &[&str]) -> String {
    let output = run(["--print-config"].iter().chain(arguments));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    stdout(&output)
}

#[test]
fn what_is_printed_is_read_back_the_same() {
    let flags = [
        "--kernel",
        "vmlinux",
        "--initrd",
        "initrd.img",
        "--cmdline",
        "debug -- single",
        "--mem",
        "1G",
        "--cpus",
        "2",
        "--root",
        "root.ext4,ro,bw=10M,iops=100",
        "--disk",
        "data.img,serial=S1,engine=uring,cache=unsafe",
        "--net",
        "tap=tap0,mac=06:00:ac:10:00:02,mtu=1400,rx-bw=1M,tx-pps=10",
    ];
    let first = printed(&flags);
    let (_file, path) = file(&first);
    assert_eq!(printed(&["--config", &path]), first);
    let value: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(value["machine-config"]["mem_size_mib"], 1024);
    assert_eq!(value["drives"][0]["rate_limiter"]["ops"]["size"], 100);
}

#[test]
fn a_reader_of_the_start_of_what_is_printed_breaks_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(RAVELIN)
        .args(["run", "--kernel", "vmlinux", "--print-config"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_command_is_part_of_what_is_printed() {
    let first = printed(&["--kernel", "vmlinux", "--", "sh", "-c", "echo 1"]);
    assert!(
        first.contains("ravelin.command=sh%00-c%00echo%201"),
        "{first}"
    );
    let (_file, path) = file(&first);
    assert_eq!(printed(&["--config", &path]), first);
}

#[test]
fn flags_override_and_add_to_the_configuration() {
    let (_file, path) = file(&printed(&["--kernel", "a", "--root", "a.img"]));
    let flags = [
        "--config", &path, "--kernel", "b", "--mem", "64", "--root", "b.img", "--disk", "c.img",
    ];
    let value: Value = serde_json::from_str(&printed(&flags)).unwrap();
    assert_eq!(value["boot-source"]["kernel_image_path"], "b");
    assert_eq!(value["machine-config"]["mem_size_mib"], 64);
    let paths = |place: usize| &value["drives"][place]["path_on_host"];
    assert_eq!([paths(0), paths(1)], ["b.img", "c.img"]);
    assert!(value["drives"][2].is_null());
}

#[test]
fn a_configuration_boots() {
    if !kvm() {
        return;
    }
    let kernel = Guest::default().say("configured\n").power_off().kernel();
    let path = kernel.path().to_str().unwrap();
    let (_file, config) = file(&printed(&["--kernel", path, "--mem", "64M"]));
    let output = run(["--config", &config]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "configured\n");
}

#[test]
fn a_configuration_file_of_firecrackers_boots() {
    if !kvm() {
        return;
    }
    let kernel = Guest::default().say("hello\n").power_off().kernel();
    let config = format!(
        r#"{{"boot-source": {{"kernel_image_path": {:?}, "boot_args": "console=ttyS0", "initrd_path": null}},
            "drives": [], "network-interfaces": [], "vsock": null, "logger": null, "metrics": null,
            "mmds-config": null, "cpu-config": null, "balloon": null, "entropy": null, "pmem": [],
            "memory-hotplug": null,
            "machine-config": {{"vcpu_count": 2, "mem_size_mib": 128, "smt": false,
                                "track_dirty_pages": false, "huge_pages": "None"}}}}"#,
        kernel.path().to_str().unwrap()
    );
    let (_file, path) = file(&config);
    let output = run(["--config", &path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "hello\n");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_those_that_there_are() {
    let text = "{\n  \"boot-sauce\": {}\n}";
    refuses(text, 2, "did you mean `boot-source`?");
    refuses(text, 2, "line 2");
    refuses(
        r#"{"machine-config": {"ht_enabled": true}}"#,
        2,
        "`ht_enabled`",
    );
}

#[test]
fn what_is_not_json_is_told_from_what_is_wrong() {
    refuses(
        "kernel = vmlinux",
        2,
        "is not JSON: expected value at line 1",
    );
    refuses("", 2, "is not JSON: EOF");
    let text = r#"{"machine-config": {"vcpu_count": 300}}"#;
    refuses(text, 2, "is wrong: invalid value: integer `300`");
}

#[test]
fn a_configuration_without_end_is_refused() {
    let output = run(["--config", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("more than 1048576 bytes"),
        "{output:?}"
    );
}

#[test]
fn a_device_that_this_version_cannot_build_is_named() {
    for (key, value) in [
        ("balloon", r#"{"amount_mib": 1, "deflate_on_oom": false}"#),
        ("pmem", r#"[{"id": "a", "path_on_host": "p"}]"#),
        ("memory-hotplug", r#"{"total_size_mib": 128}"#),
    ] {
        let text = format!(r#"{{"boot-source": {{"kernel_image_path": "k"}}, "{key}": {value}}}"#);
        refuses(&text, 2, "this version cannot build it");
    }
}

#[test]
fn a_wrong_address_is_named_with_its_line() {
    let text = "{\"network-interfaces\": [\n{\"iface_id\": \"a\", \"host_dev_name\": \"tap0\", \"guest_mac\": \"zz\"}]}";
    refuses(text, 2, "\"zz\" is not six pairs of hexadecimal digits");
    refuses(text, 2, "line 2");
}

#[test]
fn a_configuration_without_a_kernel_says_where_one_is_named() {
    refuses("{}", 2, "kernel_image_path");
}
