//! The system call filters, on a VM that runs: every thread has one, and each kills.
//!
//! Without /dev/kvm every test is listed as ignored, and that is said.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/build.rs"]
mod build;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};

use build::built;
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let kvm = Path::new("/dev/kvm").exists();
    if !kvm {
        eprintln!("seccomp: SKIPPED, all of it: this machine has no /dev/kvm");
    }
    let tests: [(&str, fn()); 8] = [
        ("every_thread_has_a_filter", every_thread_has_a_filter),
        (
            "a_vm_whose_process_was_stopped_goes_on",
            a_vm_whose_process_was_stopped_goes_on,
        ),
        (
            "an_audit_finds_every_filter_in_force",
            an_audit_finds_every_filter_in_force,
        ),
        (
            "without_filters_no_thread_has_one",
            without_filters_no_thread_has_one,
        ),
        (
            "a_call_that_is_not_listed_kills_the_process",
            a_call_that_is_not_listed_kills_the_process,
        ),
        (
            "an_argument_that_is_not_listed_kills_the_process",
            an_argument_that_is_not_listed_kills_the_process,
        ),
        (
            "a_watched_call_is_told_and_done",
            a_watched_call_is_told_and_done,
        ),
        (
            "a_panic_speaks_before_it_ends_the_process",
            a_panic_speaks_before_it_ends_the_process,
        ),
    ];
    let trials: Vec<_> = tests
        .into_iter()
        .map(|(name, body)| {
            Trial::test(name, move || {
                body();
                Ok(())
            })
            .with_ignored_flag(!kvm)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn payload() -> PathBuf {
    built(
        "tools/payload",
        "payload",
        &["--release"],
        "release/payload",
    )
}

/// A ravelin whose threads attack as `RAVELIN_REDTEAM` says.
fn red_team() -> PathBuf {
    built(".", "redteam", &["--features", "redteam"], "debug/ravelin")
}

/// A VM with a socket, a disk and nothing else, whose guest spins.
struct Vm {
    process: Child,
    _folder: TempDir,
}

impl Vm {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        let config = folder.path().join("vm.json");
        let text = serde_json::json!({
            "boot-source": { "kernel_image_path": payload(), "boot_args": "payload=idle" },
            "machine-config": { "vcpu_count": 1, "mem_size_mib": 128 },
            "drives": [{ "drive_id": "data", "path_on_host": disk, "is_root_device": false }],
        });
        fs::write(&config, text.to_string()).unwrap();
        let mut process = Command::new(RAVELIN)
            .args(["api", "--quiet", "--no-jail", "--api-sock"])
            .arg(folder.path().join("socket"))
            .arg("--config")
            .arg(&config)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let idle = said.lines().any(|line| line.unwrap() == "idle");
        assert!(idle, "the guest has ended: {:?}", process.wait());
        Self {
            process,
            _folder: folder,
        }
    }

    /// The threads' names, and a line of their status.
    fn threads(&self, key: &str) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let status =
            tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
        let value = |text: &str, key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        status
            .map(|text| (value(&text, "Name"), value(&text, key)))
            // A worker of KVM's own in the process never leaves the kernel.
            .filter(|(name, _)| !name.starts_with("kvm-"))
            .collect()
    }

    fn end(mut self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::INT).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(130));
    }
}

impl Drop for Vm {
    /// A test that has failed leaves nothing behind.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn every_thread_has_a_filter() {
    let vm = Vm::start(&[]);
    let mut threads = vm.threads("Seccomp");
    threads.sort();
    let names: Vec<_> = threads.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["api", "io0", "ravelin", "vcpu0"]);
    assert!(threads.iter().all(|(_, mode)| mode == "2"), "{threads:?}");
    assert!(
        vm.threads("Seccomp_filters")
            .iter()
            .all(|(_, count)| count == "1")
    );
    assert!(vm.threads("NoNewPrivs").iter().all(|(_, set)| set == "1"));
    vm.end();
}

/// Where each thread waits for something, the kernel has it go on by `restart_syscall`, or tells it.
fn a_vm_whose_process_was_stopped_goes_on() {
    let vm = Vm::start(&[]);
    let pid = Pid::from_child(&vm.process);
    for _ in 0..20 {
        kill_process(pid, Signal::STOP).unwrap();
        let is_stopped = || {
            let states = vm.threads("State");
            states.iter().all(|(_, state)| state.starts_with('T'))
        };
        while !is_stopped() {
            std::thread::yield_now();
        }
        kill_process(pid, Signal::CONT).unwrap();
    }
    vm.end();
}

