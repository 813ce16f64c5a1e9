//! `PUT /vsock`: the socket is there with the answer, and is one at a time.

use std::os::unix::net::{UnixListener, UnixStream};

use super::vm::{Face, Vm, kvm};

fn put(vm: &Vm, path: &str) -> super::client::Reply {
    let body = format!(r#"{{"guest_cid": 3, "uds_path": "{path}"}}"#);
    vm.ask("PUT", "/vsock", Some(&body))
}

#[test]
fn a_socket_is_there_when_it_was_described_and_goes_when_another_is() {
    if !kvm() {
        return;
    }
    for face in [Face::Firecracker, Face::Ravelin] {
        let vm = Vm::start(face, &[]);
        let [first, second] = ["a.sock", "b.sock"].map(|name| vm.folder().join(name));
        assert_eq!(put(&vm, "a.sock").status, 204);
        UnixStream::connect(&first).unwrap();
        // Kata puts it twice.
        assert_eq!(put(&vm, "a.sock").status, 204);
        UnixStream::connect(&first).unwrap();
        assert_eq!(put(&vm, "b.sock").status, 204);
        UnixStream::connect(&second).unwrap();
        assert!(!first.exists());
        vm.boot("idle");
        UnixStream::connect(&second).unwrap();
    }
}

#[test]
fn a_socket_that_cannot_be_made_leaves_the_one_before() {
    if !kvm() {
        return;
    }
    for face in [Face::Firecracker, Face::Ravelin] {
        let vm = Vm::start(face, &[]);
        assert_eq!(put(&vm, "a.sock").status, 204);
        let _served = UnixListener::bind(vm.folder().join("b.sock")).unwrap();
        let long = "x".repeat(200);
        for (path, words) in [
            ("b.sock", "Address in use"),
            ("nowhere/b.sock", "make the directory"),
            (&long, "name another path"),
            ("fd:none", "no descriptor was passed"),
        ] {
            let fault = put(&vm, path).fault();
            let prefix = "Vsock config error: ";
            assert!(
                fault.starts_with(prefix) && fault.contains(words),
                "{fault}"
            );
        }
        UnixStream::connect(vm.folder().join("a.sock")).unwrap();
        let config = vm.ask("GET", "/vm/config", None).json();
        assert_eq!(config["vsock"]["uds_path"], "a.sock");
    }
}
