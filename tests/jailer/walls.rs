//! What a jailed process may not do any more.

use std::fs;
use std::path::PathBuf;

use crate::kit::{Place, Vm, jailing};

const NONE: &str = "0000000000000000";
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn ours(namespace: &str) -> PathBuf {
    fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap()
}

fn has_nothing(vm: &Vm) {
    for set in SETS {
        assert_eq!(vm.status(set), NONE, "{set}");
    }
    assert_eq!(vm.status("NoNewPrivs"), "1");
    assert_eq!(vm.status("Groups"), "");
}

#[test]
fn a_jailed_process_is_the_user_and_has_no_rights() {
    jailing(|place| {
        let vm = place.start("");
        assert_eq!(vm.status("Uid"), "1234 1234 1234 1234");
        assert_eq!(vm.status("Gid"), "2345 2345 2345 2345");
        has_nothing(&vm);
    });
}

#[test]
fn a_jailed_root_has_no_rights_either() {
    jailing(|place| {
        let vm = place.start_by(&mut place.jailer_as((0, 0), ""));
        assert_eq!(vm.status("Uid"), "0 0 0 0");
        has_nothing(&vm);
    });
}

#[test]
fn its_namespaces_are_its_own() {
    jailing(|place| {
        let vm = place.start("");
        for namespace in ["mnt", "ipc", "uts", "cgroup"] {
            assert_ne!(vm.namespace(namespace), ours(namespace), "{namespace}");
        }
        for namespace in ["net", "pid", "user"] {
            assert_eq!(vm.namespace(namespace), ours(namespace), "{namespace}");
        }
    });
}

#[test]
fn its_root_is_all_there_is() {
    jailing(|place| {
        let vm = place.start("");
        let mounts = vm.proc("mountinfo");
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        assert_eq!(mounts.split(' ').nth(4), Some("/"), "{mounts}");
    });
}

#[test]
fn its_environment_is_empty_and_what_was_open_is_closed() {
    jailing(|place| {
        let secret = fs::File::open("/proc/self/status").unwrap();
        rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
        let vm = place.start_by(place.jailer("").env("SECRET", "1"));
        assert_eq!(vm.proc("environ"), "");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", vm.pid())).unwrap();
        for entry in descriptors {
            // One that was closed meanwhile is not open.
            let Ok(target) = fs::read_link(entry.unwrap().path()) else {
                continue;
            };
            assert!(!target.ends_with("status"), "{target:?}");
        }
    });
}

fn limit(vm: &Vm, name: &str) -> Vec<String> {
    let limits = vm.proc("limits");
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let fields = line.unwrap().split_whitespace();
    fields.take(2).map(str::to_owned).collect()
}

#[test]
fn its_limits_are_those_of_the_command_line() {
    jailing(|place| {
        let vm = place.start("--resource-limit fsize=250000000 --resource-limit no-file=1024");
        assert_eq!(limit(&vm, "Max file size"), ["250000000", "250000000"]);
        assert_eq!(limit(&vm, "Max open files"), ["1024", "1024"]);
        assert_eq!(limit(&vm, "Max core file size"), ["0", "0"]);
    });
}

#[test]
fn without_limits_only_descriptors_are_limited() {
    jailing(|place| {
        let vm = place.start("");
        assert_eq!(limit(&vm, "Max open files"), ["2048", "2048"]);
        assert_eq!(limit(&vm, "Max file size"), ["unlimited", "unlimited"]);
    });
}

#[test]
fn walls_that_are_left_out_are_not_there_and_the_ids_change_all_the_same() {
    jailing(|place: &Place| {
        let vm = place.start("--without namespaces,capabilities,no-new-privs,core-limit");
        for namespace in ["ipc", "uts", "cgroup"] {
            assert_eq!(vm.namespace(namespace), ours(namespace), "{namespace}");
        }
        assert_eq!(vm.status("NoNewPrivs"), "0");
        assert_ne!(vm.status("CapBnd"), NONE);
        // As with Firecracker's jailer: the change of the user takes these.
        assert_eq!(vm.status("CapEff"), NONE);
        assert_eq!(vm.status("Uid"), "1234 1234 1234 1234");
    });
}
