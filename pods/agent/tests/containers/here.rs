//! The agent on this machine: `ravelin-agent try FOLDER`, with a folder for a disk.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::client::{Caller, Way};

const BUSYBOX: &str = "/bin/busybox";
/// How long the agent may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why no container can be made here.
pub(crate) fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root makes containers".into());
    }
    if !Path::new(BUSYBOX).exists() {
        return Some(format!("{BUSYBOX} is missing: install busybox-static"));
    }
    None
}

/// Runs a test with an agent of its own.
pub(crate) fn run(body: fn(Caller) -> Pin<Box<dyn Future<Output = ()>>>) {
    let folder = tempfile::tempdir().unwrap();
    // Root of a user namespace is somebody else here.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    fill(&folder.path().join("roots/rootfs"));
    let agent = Command::new(env!("CARGO_BIN_EXE_ravelin-agent"))
        .arg("try")
        .arg(folder.path())
        .spawn()
        .unwrap();
    let mut agent = Agent(agent);
    let limit = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(folder.path().join("agent")).is_err() {
        assert!(agent.0.try_wait().unwrap().is_none(), "the agent has ended");
        assert!(Instant::now() < limit, "the agent does not listen");
        std::thread::yield_now();
    }
    let way = Way::Folder(folder.path().into());
    block_on(async {
        let caller = Caller::new(way).await;
        body(caller.clone()).await;
        let empty = protocol::api::Empty::new();
        caller
            .agent
            .shutdown(crate::client::patient(), &empty)
            .await
            .unwrap();
    });
    assert!(agent.0.wait().unwrap().success());
}

/// Runs a caller's part.
pub(crate) fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

/// Ended when a test fails.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It has ended in time.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fills a container's root: busybox, and a link for each of its programs.
pub(crate) fn fill(root: &Path) {
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for folder in ["etc", "proc", "dev", "sys", "run"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
    let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", bin.join(applet)).unwrap();
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), passwd).unwrap();
}
