//! The agent in a guest: `agent.cpio` of the guest kit, reached over the guest's sockets as a shim reaches it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::client::{Caller, Way, patient};
use crate::{Case, here};

/// What a guest boots from.
const NEEDED: [&str; 2] = ["agent.cpio", "container.erofs"];
/// A guest's memory, MiB.
pub(crate) const MEMORY: u64 = 256;

/// Why no guest can run here.
pub(crate) fn obstacle() -> Option<String> {
    if std::env::var("RAVELIN_GUESTS").is_ok_and(|value| value == "required") {
        return None;
    }
    let Some(ravelin) = ravelin() else {
        return Some("no ravelin is named by RAVELIN_BIN".into());
    };
    let doctor = Command::new(ravelin).arg("doctor").output().unwrap();
    if !doctor.status.success() {
        return Some(
            "ravelin doctor finds no KVM that boots Linux (tools/test has a testbed)".into(),
        );
    }
    let kit = kit();
    let missing = NEEDED.iter().find(|name| !kit.contains_key(**name));
    missing.map(|name| format!("the guest kit has no {name}: run tools/guest all"))
}

fn ravelin() -> Option<PathBuf> {
    std::env::var_os("RAVELIN_BIN").map(PathBuf::from)
}

fn kit() -> BTreeMap<String, PathBuf> {
    let named = std::env::var_os("RAVELIN_KIT");
    let text = named.and_then(|path| std::fs::read(path).ok());
    text.map_or_else(BTreeMap::new, |text| serde_json::from_slice(&text).unwrap())
}

/// A guest that runs. It is ended when dropped.
struct Guest {
    ravelin: Child,
    folder: tempfile::TempDir,
}

impl Guest {
    /// Boots one with a kernel of the kit, and waits until its agent answers.
    fn boot(kernel: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vm.sock");
        let ready = UnixListener::bind(folder.path().join("vm.sock_1024")).unwrap();
        let kit = kit();
        let disk = format!("{},ro,serial=rootfs", kit["container.erofs"].display());
        let ravelin = Command::new(ravelin().unwrap())
            .args(["run", "--quiet", "--console"])
            .arg(format!("file={}", folder.path().join("console").display()))
            .arg("--kernel")
            .arg(&kit[kernel])
            .arg("--initrd")
            .arg(&kit["agent.cpio"])
            .arg("--vsock")
            .arg(&socket)
            .arg("--disk")
            .arg(disk)
            .args(["--mem", &format!("{MEMORY}M"), "--timeout", "9m"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let guest = Self { ravelin, folder };
        guest.wait_for_call(&ready);
        guest
    }

    /// The agent calls when it answers: nobody asks again and again.
    fn wait_for_call(&self, ready: &UnixListener) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(ready, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 120,
            tv_nsec: 0,
        };
        let called = poll(&mut fds, Some(&limit)).unwrap();
        assert_eq!(called, 1, "the agent does not call: {}", self.console());
        // Held by nobody: the agent calls again, in vain, and goes on.
        drop(ready.accept().unwrap());
    }

    fn console(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.folder.path().join("console")) {
            // Not all of it is text.
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    fn way(&self) -> Way {
        Way::Vsock(self.folder.path().join("vm.sock"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It has ended.
        let _ = self.ravelin.kill();
        let _ = self.ravelin.wait();
        if std::thread::panicking() {
            eprintln!("the guest's console:\n{}", self.console());
        }
    }
}

/// Runs tests in one guest, one after the other: a boot takes longer than most of them. It ends as it is asked to.
pub(crate) fn run(kernel: &str, cases: &[&Case]) {
    let mut guest = Guest::boot(kernel);
    here::block_on(async {
        let caller = Caller::new(guest.way()).await;
        for case in cases {
            eprintln!("{}", case.name);
            (case.body)(caller.clone()).await;
        }
        let empty = protocol::api::Empty::new();
        caller.agent.shutdown(patient(), &empty).await.unwrap();
    });
    assert!(guest.ravelin.wait().unwrap().success());
}

/// A file of the kit.
pub(crate) fn file(name: &str) -> PathBuf {
    kit()[name].clone()
}

/// The ravelin that is tested.
pub(crate) fn command() -> Command {
    Command::new(ravelin().unwrap())
}
