//! Where VMs start, and everything that they could leave there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::guest::{Guest, Kernel};
use crate::kit::{Place, RAVELIN};

/// The name of the VMs.
pub(crate) const NAME: &str = "broken-off";

/// A place for VMs that all have one name, one socket, one disk and one tap.
pub(crate) struct Scene<'a> {
    place: &'a Place,
    kernel: Kernel,
    /// No other test's cgroups have it in their paths.
    word: String,
    with_tap: bool,
}

/// Whether guests of a few instructions can run here; says so when they cannot.
pub(crate) fn kvm() -> bool {
    let there = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if let Err(error) = &there {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here: {error}");
    }
    there.is_ok()
}

impl<'a> Scene<'a> {
    pub(crate) fn new(place: &'a Place, guest: &Guest) -> Self {
        let unique = place.path().file_name().unwrap().to_str().unwrap();
        let word = unique.replace(|c: char| !c.is_ascii_alphanumeric(), "");
        for hierarchy in hierarchies() {
            let _ = fs::create_dir(hierarchy.join(&word));
        }
        for directory in ["vms", "sockets"] {
            fs::create_dir(place.path().join(directory)).unwrap();
        }
        let disk = fs::File::create(place.path().join("disk")).unwrap();
        disk.set_len(1 << 20).unwrap();
        Self {
            place,
            kernel: guest.kernel(),
            word,
            with_tap: false,
        }
    }

    /// The same with a card on a tap, whose end takes the kernel longer than all the rest.
    pub(crate) fn with_tap(mut self) -> Self {
        self.with_tap = true;
        self
    }

    /// The same without one.
    pub(crate) fn without_tap(mut self) -> Self {
        self.with_tap = false;
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Where VMs of this place are entered.
    pub(crate) fn vms(&self) -> PathBuf {
        self.path("vms")
    }

    /// The command line of a VM, behind `ravelin`.
    pub(crate) fn run(&self) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut line = vec!["run".to_owned(), "--quiet".to_owned()];
        let mut flag = |flag: &str, value: String| line.extend([format!("--{flag}"), value]);
        flag("name", NAME.to_owned());
        flag("mem", "32M".to_owned());
        flag("kernel", text(self.kernel.path()));
        flag("disk", text(&self.path("disk")));
        flag("api-sock", text(&self.path("sockets/api.sock")));
        flag("vsock", text(&self.path("sockets/guest.vsock")));
        flag("cgroup-parent", self.word.clone());
        if self.with_tap {
            flag("net", "tap=left0".to_owned());
        }
        line
    }

    /// The same without a socket for its API, so that it is not among those that run.
    pub(crate) fn run_alone(&self) -> Vec<String> {
        let mut line = self.run();
        let api = line.iter().position(|word| word == "--api-sock").unwrap();
        line.drain(api..api + 2);
        line
    }

    /// The same VM as `ravelin api` starts it, with its socket beside its entry.
    pub(crate) fn api(&self) -> Vec<String> {
        let config = json!({
            "boot-source": { "kernel_image_path": self.kernel.path() },
            "machine-config": { "vcpu_count": 1, "mem_size_mib": 32 },
            "drives": [{ "drive_id": "data", "path_on_host": self.path("disk"), "is_root_device": false }],
        });
        let file = self.path("vm.json");
        fs::write(&file, config.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let line = ["api", "--quiet", "--name", NAME, "--config", file];
        let line = line.into_iter().chain(["--cgroup-parent", &self.word]);
        line.map(str::to_owned).collect()
    }

    /// `ravelin` with a command line, as it is started here.
    pub(crate) fn ravelin(&self, line: &[String]) -> Command {
        self.command(RAVELIN, line)
    }

    /// Another program in ravelin's place.
    pub(crate) fn command(&self, program: &str, line: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(line).env("RAVELIN_RUNTIME_DIR", self.vms());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a VM to the end that its guest makes.
    pub(crate) fn runs(&self, line: &[String]) -> Output {
        self.ravelin(line).output().unwrap()
    }

    /// Clears up what nobody was left to clear up.
    pub(crate) fn gc(&self) -> Output {
        self.ravelin(&["gc".to_owned()]).output().unwrap()
    }

    /// Everything that a VM could leave: processes, mounts, network interfaces, files, cgroups.
    pub(crate) fn everything(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for process in names(Path::new("/proc")) {
            if process.bytes().all(|byte| byte.is_ascii_digit()) {
                let name = fs::read_to_string(format!("/proc/{process}/comm"));
                all.insert(format!(
                    "process {process} {}",
                    name.unwrap_or_default().trim()
                ));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        all.extend(mounts.lines().map(|line| format!("mount {line}")));
        let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap();
        let interfaces = interfaces.lines().filter_map(|line| line.split_once(':'));
        all.extend(interfaces.map(|(name, _)| format!("interface {}", name.trim())));
        walk(self.place.path(), &mut |path| {
            all.insert(format!("file {}", path.display()));
        });
        for hierarchy in hierarchies() {
            walk(&hierarchy.join(&self.word), &mut |path| {
                if path.is_dir() {
                    all.insert(format!("cgroup {}", path.display()));
                }
            });
        }
        all
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        for hierarchy in hierarchies() {
            let mut all = vec![hierarchy.join(&self.word)];
            walk(&hierarchy.join(&self.word), &mut |path| {
                all.push(path.to_owned())
            });
            // What a test that failed has found stays on this host no longer than the test.
            for path in all.iter().rev().filter(|path| path.is_dir()) {
                let _ = fs::remove_dir(path);
            }
        }
    }
}

/// Where cgroups are, whatever their version.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect());
    fields
        .filter(|fields: &Vec<&str>| fields[2].starts_with("cgroup"))
        .map(|fields| fields[1].into())
        .collect()
}

/// The names in a directory; none in one that is not there.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn walk(directory: &Path, see: &mut impl FnMut(&Path)) {
    for name in names(directory) {
        let path = directory.join(name);
        see(&path);
        if path.is_dir() && !path.is_symlink() {
            walk(&path, see);
        }
    }
}
