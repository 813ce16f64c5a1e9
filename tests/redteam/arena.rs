//! Where the attacks happen: namespaces that are thrown away, with things in them that are worth an attack.
#![expect(unsafe_code, reason = "shared memory of System V has no safe wrapper")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::build::built;
use crate::guest::Guest;
use crate::host::Host;
use crate::isolated::unshared;

/// The file system of the arena. The attacks name its files.
pub(crate) const ARENA: &str = "/mnt";
/// An ordinary user.
const NOBODY: u32 = 65534;
/// Set in a test's second self.
const INSIDE: &str = "RAVELIN_TEST_ARENA";
/// What its monitors are told from those of other tests by.
const MARK: &str = "RAVELIN_TEST_MARK";
/// What a test's second self has to do first.
const PREPARE: &str = "mount -t tmpfs -o mode=1777 tmpfs /mnt && ip link set lo up && \
    { ip link add redteam0 type dummy 2>/dev/null || ip tuntap add redteam0 mode tap; } && \
    echo redteam-host >/proc/sys/kernel/hostname && echo 5000 >/proc/sys/kernel/ns_last_pid && \
    mknod -m 0666 /mnt/kvm c 10 232 && mount --bind /mnt/kvm /dev/kvm || exit 99; exec \"$@\"";

/// Who starts a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Ordinary,
    /// containerd's shim, as root.
    Shim,
}

impl User {
    /// Its number, and its group's.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::Root | Self::Shim => 0,
            Self::Ordinary => NOBODY,
        }
    }
}

/// What an attack could find.
#[derive(Debug)]
pub(crate) struct Arena {
    program: PathBuf,
    mark: String,
    /// Held open: the mount is busy.
    _open: File,
    _sockets: (TcpListener, UdpSocket, UnixListener, UnixListener),
}

/// Runs `test` in namespaces that are thrown away afterwards, and looks that the host is as before. Skipped, and says
/// so, where that cannot be.
pub(crate) fn attacking<F: FnOnce(&Arena)>(test: F) {
    if let Some(program) = std::env::var_os(INSIDE) {
        return test(&Arena::prepare(program.as_ref()));
    }
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap();
    let (_, name) = name.split_once("::").unwrap();
    if let Some(why) = cannot() {
        eprintln!("SKIPPED {name}: {why}");
        return;
    }
    let program = red_team();
    // What is started in there has it on its command line.
    let mark = format!("redteam-{}", std::process::id());
    let before = Host::look(&mark);
    let output = unshared(PREPARE)
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, program)
        .env(MARK, &mark)
        .output()
        .unwrap();
    before.assert_unchanged(&mark);
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains("ok. 1 passed"),
        "in its namespaces: {:?}",
        output.status
    );
}

/// Why there can be no attack here.
fn cannot() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("root builds the namespaces that are attacked in");
    }
    if !Path::new("/dev/kvm").exists() {
        return Some("this machine has no /dev/kvm");
    }
    match unshared(PREPARE).args(["sh", "true"]).output() {
        Ok(output) if output.status.success() => None,
        _ => Some(
            "this host allows no namespaces, mounts or interfaces, or has no unshare(1) or ip(8)",
        ),
    }
}

/// A ravelin with a red team in it.
pub(crate) fn red_team() -> PathBuf {
    built(".", "redteam", &["--features", "redteam"], "debug/ravelin")
}

impl Arena {
    fn prepare(program: &Path) -> Self {
        let at = |name: &str| Path::new(ARENA).join(name);
        let make = |name: &str, content: &[u8], mode| {
            fs::write(at(name), content).unwrap();
            fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
        };
        let code = fs::read(program).unwrap();
        make("ravelin", &code, 0o755);
        make("set-uid", &code, 0o4755);
        make(
            "kernel",
            &Guest::default().say("here\n").halt().elf(),
            0o644,
        );
        make("disk", &vec![0; 1 << 20], 0o666);
        make("public", b"worth reading", 0o644);
        make("private", b"a secret", 0o600);
        make("no-program", b"none", 0o755);
        let config = r#"{"boot-source":{"kernel_image_path":"/mnt/kernel"},
            "machine-config":{"vcpu_count":1,"mem_size_mib":16},
            "drives":[{"drive_id":"data","path_on_host":"/mnt/disk","is_root_device":false,"is_read_only":true}]}"#;
        make("config.json", config.as_bytes(), 0o644);
        fs::create_dir(at("point")).unwrap();
        for id in [0, NOBODY] {
            let runtime = at(&format!("run-{id}"));
            fs::create_dir(&runtime).unwrap();
            fs::set_permissions(&runtime, PermissionsExt::from_mode(0o700)).unwrap();
            chown(&runtime, Some(id), Some(id)).unwrap();
        }
        let hidden = SocketAddr::from_abstract_name("ravelin-redteam").unwrap();
        let sockets = (
            TcpListener::bind("127.0.0.1:7777").unwrap(),
            UdpSocket::bind("127.0.0.1:7779").unwrap(),
            UnixListener::bind_addr(&hidden).unwrap(),
            UnixListener::bind(at("socket")).unwrap(),
        );
        share_memory();
        fs::set_permissions(at("socket"), PermissionsExt::from_mode(0o777)).unwrap();
        Self {
            program: at("ravelin"),
            mark: std::env::var(MARK).unwrap(),
            _open: File::open(at("public")).unwrap(),
            _sockets: sockets,
        }
    }

    /// The monitor's program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// What its VM is.
    pub(crate) fn config(&self) -> &'static str {
        "/mnt/config.json"
    }

    /// A name that no other VM has.
    pub(crate) fn name(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.mark)
    }

    /// A path for a VM's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        Path::new(ARENA).join(self.name() + ".sock")
    }

    /// The directory of a user's running VMs.
    pub(crate) fn runtime(&self, user: User) -> PathBuf {
        Path::new(ARENA).join(format!("run-{}", user.id()))
    }

    /// A process of a user's that does nothing. What is private is that user's from now on.
    pub(crate) fn victim(&self, user: User) -> Victim {
        let mut command = Command::new("sleep");
        command
            .arg("1000")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let id = user.id();
        command.uid(id).gid(id);
        chown(Path::new(ARENA).join("private"), Some(id), Some(id)).unwrap();
        Victim(command.spawn().unwrap())
    }

    /// What lies in the arena but for sockets of VMs.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(ARENA).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with("run-")).collect()
    }
}

/// The version of Landlock that this kernel has; 0 without it.
pub(crate) fn landlock_version() -> u32 {
    const VERSION: libc::c_ulong = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the call takes no pointer and answers with a number (landlock(7)).
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    u32::try_from(version).unwrap_or_default()
}

/// Whether this kernel can refuse memory that is written and run (Linux 6.3).
pub(crate) fn has_write_or_run() -> bool {
    const PR_GET_MDWE: libc::c_int = 66;
    let none: libc::c_ulong = 0;
    // SAFETY: the option takes nothing and changes nothing.
    let got = unsafe { libc::prctl(PR_GET_MDWE, none, none, none, none) };
    got >= 0
}

/// Shared memory for everybody, as long as the namespace lasts.
fn share_memory() {
    const KEY: libc::key_t = 0x7261_7665;
    // SAFETY: the call takes three numbers.
    let made = unsafe { libc::shmget(KEY, 4096, libc::IPC_CREAT | 0o666) };
    assert!(made >= 0, "{}", std::io::Error::last_os_error());
}

/// A process that is attacked.
#[derive(Debug)]
pub(crate) struct Victim(Child);

impl Victim {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
