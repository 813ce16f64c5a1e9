//! New limits for a container that runs. `ctr` has no word for them, so the shim is asked as containerd asks it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::engine::{Engine, text};
use crate::ttrpc::{field, request};

crate::tests![new_limits_are_the_containers_in_its_guest];

/// What containerd calls a document of limits.
const LIMITS: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

fn new_limits_are_the_containers_in_its_guest() {
    let engine = Engine::new();
    let mount = "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro";
    let options = ["--memory-limit", "134217728", "--mount", mount];
    engine.begin(&options, "limited", &["sleep", "1000"]);
    let limits = || {
        let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max"];
        let output = engine.exec("limited", "look", &[&["cat"][..], &files].concat());
        assert!(output.status.success(), "{output:?}\n{}", engine.log());
        text(&output)
    };
    assert_eq!(limits(), "134217728\nmax 100000\n");
    let wanted = r#"{"memory": {"limit": 67108864}, "cpu": {"quota": 20000, "period": 50000}}"#;
    update(&engine, "limited", wanted);
    assert_eq!(limits(), "67108864\n20000 50000\n");
}

/// Asks a container's shim for new limits.
fn update(engine: &Engine, id: &str, limits: &str) {
    let tasks = engine.root().join("state/io.containerd.runtime.v2.task");
    let address = tasks.join("default").join(id).join("address");
    let address = std::fs::read_to_string(address).unwrap();
    let mut shim = UnixStream::connect(address.strip_prefix("unix://").unwrap()).unwrap();
    let limits = [field(1, LIMITS), field(2, limits)].concat();
    let payload = [field(1, id), field(2, limits)].concat();
    shim.write_all(&request("Update", payload)).unwrap();
    let mut header = [0; 10];
    shim.read_exact(&mut header).unwrap();
    let [a, b, c, d, ..] = header;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap()];
    shim.read_exact(&mut answer).unwrap();
    // A status without a code is a good one.
    let is_good = answer.is_empty() || answer.starts_with(&[0x0a, 0]);
    assert!(is_good, "{}", String::from_utf8_lossy(&answer));
}
