//! Devices and ends, driven by the bare-metal payload of `tools/payload`: on any KVM, also one that boots no Linux.
//!
//! Without /dev/kvm every test is listed as ignored, and that is said.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/build.rs"]
mod build;
#[path = "support/examples.rs"]
mod examples;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use build::built;
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");
const FEATURES: [&str; 4] = ["", "event_idx", "indirect", "event_idx,indirect"];
const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let kvm = Path::new("/dev/kvm").exists();
    if !kvm {
        eprintln!("payload: SKIPPED, all of it: this machine has no /dev/kvm");
    }
    let root = rustix::process::geteuid().is_root();
    if kvm && !root {
        eprintln!("payload: SKIPPED, frames: a network namespace needs root");
    }
    let tests: [(&str, fn()); 13] = [
        (
            "every_end_has_its_exit_status",
            every_end_has_its_exit_status,
        ),
        (
            "a_crash_leaves_the_registers_in_the_log",
            a_crash_leaves_the_registers_in_the_log,
        ),
        (
            "signals_end_a_guest_that_does_not_listen",
            signals_end_a_guest_that_does_not_listen,
        ),
        (
            "a_guest_ends_when_its_time_is_over",
            a_guest_ends_when_its_time_is_over,
        ),
        ("a_block_is_zeroed", a_block_is_zeroed),
        (
            "a_disk_holds_what_was_written",
            a_disk_holds_what_was_written,
        ),
        ("requests_in_flight_come_back", requests_in_flight_come_back),
        (
            "the_second_disk_is_another_one",
            the_second_disk_is_another_one,
        ),
        (
            "a_read_only_disk_stays_as_it_is",
            a_read_only_disk_stays_as_it_is,
        ),
        ("frames_leave_through_a_tap", frames_leave_through_a_tap),
        (
            "entropy_differs_from_run_to_run",
            entropy_differs_from_run_to_run,
        ),
        (
            "the_figures_tell_what_the_guest_did",
            the_figures_tell_what_the_guest_did,
        ),
        (
            "the_examples_of_the_api_page_print_what_stands_there",
            the_examples_of_the_api_page_print_what_stands_there,
        ),
    ];
    let trials = tests.map(|(name, body)| {
        Trial::test(name, move || {
            body();
            Ok(())
        })
        .with_ignored_flag(!kvm || (name.starts_with("frames") && !root))
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn payload() -> PathBuf {
    built(
        "tools/payload",
        "payload",
        &["--release"],
        "release/payload",
    )
}

fn ravelin(work: &str, options: &[&str]) -> Command {
    let mut command = Command::new(RAVELIN);
    command.args(["run", "--mem", "128M", "--kernel"]);
    command
        .arg(payload())
        .args(["--cmdline", work])
        .args(options)
        .stdin(Stdio::null());
    command
}

fn run(work: &str, options: &[&str]) -> Output {
    ravelin(work, options)
        .args(["--timeout", "60s"])
        .output()
        .unwrap()
}

/// The line of the guest's output that starts with `start`.
fn line(output: &Output, start: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find(|line| line.starts_with(start));
    found
        .unwrap_or_else(|| panic!("no line {start:?} in {output:?}"))
        .to_owned()
}

fn disk() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(MIB).unwrap();
    file
}

fn option(disk: &NamedTempFile, rest: &str) -> String {
    format!("{}{rest}", disk.path().display())
}

fn every_end_has_its_exit_status() {
    let table = [
        ("payload=poweroff", 0, "powered off"),
        ("payload=poweroff:7", 7, "powered off"),
        ("payload=reset", 120, "rebooted"),
        ("payload=crash", 122, "triple fault"),
    ];
    for (work, status, said) in table {
        let output = run(work, &[]);
        assert_eq!(output.status.code(), Some(status), "{work}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(said),
            "{work}: {output:?}"
        );
    }
}

fn a_crash_leaves_the_registers_in_the_log() {
    let output = run("payload=crash", &["-vv"]);
    let log = String::from_utf8_lossy(&output.stderr);
    let told = log.split_once("vCPU 0 at its guest's end: ");
    let (_, state) = told.unwrap_or_else(|| panic!("{output:?}"));
    // On AMD, KVM resets the vCPU before it tells of a triple fault.
    assert!(
        state.starts_with("rip 0x") || state.starts_with("already reset"),
        "{state}"
    );
}

fn signals_end_a_guest_that_does_not_listen() {
    for (signals, status) in [
        (&[Signal::INT][..], 130),
        (&[Signal::TERM, Signal::TERM], 143),
    ] {
        let mut child = ravelin("payload=idle", &[])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        // The signals wait for ravelin as soon as it has blocked them: until then they would kill it.
        wait_until(|| {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            status
                .lines()
                .any(|line| line.starts_with("SigBlk:") && !line.ends_with("0000"))
        });
        for (sent, signal) in signals.iter().enumerate() {
            // A second signal of one kind counts only once the first was taken.
            wait_until(|| sent == 0 || !is_pending(child.id(), *signal));
            kill_process(pid, *signal).unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signals:?}");
    }
}

fn is_pending(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("ShdPnd:"))
        .unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to pass");
        std::thread::yield_now();
    }
}

