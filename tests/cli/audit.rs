//! `ravelin audit`: of a monitor without walls, and of a process that has some.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use rustix::process::{DumpableBehavior, Pid, Signal, kill_process, set_dumpable_behavior};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};
use serde_json::{Value, json};

use crate::fake::{Place, RAVELIN, json_of, sleeper, stderr, stdout};
use crate::real::Api;

fn row<'a>(report: &'a Value, id: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    let found = rows.iter().find(|row| row["id"] == id);
    found.unwrap_or_else(|| panic!("no row {id} in {report:#}"))
}

fn state<'a>(report: &'a Value, id: &str) -> &'a str {
    row(report, id)["state"].as_str().unwrap()
}

#[test]
fn a_monitor_without_walls_is_told_so() {
    let place = Place::new();
    let api = Api::start(&place, &["--name", "web"]);
    let output = place.ravelin(&["audit", "--json"]);
    let report = json_of(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["format"], 1);
    assert_eq!(report["required_walls_stand"], "no");
    let pid = api.child.as_ref().unwrap().id();
    assert_eq!(report["target"], json!({ "name": "web", "pid": pid }));
    for wall in [
        "environment",
        "ns-mount",
        "ns-pid",
        "ns-net",
        "ns-user",
        "ns-ipc",
        "ns-uts",
        "ns-cgroup",
        "root",
    ] {
        assert_eq!(state(&report, wall), "absent", "{wall}: {report:#}");
    }
    for wall in ["descriptors", "memory", "untraced"] {
        assert_eq!(state(&report, wall), "in-force", "{wall}: {report:#}");
    }
    for wall in ["landlock", "securebits"] {
        assert_eq!(state(&report, wall), "not-testable", "{wall}");
    }
    assert!(
        report["threads"].as_array().unwrap().len() > 1,
        "{report:#}"
    );
}

