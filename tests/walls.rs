//! `ravelin audit` of a process behind every wall that must stand: this program itself, called once more.
//!
//! It has no test harness of its own threads' making: capabilities are a thread's, and the first one has to drop
//! its own too. Where no such process can be made, or filters cannot be read, the tests are listed as ignored,
//! and that is said.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{
    DumpableBehavior, Pid, Signal, chdir, kill_process, pivot_root, set_dumpable_behavior,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};
use serde_json::{Value, json};

const RAVELIN: &str = env!("CARGO_BIN_EXE_ravelin");

/// The argument by which this program becomes the process that is looked at.
const BEHIND_WALLS: &str = "behind-walls";
/// What its filter lets through whatever the arguments. `restart_syscall` is not among them, although its
/// threads wait with a time limit.
const CALLS: [(&str, i64); 7] = [
    ("read", libc::SYS_read),
    ("write", libc::SYS_write),
    ("mmap", libc::SYS_mmap),
    ("munmap", libc::SYS_munmap),
    ("sched_yield", libc::SYS_sched_yield),
    ("futex", libc::SYS_futex),
    ("exit_group", libc::SYS_exit_group),
];
/// `TCGETS` (ioctl_tty(2)): the one request of `ioctl` that its filter lets through.
const TCGETS: u64 = 0x5401;

fn main() -> ExitCode {
    if env::args()
        .nth(1)
        .is_some_and(|argument| argument == BEHIND_WALLS)
    {
        live_behind_walls();
    }
    let arguments = Arguments::from_args();
    let skipped = why_not();
    if let Some(reason) = &skipped {
        eprintln!("walls: SKIPPED, all of it: {reason}");
    }
    let tests: [(&str, fn()); 5] = [
        (
            "walls_that_stand_are_in_force",
            walls_that_stand_are_in_force,
        ),
        ("filters_are_told_exactly", filters_are_told_exactly),
        (
            "a_process_that_was_looked_at_goes_on",
            a_process_that_was_looked_at_goes_on,
        ),
        (
            "an_audit_that_is_interrupted_lets_the_process_go",
            an_audit_that_is_interrupted_lets_the_process_go,
        ),
        (
            "filters_that_are_not_shown_are_not_green",
            filters_that_are_not_shown_are_not_green,
        ),
    ];
    let trial = |(name, test): (&str, fn())| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(skipped.is_some())
    };
    let tests = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Why the tests cannot run here, if they cannot.
fn why_not() -> Option<String> {
    let walled = match Walled::try_start() {
        Ok(walled) => walled,
        Err(ended) => {
            return Some(format!(
                "walls need root, unshare(1), setpriv(1): {ended:?}"
            ));
        }
    };
    let report = json_of(&walled.audit(&["--only", "syscall-list"]));
    let row = row(&report, "syscall-list");
    (row["state"] == "not-testable").then(|| format!("filters cannot be read here: {row}"))
}

/// Gives up all but its standard files and a few calls, and repeats what it reads.
fn live_behind_walls() -> ! {
    // Where the files of the host's processes are, this is the number that the host knows it by.
    println!("{}", fs::read_link("/proc/self").unwrap().display());
    enter_an_empty_root();
    drop_capabilities();
    // A second thread, which has started when it says so, and from then on waits with a time limit.
    let (started, wait) = mpsc::channel();
    let (_end, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        started.send(()).unwrap();
        let _ = end.recv_timeout(Duration::from_secs(1000));
    });
    wait.recv().unwrap();
    let mut lines = std::io::stdin().lines();
    let filter = filter();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    apply_filter_all_threads(&filter).unwrap();
    println!("ready");
    while let Some(Ok(line)) = lines.next() {
        println!("{line}");
    }
    std::process::exit(0);
}

fn enter_an_empty_root() {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", "/tmp", "tmpfs", flags, c"size=1m").unwrap();
    chdir("/tmp").unwrap();
    pivot_root(".", ".").unwrap();
    unmount(".", UnmountFlags::DETACH).unwrap();
    mount_remount("/", flags | MountFlags::RDONLY, c"").unwrap();
}

fn drop_capabilities() {
    for one in CapabilitySet::all().iter() {
        // The kernel does not know all that the library knows.
        let _ = remove_capability_from_bounding_set(one);
    }
    clear_ambient_capability_set().unwrap();
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).unwrap();
    set_no_new_privs(true).unwrap();
}

fn filter() -> BpfProgram {
    let terminal = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, TCGETS);
    let terminal = SeccompRule::new(vec![terminal.unwrap()]).unwrap();
    let mut rules: BTreeMap<_, _> = CALLS.iter().map(|(_, call)| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, vec![terminal]);
    let (rest, matched) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, rest, matched, TargetArch::x86_64).unwrap();
    filter.try_into().unwrap()
}

/// A process in seven namespaces of its own, of an ordinary user, without capabilities, with a filter.
/// Dropping it ends it.
struct Walled {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pid: String,
}

impl Walled {
    fn start() -> Self {
        Self::try_start().unwrap()
    }

