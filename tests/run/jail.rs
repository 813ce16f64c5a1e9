//! The jail around a monitor: which walls stand without being asked for, and that nothing of it is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::guest::Guest;
use crate::process::{Piped, kvm, last_line, run, stderr, stdout, until};
use crate::support::{RAVELIN, in_an_empty_dev};

/// The walls that every host of these tests has, as the audit calls them.
const WALLS: &str = "capabilities,no-new-privs,seccomp,dumpable,untraced,environment,namespaces,descriptors,memory,rlimit-core,\
                     rlimit-nofile,rlimit-nproc,rlimit-memlock,rlimit-as";
/// How often a start is broken off, each time a little later.
const KILLS: u32 = 100;

/// A guest that runs until it is ended.
fn idle() -> Guest {
    Guest::default().say("here\n").halt()
}

fn boot(arguments: &[&str]) -> Piped {
    let mut ravelin = Piped::boot(&idle(), arguments);
    assert_eq!(ravelin.line(), "here\n");
    ravelin
}

/// The cgroups of monitors whose wardens have this number.
fn cgroups_of(warden: u32) -> Vec<String> {
    let number = warden.to_string();
    let mut found = Vec::new();
    look_below(Path::new("/sys/fs/cgroup"), 8, &mut |name, path| {
        let end = name.rsplit('.').next().unwrap_or_default();
        // In a PID namespace that is not the host's its number stands behind the warden's.
        if end.split('@').next() == Some(&number) && path.contains("/ravelin.vms/") {
            found.push(path.to_owned());
        }
    });
    found
}

fn look_below(directory: &Path, depth: u32, see: &mut impl FnMut(&str, &str)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
            see(
                &entry.file_name().to_string_lossy(),
                &entry.path().to_string_lossy(),
            );
            look_below(&entry.path(), depth - 1, see);
        }
    }
}

/// The processes that were started with a word on their command line.
fn processes_with(word: &str) -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.contains(word))
        })
        .collect()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    // One that has ended needs none.
    let _ = kill_process(pid, Signal::KILL);
}

#[test]
fn every_wall_stands_without_being_asked_for() {
    if !kvm() {
        return;
    }
    let mut ravelin = boot(&[]);
    let monitor = ravelin.monitor().unwrap().to_string();
    let audit = Command::new(RAVELIN)
        .args(["audit", &monitor, "--require", WALLS])
        .output()
        .unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}", stdout(&audit));
    if geteuid().is_root() {
        let text = stdout(&audit);
        let row = text
            .lines()
            .find(|line| line.contains("not root, one user"));
        assert!(row.unwrap().contains("in force"), "{text}");
    }
}

#[test]
fn two_monitors_share_no_user_and_no_namespace() {
    if !kvm() || !geteuid().is_root() {
        eprintln!("SKIPPED: only root's monitors have users of their own");
        return;
    }
    let (mut one, mut other) = (boot(&[]), boot(&[]));
    let (one, other) = (one.monitor().unwrap(), other.monitor().unwrap());
    let user = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Uid:"));
        line.unwrap().to_owned()
    };
    assert_ne!(user(one), user(other));
    for namespace in ["mnt", "pid", "net", "user", "ipc", "uts", "cgroup"] {
        let of = |pid| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(one), of(other), "{namespace}");
    }
}