fn a_guest_ends_when_its_time_is_over() {
    let output = ravelin("payload=idle", &["--timeout", "1s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
}

fn a_disk_holds_what_was_written() {
    for engine in ["sync", "uring"] {
        for features in FEATURES {
            let disk = disk();
            let work = format!("payload=blk:verify:64 payload.features={features}");
            let output = run(
                &work,
                &["--disk", &option(&disk, &format!(",engine={engine}"))],
            );
            let expected = "blk verify 4096 count 64 errors 0 wrong 0";
            assert_eq!(line(&output, "blk verify"), expected, "{engine} {features}");
            let mut last = [0; 4];
            disk.as_file()
                .read_exact_at(&mut last, 64 * 4096 - 4)
                .unwrap();
            assert_ne!(
                last, [0; 4],
                "{engine} {features}: nothing reached the file"
            );
        }
    }
}

fn a_block_is_zeroed() {
    for engine in ["sync", "uring"] {
        let disk = disk();
        let options = ["--disk", &option(&disk, &format!(",engine={engine}"))];
        let output = run("payload=blk:zero", &options);
        let expected = "blk zero 4096 errors 0 wrong 0";
        assert_eq!(line(&output, "blk zero"), expected, "{engine}");
    }
}

fn requests_in_flight_come_back() {
    for engine in ["sync", "uring"] {
        for features in FEATURES {
            for work in [
                "blk:write:4096:32:2000",
                "blk:read:65536:8:500",
                "blk:read:4096:1:2000",
            ] {
                let disk = disk();
                let options = option(&disk, &format!(",engine={engine}"));
                let work = format!("payload={work} payload.features={features}");
                let output = run(&work, &["--disk", &options]);
                let whole = String::from_utf8_lossy(&output.stdout).contains(" errors 0 kicks ");
                assert!(whole, "{engine} {work}: {output:?}");
            }
        }
    }
}

fn the_second_disk_is_another_one() {
    let (first, second) = (disk(), disk());
    let options = [
        "--disk",
        &option(&first, ""),
        "--disk",
        &option(&second, ""),
    ];
    let output = run("payload=blk:verify:1 payload.device=1", &options);
    assert!(line(&output, "blk verify").ends_with("errors 0 wrong 0"));
    assert!(
        fs::read(first.path())
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    assert!(
        fs::read(second.path())
            .unwrap()
            .iter()
            .any(|byte| *byte != 0)
    );
}

fn a_read_only_disk_stays_as_it_is() {
    let disk = disk();
    let output = run("payload=blk:verify:3", &["--disk", &option(&disk, ",ro")]);
    // Three writes are refused, and what is read back is not what they held.
    assert_eq!(
        line(&output, "blk verify"),
        "blk verify 4096 count 3 errors 3 wrong 3"
    );
    assert!(fs::read(disk.path()).unwrap().iter().all(|byte| *byte == 0));
}

/// In a network namespace of their own, on a tap that ravelin makes and removes.
fn frames_leave_through_a_tap() {
    for (work, features) in ["net:tx:64:1:500", "net:tx:1514:64:5000"]
        .into_iter()
        .zip(FEATURES)
    {
        let work = format!("payload={work} payload.features={features}");
        let guest = ravelin(&work, &["--net", "tap=payload0", "--timeout", "60s"]);
        let output = Command::new("unshare")
            .args(["--net", "--"])
            .arg(guest.get_program())
            .args(guest.get_args())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(line(&output, "net tx").contains(" count "), "{work}");
    }
}

fn entropy_differs_from_run_to_run() {
    let drawn = [(); 2].map(|()| line(&run("payload=rng:64", &[]), "rng wanted 64 got 64 first "));
    assert_ne!(drawn[0], drawn[1]);
}

fn the_figures_tell_what_the_guest_did() {
    let (disk, folder) = (disk(), tempfile::tempdir().unwrap());
    let figures = folder.path().join("figures");
    let config = folder.path().join("vm.json");
    let description = serde_json::json!({
        "boot-source": {
            "kernel_image_path": payload(),
            "boot_args": "payload=blk:verify:64",
        },
        "drives": [{"drive_id": "data", "is_root_device": false, "path_on_host": disk.path()}],
        "metrics": {"metrics_path": figures},
    });
    fs::write(&config, description.to_string()).unwrap();
    let output = Command::new(RAVELIN)
        .args(["run", "--timeout", "60s", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    line(&output, "blk verify 4096 count 64 errors 0 wrong 0");
    let text = fs::read_to_string(&figures).unwrap();
    assert_eq!(text.lines().count(), 1, "one line, at the end");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let count = |group: &str, key: &str| told[group][key].as_u64().unwrap();
    for group in ["block", "block_data"] {
        assert_eq!(count(group, "write_bytes"), 64 * 4096, "{text}");
        assert_eq!(count(group, "read_bytes"), 64 * 4096, "{text}");
        assert_ne!(count(group, "read_count"), 0);
        assert_eq!(count(group, "execute_fails"), 0);
    }
    let said = u64::try_from(output.stdout.len()).unwrap();
    assert!(count("uart", "write_count") >= said / 2, "{text}");
    for (group, key) in [
        ("vcpu", "exit_io_out"),
        ("vcpu", "exit_mmio_read"),
        ("vcpu", "exit_mmio_write"),
    ] {
        assert_ne!(count(group, key), 0, "{group} {key}: {text}");
    }
}

/// One shell runs them all, since each goes on where the one before it stopped. The guest is the payload, and
/// its work stands in the place of Linux's parameters.
fn the_examples_of_the_api_page_print_what_stands_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(payload(), folder.path().join("vmlinux")).unwrap();
    fs::write(folder.path().join("disk.img"), vec![0; 1 << 20]).unwrap();
    let examples = examples::examples(&examples::page("api.md"));
    assert!(examples.len() > 20, "{examples:?}");
    let mut script = "exec 2>&1\n".to_owned();
    for (number, example) in examples.iter().enumerate() {
        let command = example
            .command
            .replace("console=ttyS0 reboot=k", "payload=idle");
        writeln!(script, "echo '@{number}'\n{command}").unwrap();
    }
    // With what it has started, should an example hang.
    let output = Command::new("timeout")
        .args(["--signal=KILL", "60", "sh", "-c", &script])
        .current_dir(folder.path())
        .env("PATH", examples::path_with_ravelin())
        .env("RAVELIN_RUNTIME_DIR", folder.path().join("run"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut printed = String::from_utf8(output.stdout).unwrap();
    for (number, example) in examples.iter().enumerate().rev() {
        let (before, own) = printed
            .split_once(&format!("@{number}\n"))
            .unwrap_or_else(|| panic!("$ {} was not reached: {printed}", example.command));
        assert_eq!(own, example.prints, "$ {}", example.command);
        printed = before.to_owned();
    }
}