/// The audit has each thread stand still, many times over, and reads its filter.
fn an_audit_finds_every_filter_in_force() {
    let vm = Vm::start(&[]);
    let pid = vm.process.id().to_string();
    let audit = || {
        let arguments = ["audit", &pid, "--json", "--only", "syscalls"];
        let output = Command::new(RAVELIN).args(arguments).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = audit();
    for row in report["rows"].as_array().unwrap() {
        let state = match row["evidence"].as_str() {
            Some(words) if words.contains("CAP_SYS_ADMIN") => {
                eprintln!("seccomp: SKIPPED: {words}");
                "not-testable"
            }
            _ if row["id"] == "landlock" => "not-testable",
            _ => "in-force",
        };
        assert_eq!(row["state"], state, "{row:#}");
    }
    for _ in 0..20 {
        assert_eq!(audit()["rows"], report["rows"]);
    }
    vm.end();
}

fn without_filters_no_thread_has_one() {
    let vm = Vm::start(&["--no-seccomp"]);
    let threads = vm.threads("Seccomp");
    assert!(threads.iter().all(|(_, mode)| mode == "0"), "{threads:?}");
    vm.end();
}

/// Runs a guest under a red team, with a socket or without, until one of them ends it.
fn attack(order: &str, subcommand: &str, options: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(red_team());
    command.env("RAVELIN_REDTEAM", order).stdin(Stdio::null());
    if subcommand == "run" {
        command.args(["run", "--no-jail", "--timeout", "30s", "--mem", "128M"]);
        command.arg("--kernel");
        command
            .arg(payload())
            .args(["--cmdline", "payload=poweroff"]);
    } else {
        let config = folder.path().join("vm.json");
        let text = serde_json::json!({
            "boot-source": { "kernel_image_path": payload(), "boot_args": "payload=poweroff" },
            "machine-config": { "vcpu_count": 1, "mem_size_mib": 128 },
        });
        fs::write(&config, text.to_string()).unwrap();
        command
            .args(["api", "--no-jail", "--api-sock"])
            .arg(folder.path().join("socket"));
        command.arg("--config").arg(&config);
    }
    command.args(options).output().unwrap()
}

/// The roles, and the subcommand that has them.
const ROLES: [(&str, &str); 4] = [
    ("vmm", "run"),
    ("vcpu", "run"),
    ("io", "run"),
    ("api", "api"),
];

fn assert_killed(role: &str, subcommand: &str, call: &str) {
    let output = attack(&format!("{role}:{call}"), subcommand, &[]);
    let signal = output.status.signal();
    assert_eq!(signal, Some(libc::SIGSYS), "{role} {call}: {output:?}");
}

fn a_call_that_is_not_listed_kills_the_process() {
    let calls = [
        libc::SYS_socket,
        libc::SYS_execve,
        libc::SYS_open,
        libc::SYS_ptrace,
        libc::SYS_clone3,
        libc::SYS_io_uring_setup,
        libc::SYS_mprotect,
        // x32: the same number in another table.
        libc::SYS_read | 0x4000_0000,
    ];
    for (role, subcommand) in ROLES {
        for call in calls {
            assert_killed(role, subcommand, &call.to_string());
        }
    }
}

fn an_argument_that_is_not_listed_kills_the_process() {
    let executable = format!("{}:0:4096:7:34:-1:0", libc::SYS_mmap);
    let create_vm = format!("{}:-1:{}", libc::SYS_ioctl, 0xae01);
    let someone_elses = format!("{}:1:1:0", libc::SYS_tgkill);
    for call in [&executable, &create_vm, &someone_elses] {
        for (role, subcommand) in ROLES {
            assert_killed(role, subcommand, call);
        }
    }
    assert_killed("vmm", "api", &format!("{}:-100:0:64:0", libc::SYS_openat));
}

fn a_watched_call_is_told_and_done() {
    let order = format!("vcpu:{}", libc::SYS_getppid);
    let output = attack(&order, "run", &["--seccomp-log"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    let told = format!(
        "the thread vcpu0 (vcpu) made the system call {}",
        libc::SYS_getppid
    );
    assert!(
        text.contains(&told) && text.contains("was made and gave"),
        "{text}"
    );
}

fn a_panic_speaks_before_it_ends_the_process() {
    for (role, subcommand) in ROLES {
        let output = attack(&format!("{role}:panic"), subcommand, &[]);
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGSYS),
            "{role}: {output:?}"
        );
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("the panic that RAVELIN_REDTEAM asked for"),
            "{role}: {text}"
        );
    }
}
