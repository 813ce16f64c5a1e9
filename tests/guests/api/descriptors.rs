//! A guest whose monitor was given no path.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use serde_json::json;

use super::card::describe_on;
use super::monitor::{ARGS, Monitor, with_script};
use crate::kit;
use crate::network::{address, in_own_network};

crate::tests!(
    TRIMMED => [
        a_guest_boots_from_descriptors_alone,
        a_disk_becomes_another_descriptor,
        a_card_is_on_a_tap_that_was_passed_in,
        a_socket_that_was_passed_in_carries_calls_both_ways,
    ],
);

fn open(path: &std::path::Path) -> File {
    File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap())
}

fn in_memory(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file
}

fn a_guest_boots_from_descriptors_alone() {
    let monitor = Monitor::ravelin();
    let files = ["vmlinux-trimmed", "root.ext4"].map(|name| open(&kit::file(name)));
    monitor.deposit("kernel", files[0].as_fd());
    monitor.deposit("root", files[1].as_fd());
    monitor.deposit("data", in_memory(&[b'm'; 1 << 20]).as_fd());
    let source = json!({
        "kernel_image_path": "fd:kernel",
        "boot_args": with_script(ARGS, "grep -w / /proc/mounts; echo data=$(head -c 3 /dev/vdb)"),
    });
    monitor.put("/boot-source", source).done();
    for (id, is_root) in [("root", true), ("data", false)] {
        let drive = json!({
            "drive_id": id, "is_root_device": is_root, "is_read_only": is_root, "path_on_host": format!("fd:{id}"),
        });
        monitor.put(&format!("/drives/{id}"), drive).done();
    }
    monitor.start();
    let outcome = monitor.end();
    outcome.status(0).said(" ext4 ro,");
    assert_eq!(outcome.value("data"), "mmm", "{outcome}");
}

fn a_disk_becomes_another_descriptor() {
    let monitor = Monitor::ravelin();
    monitor.describe(
        "echo size=$(blockdev --getsize64 /dev/vda); echo guest is up; \
         until [ $(blockdev --getsize64 /dev/vda) = 2097152 ]; do :; done; echo data=$(head -c 3 /dev/vda)",
    );
    monitor.deposit("one", in_memory(&[b'1'; 1 << 20]).as_fd());
    let drive = json!({ "drive_id": "data", "is_root_device": false, "path_on_host": "fd:one" });
    monitor.put("/drives/data", drive).done();
    monitor.start();
    monitor.wait_for("guest is up");
    monitor.deposit("two", in_memory(&[b'2'; 2 << 20]).as_fd());
    let update = json!({ "drive_id": "data", "path_on_host": "fd:two" });
    monitor.patch("/drives/data", update).done();
    let outcome = monitor.end();
    assert_eq!(outcome.status(0).number("size"), 1 << 20, "{outcome}");
    assert_eq!(outcome.value("data"), "222", "{outcome}");
}

/// Makes a tap and leaves it with a monitor, as a program does that may and a monitor that may not.
const PASS_TAP: &str = r#"
import fcntl, socket, struct, sys
tap = open("/dev/net/tun", "r+b", buffering=0)
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
socket.send_fds(client, [b"PUT /ravelin/fds/tap HTTP/1.1\r\n\r\n"], [tap.fileno()])
sys.exit(0 if client.recv(100).startswith(b"HTTP/1.1 204") else 1)
"#;

fn a_card_is_on_a_tap_that_was_passed_in() {
    in_own_network(|| {
        let monitor = Monitor::ravelin();
        let passed = Command::new("python3")
            .args(["-c", PASS_TAP])
            .arg(monitor.socket())
            .status();
        assert!(passed.unwrap().success());
        address("tap0");
        let script = "until ping -c 1 -W 1 10.9.0.1 > /dev/null; do :; done; echo the host answers";
        describe_on(&monitor, "fd:tap", script);
        monitor.start();
        let up = Command::new("ip")
            .args(["link", "set", "tap0", "up"])
            .status();
        assert!(up.unwrap().success());
        monitor.end().status(0).said("the host answers");
    });
}

fn a_socket_that_was_passed_in_carries_calls_both_ways() {
    let monitor = Monitor::ravelin();
    monitor.describe(
        "vsock listen 52 < /dev/null > /tmp/heard & vsock greet 5000 1 && wait && cat /tmp/heard",
    );
    let passed = UnixListener::bind(monitor.path("v.sock")).unwrap();
    let called = UnixListener::bind(monitor.path("v.sock_5000")).unwrap();
    monitor.deposit("vsock", passed.as_fd());
    drop(passed);
    let vsock = json!({ "guest_cid": 3, "uds_path": "fd:vsock" });
    monitor.put("/vsock", vsock).done();
    monitor.start();
    let (mut greeting, _) = called.accept().unwrap();
    // Refused until the guest listens.
    let mut stream = loop {
        let mut stream = UnixStream::connect(monitor.path("v.sock")).unwrap();
        stream.write_all(b"CONNECT 52\n").unwrap();
        if stream.read_exact(&mut [0; 3]).is_ok() {
            break stream;
        }
    };
    stream.write_all(b"the host was here\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    echo(&mut greeting);
    drop((greeting, stream));
    monitor.end().status(0).said("the host was here");
}

fn echo(stream: &mut UnixStream) {
    let mut number = [0; 1];
    stream.read_exact(&mut number).unwrap();
    stream.write_all(&number).unwrap();
}
