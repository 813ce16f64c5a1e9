use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::Barrier;

use super::*;

struct Place {
    _around: tempfile::TempDir,
    registry: Registry,
}

impl Place {
    fn new() -> Self {
        let around = tempfile::tempdir().unwrap();
        let directory = around.path().join("vms");
        Self {
            _around: around,
            registry: Registry { directory },
        }
    }

    fn names(&self) -> Vec<String> {
        let vms = self.registry.list().unwrap();
        vms.into_iter().map(|vm| vm.name).collect()
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.registry.directory).unwrap().count()
    }

    /// What a VM leaves that was killed: its file without its lock, and its socket.
    fn leave(&self, name: &str) {
        directory::make(&self.registry.directory).unwrap();
        let text = serde_json::to_vec(&this_process(name, None, None)).unwrap();
        fs::write(self.registry.directory.join(format!("{name}.json")), text).unwrap();
        drop(UnixListener::bind(self.registry.socket_path(name)).unwrap());
    }
}

fn vm(name: &str) -> Vm {
    this_process(name, None, Some("vmlinux"))
}

/// A VM of this process.
fn this_process(name: &str, socket: Option<&Path>, kernel: Option<&str>) -> Vm {
    vm_of(std::process::id(), name, socket, kernel)
}

#[test]
fn without_a_directory_there_are_no_vms() {
    assert!(Place::new().names().is_empty());
}

#[test]
fn a_vm_is_found_while_it_runs_and_not_afterwards() {
    let place = Place::new();
    let web = place.registry.enter(&vm("web")).unwrap();
    let found = place.registry.find("web").unwrap();
    assert_eq!(
        found,
        Vm {
            started_at: found.started_at,
            ..vm("web")
        }
    );
    drop(web);
    assert!(place.names().is_empty());
    assert_eq!(place.files(), 0);
}

#[test]
fn vms_are_listed_by_name() {
    let place = Place::new();
    let _vms = ["b", "c", "a"].map(|name| place.registry.enter(&vm(name)).unwrap());
    assert_eq!(place.names(), ["a", "b", "c"]);
}

#[test]
fn a_name_is_given_once() {
    let place = Place::new();
    let _web = place.registry.enter(&vm("web")).unwrap();
    let text = place.registry.enter(&vm("web")).unwrap_err().to_string();
    let pid = std::process::id();
    assert_eq!(
        text,
        format!("a VM with the name `web` runs already (process {pid}): choose another --name")
    );
    assert_eq!(place.files(), 1);
}

#[test]
fn of_many_that_want_a_name_at_once_one_gets_it() {
    let place = Place::new();
    for left_behind in [false, true] {
        if left_behind {
            place.leave("web");
        }
        let start = Barrier::new(8);
        let winners: Vec<_> = thread::scope(|scope| {
            let enter = || {
                start.wait();
                place.registry.enter(&vm("web")).ok()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(enter)).collect();
            threads
                .into_iter()
                .filter_map(|one| one.join().unwrap())
                .collect()
        });
        assert_eq!(winners.len(), 1, "left behind: {left_behind}");
        assert_eq!(place.names(), ["web"]);
    }
}

#[test]
fn looking_never_takes_a_running_vm_away() {
    let place = Place::new();
    thread::scope(|scope| {
        let looker = scope.spawn(|| {
            for _ in 0..300 {
                place.registry.list().unwrap();
            }
        });
        for _ in 0..100 {
            let web = place.registry.enter(&vm("web")).unwrap();
            assert!(entry::is_at(&web.file, &web.path));
        }
        looker.join().unwrap();
    });
}

#[test]
fn what_was_left_behind_is_ignored_and_removed() {
    let place = Place::new();
    place.leave("web");
    assert!(place.registry.find("web").is_err());
    assert_eq!(place.files(), 0);
}

#[test]
fn a_name_that_was_left_behind_is_free_and_its_socket_goes() {
    let place = Place::new();
    place.leave("web");
    let socket = place.registry.socket("web").unwrap();
    let web = this_process("web", Some(&socket), None);
    let web = place.registry.enter(&web).unwrap();
    assert!(!socket.exists());
    fs::write(&socket, "").unwrap();
    drop(web);
    assert!(!socket.exists());
}

#[test]
fn a_socket_elsewhere_is_not_touched() {
    let place = Place::new();
    let socket = tempfile::NamedTempFile::new().unwrap();
    let web = this_process("web", Some(socket.path()), None);
    drop(place.registry.enter(&web).unwrap());
    assert!(socket.path().exists());
}

#[test]
fn files_of_other_making_are_passed_over() {
    let place = Place::new();
    let _web = place.registry.enter(&vm("web")).unwrap();
    let directory = &place.registry.directory;
    symlink("/dev/zero", directory.join("link.json")).unwrap();
    fs::create_dir(directory.join("folder.json")).unwrap();
    fs::write(directory.join("notes.txt"), "x").unwrap();
    fs::write(directory.join("data.json"), "{}").unwrap();
    let other = serde_json::to_vec(&vm("other")).unwrap();
    fs::write(directory.join("copy.json"), other).unwrap();
    fs::write(directory.join(".web.1.0"), "x").unwrap();
    assert_eq!(place.names(), ["web"]);
    assert!(directory.join("link.json").is_symlink());
    assert!(directory.join("folder.json").is_dir());
    assert!(directory.join("data.json").is_file());
    assert!(directory.join("copy.json").is_file());
    assert!(place.registry.enter(&vm("data")).is_err());
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let place = Place::new();
    let error = || place.registry.find("wbe").unwrap_err().to_string();
    assert!(error().contains("this user has none"), "{}", error());
    let _web = place.registry.enter(&vm("web")).unwrap();
    assert_eq!(error(), "no VM with the name `wbe` runs: there is `web`");
    let _db = place.registry.enter(&vm("db")).unwrap();
    assert_eq!(
        error(),
        "no VM with the name `wbe` runs: there are `db`, `web`"
    );
}