#[test]
fn text_says_the_same_and_ends_with_the_verdict() {
    let place = Place::new();
    let _api = Api::start(&place, &["--name", "web"]);
    let report = json_of(&place.ravelin(&["audit", "--json"]));
    let text = stdout(&place.ravelin(&["audit", "web"]));
    assert!(text.starts_with("web (process "), "{text}");
    for wall in ["ns-net", "root", "memory"] {
        let evidence = row(&report, wall)["evidence"].as_str().unwrap();
        assert!(text.contains(evidence), "{wall}: {text}");
    }
    let summary = report["summary"].as_str().unwrap();
    assert_eq!(text.lines().last().unwrap(), format!("{summary}."));
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn scripts_choose_the_walls() {
    let place = Place::new();
    let _api = Api::start(&place, &["--name", "web"]);
    let status = |args: &[&str]| {
        place
            .ravelin(&[&["audit", "web"], args].concat())
            .status
            .code()
    };
    assert_eq!(status(&["--require", "memory,descriptors"]), Some(0));
    assert_eq!(status(&["--require", "memory,ns-net"]), Some(1));
    assert_eq!(status(&["--require", "landlock"]), Some(1));
    let only = place.ravelin(&["audit", "web", "--json", "--only", "memory,host"]);
    let report = json_of(&only);
    assert_eq!(only.status.code(), Some(0), "{report:#}");
    let rows = report["rows"].as_array().unwrap();
    let others = rows
        .iter()
        .filter(|row| row["section"] != "host" && row["id"] != "memory");
    assert_eq!(others.count(), 0, "{report:#}");
    let wrong = place.ravelin(&["audit", "web", "--require", "moat"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(stderr(&wrong).contains("`moat` is no wall"), "{wrong:?}");
}

#[test]
fn without_a_name_it_is_the_one_that_runs() {
    let place = Place::new();
    let none = place.ravelin(&["audit", "--json"]);
    let report = json_of(&none);
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    assert_eq!(report["required_walls_stand"], "unknown");
    let rows = report["rows"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["section"] == "host"),
        "{report:#}"
    );
    let host = place.ravelin(&["audit", "--only", "host"]);
    assert_eq!(host.status.code(), Some(0), "{host:?}");
    let _vms = [
        Api::start(&place, &["--name", "db"]),
        Api::start(&place, &["--name", "web"]),
    ];
    let several = place.ravelin(&["audit"]);
    assert_eq!(several.status.code(), Some(2), "{several:?}");
    let said = stderr(&several);
    assert!(said.contains("2 VMs run: name one of db, web"), "{said}");
}

#[test]
fn a_name_that_nobody_has_is_explained() {
    let place = Place::new();
    let output = place.ravelin(&["audit", "nobody"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("no VM with the name `nobody` runs"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn every_host_row_that_is_not_in_force_says_what_to_do() {
    let report = json_of(&Place::new().ravelin(&["audit", "--only", "host", "--json"]));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "{report:#}");
    for row in rows {
        let is_fine = row["state"] == "in-force";
        assert_eq!(is_fine, row["advice"].is_null(), "{row:#}");
    }
}

#[test]
fn a_descriptor_that_no_vm_has_is_named() {
    let mut child = sleeper("exec sleep 1000 3</proc/self/status 4</");
    // The shell has become `sleep` when its standard files are joined by two others.
    let comm = format!("/proc/{}/comm", child.id());
    while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {}
    let pid = child.id().to_string();
    let output = Place::new().ravelin(&["audit", &pid, "--json", "--only", "descriptors"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let report = json_of(&output);
    let evidence = row(&report, "descriptors")["evidence"].as_str().unwrap();
    assert!(evidence.contains("2 of "), "{evidence}");
    assert!(evidence.contains("4 (directory, /)"), "{evidence}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// The name by which the test binary becomes [`the_process_behind_walls`].
const BEHIND_WALLS: &str = "audit::the_process_behind_walls";
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

/// Not a test of its own: it puts a filter on all of its threads, and repeats what it reads.
#[test]
#[ignore = "the process that other tests look at"]
fn the_process_behind_walls() {
    if !env::args().any(|argument| argument == BEHIND_WALLS) {
        return;
    }
    // Where the files of the host's processes are, this is the number that the host knows it by.
    let own = std::fs::read_link("/proc/self").unwrap();
    let terminal = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, TCGETS);
    let terminal = SeccompRule::new(vec![terminal.unwrap()]).unwrap();
    let mut rules: BTreeMap<_, _> = CALLS.iter().map(|(_, call)| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, vec![terminal]);
    let (rest, matched) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, rest, matched, TargetArch::x86_64).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let mut lines = std::io::stdin().lines();
    println!("{}", own.display());
    // The main thread has done what it does to start this one, and waits for its end.
    let call = std::path::Path::new("/proc/self/task")
        .join(&own)
        .join("syscall");
    let futex = format!("{} ", libc::SYS_futex);
    while !std::fs::read_to_string(&call).unwrap().starts_with(&futex) {
        std::thread::yield_now();
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    apply_filter_all_threads(&program).unwrap();
    println!("ready");
    while let Some(Ok(line)) = lines.next() {
        println!("{line}");
    }
    std::process::exit(0);
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
    /// `None`, said aloud, where this user may not make one.
    fn start() -> Option<Self> {
        let wrap = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             unshare --user --map-user 65534 --map-group 65534 --keep-caps --mount --pid --fork --kill-child \
             --net --ipc --uts --cgroup \
             setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all \
             prlimit --core=0:0 env -i \"$0\" --ignored --nocapture --exact \"$1\"";
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
                let ended = child.wait_with_output().unwrap();
                eprintln!("SKIPPED: walls need root, unshare(1), setpriv(1): {ended:?}");
                return None;
            }
            lines.push(line.trim().to_owned());
        }
        let pid = lines.get(lines.len() - 2).cloned();
        Some(Self {
            child,
            input,
            output,
            pid: pid.unwrap(),
        })
    }

    fn audit(&self, args: &[&str]) -> Output {
        Place::new().ravelin(&[&["audit", &self.pid, "--json"], args].concat())
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

/// Whether filters can be read here; says so when they cannot.
fn readable(report: &Value) -> bool {
    let there = state(report, "syscall-list") != "not-testable";
    if !there {
        eprintln!("SKIPPED: filters cannot be read here: {report:#}");
    }
    there
}

#[test]
fn walls_that_stand_are_in_force() {
    let Some(walled) = Walled::start() else {
        return;
    };
    let report = json_of(&walled.audit(&[]));
    for wall in [
        "user",
        "groups",
        "capabilities",
        "no-new-privs",
        "dumpable",
        "untraced",
        "environment",
        "ns-mount",
        "ns-pid",
        "ns-net",
        "ns-user",
        "ns-ipc",
        "ns-uts",
        "ns-cgroup",
        "user-map",
        "group-map",
        "seccomp",
        "memory",
        "rlimit-core",
    ] {
        assert_eq!(state(&report, wall), "in-force", "{:#}", row(&report, wall));
    }
    // It never changed its root.
    assert_eq!(state(&report, "root"), "absent", "{report:#}");
}

#[test]
fn filters_are_told_exactly_and_the_process_goes_on() {
    let Some(mut walled) = Walled::start() else {
        return;
    };
    let report = json_of(&walled.audit(&["--only", "syscalls"]));
    if !readable(&report) {
        return;
    }
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
    let text = Place::new().ravelin(&["audit", &walled.pid, "--only", "syscalls"]);
    let list = ": 8 calls, the rest: kill-process: read write mmap munmap sched_yield futex exit_group ioctl(...)\n";
    assert!(stdout(&text).contains(list), "{}", stdout(&text));
    // Its threads wait with a time limit, and standing still must not have ended that by a forbidden call.
    assert!(walled.lives());
    for _ in 0..20 {
        walled.audit(&["--only", "syscalls"]);
        assert!(walled.lives());
    }
}

#[test]
fn an_audit_that_is_interrupted_lets_the_process_go() {
    let Some(mut walled) = Walled::start() else {
        return;
    };
    for delay in 0..20 {
        let mut audit = Command::new(RAVELIN)
            .args(["audit", &walled.pid, "--only", "syscalls"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // At another moment each time, from the program's start to after its end.
        for _ in 0..delay * 50 {
            std::thread::yield_now();
        }
        let _ = kill_process(Pid::from_child(&audit), Signal::INT);
        audit.wait().unwrap();
        assert!(walled.lives());
        let status = std::fs::read_to_string(format!("/proc/{}/status", walled.pid)).unwrap();
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
    }
}

#[test]
fn filters_that_are_not_shown_are_not_green() {
    let Some(mut walled) = Walled::start() else {
        return;
    };
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