#[test]
fn an_ordinary_user_has_a_jail_too() {
    if !kvm() {
        return;
    }
    let kernel = Guest::default().leave_status(7).power_off().kernel();
    let script = format!(
        "mknod -m 0666 /dev/kvm c 10 232 && mknod -m 0666 /dev/urandom c 1 9 && chmod 755 {} || exit 99; \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups /dev/ravelin run --kernel {}",
        kernel.path().parent().unwrap().display(),
        kernel.path().display()
    );
    let Some(output) = in_an_empty_dev(&script) else {
        return;
    };
    // The guest has run, so the walls stood when they were looked at.
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("no cgroup was delegated to this user"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn root_of_a_user_namespace_has_one_too() {
    if !kvm() {
        return;
    }
    let kernel = Guest::default().leave_status(7).power_off().kernel();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", RAVELIN, "run", "--kernel"])
        .arg(kernel.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if stderr(&output).starts_with("unshare:") {
        eprintln!("SKIPPED: this host allows no namespaces");
        return;
    }
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
}

#[test]
fn a_wall_that_cannot_be_had_stops_the_start() {
    if !kvm() {
        return;
    }
    let kernel = idle().kernel();
    let kernel = kernel.path().to_str().unwrap();
    let output = run(["--kernel", kernel, "--selinux-label", "no:such:label:s0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stdout(&output), "");
    assert!(last_line(&output).contains("label"), "{output:?}");
}

#[test]
fn a_monitor_whose_guest_may_not_run_ends_having_said_why() {
    if !kvm() || !geteuid().is_root() {
        eprintln!("SKIPPED: only root's monitors surely have limits");
        return;
    }
    let kernel = idle().kernel();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("vm.json");
    let boot = serde_json::json!({ "boot-source": { "kernel_image_path": kernel.path() } });
    fs::write(&config, boot.to_string()).unwrap();
    let output = Command::new(RAVELIN)
        .args(["api", "--cgroup", "pids.max=none", "--config"])
        .arg(config)
        .arg("--api-sock")
        .arg(folder.path().join("socket"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stdout(&output), "");
    assert!(
        last_line(&output).contains("limits cannot be set"),
        "{output:?}"
    );
}

#[test]
fn watched_calls_and_a_jail_go_together() {
    if !kvm() {
        return;
    }
    let kernel = Guest::default().leave_status(7).power_off().kernel();
    let kernel = kernel.path().to_str().unwrap();
    let output = run(["--kernel", kernel, "--seccomp-log"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(
        stderr(&output).contains("without the wall seccomp"),
        "{output:?}"
    );
    // Nothing that a guest makes a monitor do is missing on the lists.
    assert!(!stderr(&output).contains("is not listed"), "{output:?}");
}

#[test]
fn a_wall_that_is_left_out_is_said_aloud() {
    if !kvm() {
        return;
    }
    let kernel = Guest::default().power_off().kernel();
    let kernel = kernel.path().to_str().unwrap();
    let output = run(["--kernel", kernel, "--jail-without", "ns-net,landlock"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stderr(&output);
    for word in [
        "ns-net: it reaches the host's network",
        "without the wall landlock",
    ] {
        assert!(text.contains(word), "{text}");
    }
    let output = run(["--kernel", kernel, "--no-jail"]);
    assert!(stderr(&output).contains("nothing but KVM"), "{output:?}");
}

#[test]
fn a_monitor_that_is_killed_leaves_nothing() {
    if !kvm() {
        return;
    }
    let mut ravelin = boot(&[]);
    let warden = ravelin.pid().as_raw_nonzero().get().unsigned_abs();
    if geteuid().is_root() {
        assert!(
            !cgroups_of(warden).is_empty(),
            "it has cgroups while it runs"
        );
    }
    kill(ravelin.monitor().unwrap());
    let output = ravelin.end();
    assert_eq!(output.status.code(), Some(137), "{output:?}");
    assert!(last_line(&output).contains("was killed"), "{output:?}");
    assert_eq!(cgroups_of(warden), Vec::<String>::new());
}

#[test]
fn a_warden_that_is_killed_takes_everything_with_it() {
    if !kvm() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("api.sock");
    let mut ravelin = boot(&["--api-sock", socket.to_str().unwrap()]);
    let warden = ravelin.pid().as_raw_nonzero().get().unsigned_abs();
    let monitor = ravelin.monitor().unwrap();
    assert!(socket.exists());
    kill(warden);
    let output = ravelin.end();
    assert_eq!(output.status.signal(), Some(9));
    until("the monitor's end", || {
        // One that nobody has waited for yet has no command line any more.
        let line = fs::read_to_string(format!("/proc/{monitor}/cmdline"));
        line.map_or(true, |line| line.is_empty()).then_some(())
    });
    until("the end of its cgroups", || {
        cgroups_of(warden).is_empty().then_some(())
    });
    until("the end of its socket", || (!socket.exists()).then_some(()));
}

#[test]
fn two_wardens_with_one_number_have_cgroups_of_their_own() {
    const NAME: &str = "one-number";
    let apart = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare
    };
    if !kvm() {
        return;
    }
    if !apart().arg("true").status().is_ok_and(|it| it.success()) {
        eprintln!("SKIPPED: VMs in PID namespaces of their own need root and unshare(1)");
        return;
    }
    let kernel = idle().kernel();
    let start = || {
        let mut ravelin = apart();
        ravelin
            .arg(RAVELIN)
            .args(["run", "--quiet", "--name", NAME, "--kernel"]);
        let streams = ravelin
            .arg(kernel.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let mut child = streams.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        (child, said.is_ok_and(|_| line == "here\n"))
    };
    let both = [start(), start()];
    let found = cgroups_of(1);
    let own = found.iter().filter_map(|path| path.rsplit('/').next());
    let own: BTreeSet<&str> = own.filter(|name| name.starts_with(NAME)).collect();
    let runs = both.iter().all(|(_, runs)| *runs);
    for (mut child, _) in both {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        let wardens = fs::read_to_string(path).unwrap_or_default();
        for warden in wardens.split_whitespace() {
            let warden = Pid::from_raw(warden.parse().unwrap()).unwrap();
            let _ = kill_process(warden, Signal::INT);
        }
        child.wait().unwrap();
    }
    assert!(runs, "both guests say that they are there");
    // Where no cgroups can be made there are none.
    assert!(found.is_empty() || own.len() == 2, "{found:?}");
    let left = cgroups_of(1).into_iter().filter(|path| path.contains(NAME));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Whether a process sees other processes than this one does.
fn is_inside(pid: u32) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    // One that has ended since has none.
    namespace(&pid.to_string()).is_some_and(|its| Some(its) != namespace("self"))
}

#[test]
fn a_start_that_is_broken_off_anywhere_leaves_nothing() {
    if !kvm() {
        return;
    }
    let kernel = idle().kernel();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("api.sock");
    let mark = place.path().to_str().unwrap();
    let start = || {
        Command::new(RAVELIN)
            .args(["run", "--name", "broken-off", "--kernel"])
            .arg(kernel.path())
            .arg("--api-sock")
            .arg(&socket)
            .env("XDG_RUNTIME_DIR", place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    for round in 0..KILLS {
        let mut child = start();
        // A start takes some milliseconds: each one is broken off a little later, with the monitor or without.
        sleep(Duration::from_micros(u64::from(round) * 150));
        if round % 2 == 0 {
            // The keeper stays, whose work this is: all others but the warden have been born in a namespace of their own.
            let others = processes_with(mark).into_iter();
            others.filter(|pid| is_inside(*pid)).for_each(kill);
        }
        kill(child.id());
        child.wait().unwrap();
        until("the end of every process", || {
            processes_with(mark).is_empty().then_some(())
        });
        // A process that just becomes another one has no command line for a moment.
        until(&format!("that nothing is left in round {round}"), || {
            (cgroups_of(child.id()).is_empty() && !socket.exists()).then_some(())
        });
    }
    // The name is free.
    let mut last = start();
    until("the socket", || socket.exists().then_some(()));
    kill_process(Pid::from_child(&last), Signal::INT).unwrap();
    assert!(last.wait().unwrap().code().is_some());
    assert!(!socket.exists());
}