    /// # Errors
    /// How its start ended, where this user may not make one.
    fn try_start() -> Result<Self, Output> {
        let wrap = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             unshare --user --map-user 65534 --map-group 65534 --keep-caps --mount --pid --fork --kill-child \
             --net --ipc --uts --cgroup \
             prlimit --core=0:0 --nofile=256:256 \
             env -i \"$0\" \"$1\"";
        let mut child = Command::new("sh")
            .args(["-c", wrap])
            .arg(env::current_exe().unwrap())
            .arg(BEHIND_WALLS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        let mut line = String::new();
        while lines.last().is_none_or(|last| last != "ready") {
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                return Err(child.wait_with_output().unwrap());
            }
            lines.push(line.trim().to_owned());
        }
        let pid = lines.get(lines.len() - 2).cloned();
        Ok(Self {
            child,
            input,
            output,
            pid: pid.unwrap(),
        })
    }

    fn audit(&self, args: &[&str]) -> Output {
        let mut command = Command::new(RAVELIN);
        command.args(["audit", &self.pid, "--json"]).args(args);
        command.output().unwrap()
    }

    /// Whether it still repeats what is written to it.
    fn lives(&mut self) -> bool {
        let said = writeln!(self.input, "hello");
        let mut line = String::new();
        said.is_ok() && self.output.read_line(&mut line).is_ok() && line == "hello\n"
    }
}

impl Drop for Walled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    let found = rows.iter().find(|row| row["id"] == id);
    found.unwrap_or_else(|| panic!("no row {id} in {report:#}"))
}

fn state<'a>(report: &'a Value, id: &str) -> &'a str {
    row(report, id)["state"].as_str().unwrap()
}

fn walls_that_stand_are_in_force() {
    let walled = Walled::start();
    let output = walled.audit(&[]);
    let report = json_of(&output);
    let rows = report["rows"].as_array().unwrap();
    let required: Vec<_> = rows.iter().filter(|row| row["required"] == true).collect();
    assert!(required.len() > 20, "{report:#}");
    for row in required {
        assert_eq!(row["state"], "in-force", "{row:#}");
    }
    for wall in ["user", "groups", "merging"] {
        assert_eq!(state(&report, wall), "in-force", "{:#}", row(&report, wall));
    }
    assert_eq!(report["required_walls_stand"], "yes");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
}

fn filters_are_told_exactly() {
    let walled = Walled::start();
    let report = json_of(&walled.audit(&["--only", "syscalls"]));
    let mut expected = CALLS.map(|(name, _)| json!(name));
    let threads = report["threads"].as_array().unwrap();
    assert!(threads.len() > 1, "{report:#}");
    for thread in threads {
        let calls = &thread["syscalls"];
        let mut allowed = calls["allowed"].as_array().unwrap().clone();
        let by_name = |one: &Value, other: &Value| one.as_str().cmp(&other.as_str());
        allowed.sort_by(by_name);
        expected.sort_by(by_name);
        assert_eq!(allowed, expected);
        assert_eq!(calls["by_argument"], json!(["ioctl"]));
        assert_eq!(calls["rest"], json!(["kill-process"]));
        assert_eq!(calls["count"], CALLS.len() + 1);
        assert_eq!((&calls["x32"], &calls["i386"]), (&json!(0), &json!(0)));
    }
    for wall in ["syscall-list", "syscall-ban", "syscall-abi"] {
        assert_eq!(state(&report, wall), "in-force", "{report:#}");
    }
    let text = Command::new(RAVELIN)
        .args(["audit", &walled.pid, "--only", "syscalls"])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let list = ": 8 calls, the rest: kill-process: read write mmap munmap sched_yield futex exit_group ioctl(...)\n";
    assert!(text.contains(list), "{text}");
}

/// Its second thread waits with a time limit, and standing still must not end that by a forbidden call.
fn a_process_that_was_looked_at_goes_on() {
    let mut walled = Walled::start();
    for _ in 0..20 {
        walled.audit(&["--only", "syscalls"]);
        assert!(walled.lives());
    }
}

fn an_audit_that_is_interrupted_lets_the_process_go() {
    let mut walled = Walled::start();
    for delay in 0..20 {
        let mut audit = Command::new(RAVELIN)
            .args(["audit", &walled.pid, "--only", "syscalls"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // At another moment each time, from the program's start to after its end.
        for _ in 0..delay * 50 {
            thread::yield_now();
        }
        let _ = kill_process(Pid::from_child(&audit), Signal::INT);
        audit.wait().unwrap();
        assert!(walled.lives());
        let status = fs::read_to_string(format!("/proc/{}/status", walled.pid)).unwrap();
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
    }
}

fn filters_that_are_not_shown_are_not_green() {
    let mut walled = Walled::start();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-sys_admin", RAVELIN, "audit", &walled.pid])
        .args(["--json", "--only", "syscalls", "--require", "syscall-list"])
        .output()
        .unwrap();
    let report = json_of(&output);
    assert_eq!(state(&report, "seccomp"), "in-force", "{report:#}");
    assert_eq!(state(&report, "syscall-list"), "not-testable", "{report:#}");
    assert_eq!(report["required_walls_stand"], "unknown");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(walled.lives());
}
