//! What a user may get wrong: a sentence that names it, an exit status, and nothing left behind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{FlockOperation, flock};

use crate::guest::{Guest, header};
use crate::process::{kvm, run, stderr};
use crate::support::in_an_empty_dev;

/// The command line or a configuration is wrong.
const USAGE: i32 = 2;
/// Something that it names is.
const FAILED: i32 = 1;

/// Asserts that ravelin ends with `status`, having said all of `words` in one sentence, and nothing else.
fn refuses<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    status: i32,
    words: &[&str],
) -> Output {
    let output = run(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    for word in ["panicked at", "RUST_BACKTRACE", "os error 0", "\x1b"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    if text.starts_with("ravelin:") {
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert!(output.stdout.is_empty(), "{output:?}");
    output
}

/// As [`refuses`], with a kernel that is good.
fn refuses_with_kernel(arguments: &[&str], status: i32, words: &[&str]) {
    let kernel = Guest::default().reset().kernel();
    let first: [&OsStr; 2] = ["--kernel".as_ref(), kernel.path().as_os_str()];
    let all = first.into_iter().chain(arguments.iter().map(AsRef::as_ref));
    refuses(all, status, words);
}

/// Asserts that a kernel file of `bytes` is refused in `words`.
fn refuses_kernel(bytes: &[u8], words: &[&str]) {
    if !kvm() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let path = file.path().to_str().unwrap();
    refuses(
        ["--kernel", path],
        FAILED,
        &[&["kernel", path], words].concat(),
    );
}

/// The path of `name` in `directory`, as text.
fn inside(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().unwrap().to_owned()
}

#[test]
fn without_a_kernel_it_says_which_flag_names_one() {
    let none: [&str; 0] = [];
    refuses(none, USAGE, &["No kernel was given", "--kernel FILE"]);
}

#[test]
fn a_kernel_that_is_missing_is_named() {
    let words = [
        "kernel /nonexistent/vmlinux",
        "does not exist",
        "check the path",
    ];
    refuses(["--kernel", "/nonexistent/vmlinux"], FAILED, &words);
}

#[test]
fn a_directory_and_a_device_are_no_kernels() {
    refuses(
        ["--kernel", "/"],
        FAILED,
        &["not a regular file", "give the path"],
    );
    let device = ["--kernel", "/dev/null"];
    refuses(device, FAILED, &["not a regular file", "give the path"]);
}

#[test]
fn a_pipe_is_no_kernel_and_nobody_waits_for_its_other_end() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = inside(directory.path(), "pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    refuses(["--kernel", &pipe], FAILED, &[&pipe, "not a regular file"]);
    refuses_with_kernel(&["--initrd", &pipe], FAILED, &[&pipe, "not a regular"]);
    refuses_with_kernel(&["--disk", &pipe], FAILED, &[&pipe, "neither a regular"]);
    refuses_with_kernel(&["--log-file", &pipe], FAILED, &[&pipe, "log file"]);
}

#[test]
fn an_empty_kernel_is_told_from_a_truncated_one() {
    refuses_kernel(b"", &["is empty", "build or download it again"]);
    let mut elf = Guest::default().say_x(9).reset().elf();
    elf.truncate(elf.len() - 1);
    refuses_kernel(&elf, &["truncated", "build or download it again"]);
    refuses_kernel(&elf[..40], &["truncated"]);
}

#[test]
fn a_kernel_for_another_processor_is_told_so() {
    let arm = [header(2, 183), vec![0; 200]].concat();
    refuses_kernel(&arm, &["arm64", "give an x86-64 kernel"]);
    let i386 = [header(1, 3), vec![0; 200]].concat();
    refuses_kernel(&i386, &["32-bit", "give an x86-64 kernel"]);
}

#[test]
fn a_text_is_no_kernel() {
    let text = b"#!/bin/sh\necho I am no kernel\n".repeat(40);
    refuses_kernel(&text, &["neither an ELF vmlinux nor a bzImage"]);
}

#[test]
fn an_initrd_that_is_too_large_says_how_much_room_there_is() {
    if !kvm() {
        return;
    }
    let initrd = tempfile::NamedTempFile::new().unwrap();
    initrd.as_file().set_len(200 << 20).unwrap();
    let path = initrd.path().to_str().unwrap();
    let flags = ["--initrd", path, "--mem", "128M"];
    refuses_with_kernel(&flags, FAILED, &[path, "200 MiB", "more memory"]);
    let missing = ["--initrd", "/nonexistent/initrd"];
    refuses_with_kernel(
        &missing,
        FAILED,
        &["initrd /nonexistent/initrd", "not exist"],
    );
}

#[test]
fn a_memory_size_that_cannot_be_is_a_usage_error() {
    for size in ["0", "1", "1M"] {
        refuses_with_kernel(&["--mem", size], USAGE, &["too small", "at least 16 MiB"]);
    }
    refuses_with_kernel(&["--mem", "4000T"], USAGE, &["more than this host has"]);
    for size in ["much", "-1", "1.5G", "99999999999T", "1K"] {
        refuses_with_kernel(&["--mem", size], USAGE, &["--mem", size, "expected"]);
    }
}

#[test]
fn a_number_of_vcpus_that_cannot_be_is_a_usage_error() {
    for count in ["0", "33", "1000"] {
        let words = [&format!("{count} vCPUs"), "1 to 32"];
        refuses_with_kernel(&["--cpus", count], USAGE, &words);
    }
    for count in ["-1", "many", "99999999999"] {
        refuses_with_kernel(&["--cpus", count], USAGE, &["--cpus", count, "1 to 32"]);
    }
}

#[test]
fn a_disk_that_is_missing_or_no_disk_is_named() {
    for (path, word) in [
        ("/nonexistent/disk", "does not exist"),
        ("/", "is a directory"),
        ("/dev/null", "neither a regular file nor a block device"),
    ] {
        for flag in ["--root", "--disk"] {
            refuses_with_kernel(&[flag, path], FAILED, &[path, word]);
        }
    }
}

#[test]
fn a_disk_that_another_process_holds_is_busy() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    flock(disk.as_file(), FlockOperation::LockExclusive).unwrap();
    let path = disk.path().to_str().unwrap();
    refuses_with_kernel(&["--disk", path], FAILED, &[path, "in use by another"]);
}

#[test]
fn one_file_as_two_disks_is_a_usage_error() {
    let flags = ["--root", "a.img", "--disk", "a.img,ro"];
    refuses_with_kernel(&flags, USAGE, &["rootfs", "disk1", "a.img", "read-only"]);
}

#[test]
fn two_disks_with_one_id_are_a_usage_error() {
    let flags = ["--disk", "a.img,id=data", "--disk", "b.img,id=data"];
    refuses_with_kernel(&flags, USAGE, &["two drives", "`data`", "of its own"]);
    let flags = ["--disk", "a.img,id=a/b"];
    refuses_with_kernel(&flags, USAGE, &["`a/b`", "letters, digits"]);
}

#[test]
fn an_option_of_a_disk_that_is_unknown_or_wrong_is_named() {
    for (disk, word) in [
        ("a.img,fast", "`fast`"),
        ("a.img,engine=aio", "sync or uring"),
        ("a.img,bw=quick", "`quick`"),
        ("a.img,iops=0", "would stop the device"),
        (",ro", "no path"),
    ] {
        refuses_with_kernel(&["--disk", disk], USAGE, &["--disk", word]);
    }
    let long = format!("a.img,serial={}", "x".repeat(21));
    refuses_with_kernel(&["--disk", &long], USAGE, &["serial number", "up to 20"]);
}

#[test]
fn an_option_of_a_network_card_that_is_unknown_or_missing_is_named() {
    refuses_with_kernel(&["--net", "tap=tap0,speed=9"], USAGE, &["`speed=9`"]);
    refuses_with_kernel(&["--net", "mtu=1500"], USAGE, &["no tap", "tap=NAME"]);
    for (value, words) in [
        ("mac=06:00:ac:10:00", ["06:00:ac:10:00", "six pairs"]),
        ("mac=01:00:5e:00:00:01", ["01:00:5e:00:00:01", "group"]),
        ("mtu=9", ["9", "68"]),
        ("tap=a/b", ["a/b", "letters, digits"]),
        ("tap=", ["tap name", "1 to 15"]),
    ] {
        let net = format!("tap=tap0,{value}");
        refuses_with_kernel(&["--net", &net], USAGE, &words);
    }
}

#[test]
fn two_cards_cannot_share_a_tap_an_address_or_an_id() {
    let mac = "mac=06:00:00:00:00:01";
    let (first, second) = (format!("tap=a,{mac}"), format!("tap=b,{mac}"));
    for (first, second, word) in [
        ("tap=a", "tap=a", "the tap `a` is used by two"),
        (&first, &second, "06:00:00:00:00:01 is used by two"),
        (
            "tap=a,id=x",
            "tap=b,id=x",
            "two network interfaces are called `x`",
        ),
    ] {
        refuses_with_kernel(&["--net", first, "--net", second], USAGE, &[word]);
    }
}

#[test]
fn a_kernel_parameter_that_no_command_line_holds_is_a_usage_error() {
    refuses_with_kernel(&["--cmdline", "a\nb"], USAGE, &["printable"]);
    if kvm() {
        let long = "x".repeat(5000);
        refuses_with_kernel(&["--cmdline", &long], USAGE, &["bytes", "shorten"]);
    }
}

#[test]
fn flags_that_are_unknown_or_wrong_are_named() {
    refuses(["--kernl", "x"], USAGE, &["--kernl", "--kernel"]);
    refuses(["uname"], USAGE, &["uname", "Usage:"]);
    refuses(["--console", "pipe"], USAGE, &["--console", "file=PATH"]);
    refuses(["--protocol", "bios"], USAGE, &["bios", "linux64", "pvh"]);
    refuses(["--name", "a b"], USAGE, &["--name", "letters, digits"]);
    for time in ["0", "-1", "soon"] {
        refuses(["--timeout", time], USAGE, &["--timeout", time, "90s"]);
    }
}

#[test]
fn files_in_a_missing_directory_are_named_before_the_guest_runs() {
    let console = ["--console", "file=/nonexistent/console"];
    let words = ["console file /nonexistent/console", "directory that exists"];
    refuses_with_kernel(&console, FAILED, &words);
    let log = ["--log-file", "/nonexistent/log"];
    let words = ["log file /nonexistent/log", "directory that exists"];
    refuses_with_kernel(&log, FAILED, &words);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let config = ["--config", "/nonexistent/vm.json"];
    refuses(config, FAILED, &["/nonexistent/vm.json", "--print-config"]);
    refuses(
        ["--config", "/"],
        FAILED,
        &["configuration /", "cannot be read"],
    );
}

#[test]
fn without_dev_kvm_it_says_how_to_get_it() {
    let kernel = Guest::default().reset().kernel();
    let script = format!(
        "exec /dev/ravelin run --kernel '{}'",
        kernel.path().display()
    );
    let Some(output) = in_an_empty_dev(&script) else {
        return;
    };
    assert_eq!(output.status.code(), Some(FAILED), "{output:?}");
    let text = stderr(&output);
    assert!(text.contains("/dev/kvm does not exist"), "{text}");
    // Where its module is loaded, it says how to make the device; else, how to load the module.
    assert!(
        text.contains("modprobe") || text.contains("mknod"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn without_rights_it_says_how_to_get_them() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(directory.path(), 0o755);
    let (kernel, secret) = (inside(directory.path(), "k"), inside(directory.path(), "s"));
    let read_only = inside(directory.path(), "r");
    for (path, mode) in [(&kernel, 0o644), (&secret, 0o600), (&read_only, 0o644)] {
        fs::write(path, Guest::default().reset().elf()).unwrap();
        open(Path::new(path), mode);
    }
    for (flags, words) in [
        (
            format!("--kernel {kernel}"),
            ["/dev/kvm may not be opened by this user", "setfacl"],
        ),
        (
            format!("--kernel {secret}"),
            ["cannot be read by this user", "permissions"],
        ),
        (
            format!("--kernel {kernel} --disk {secret}"),
            ["may not be read by this user", "permissions"],
        ),
        (
            format!("--kernel {kernel} --disk {read_only}"),
            ["may not be written by this user", "`,ro`"],
        ),
    ] {
        let script = format!(
            "mknod -m 0660 /dev/kvm c 10 232 && chgrp 65533 /dev/kvm && \
             exec setpriv --reuid 65534 --regid 65534 --clear-groups /dev/ravelin run {flags}"
        );
        let Some(output) = in_an_empty_dev(&script) else {
            return;
        };
        assert_eq!(output.status.code(), Some(FAILED), "{output:?}");
        let text = stderr(&output);
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
    }
}

#[test]
fn a_start_that_fails_leaves_no_file_behind() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("kernel"), b"text").unwrap();
    for flags in [
        ["--kernel", "kernel", "--mem", "16M"],
        ["--kernel", "kernel", "--disk", "missing"],
        ["--kernel", "missing", "--timeout", "5"],
    ] {
        let output = Command::new(crate::support::RAVELIN)
            .arg("run")
            .args(flags)
            .current_dir(directory.path())
            .env("TMPDIR", directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(FAILED), "{output:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
