//! What the process has open, against what a VM may have.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Dev, getxattr, major, minor};
use serde::Serialize;

use super::proc::Process;
use super::report::Finding;
use super::shared::{Shared, share};
use super::threads::Thread;

/// An open file of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Descriptor {
    /// Its number.
    pub(crate) fd: u32,
    /// What it is, in a word or two.
    pub(crate) kind: String,
    /// What the kernel calls it.
    pub(crate) target: String,
    /// Whether a VM may have it.
    pub(crate) expected: bool,
}

/// What was found of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Expected(&'static str),
    Unexpected(&'static str),
    /// Not known to this list; a VM has none of it.
    Foreign,
}

/// Reads every descriptor, of every thread that has a table of its own (unshare(2), `CLONE_FILES`).
/// One that is closed meanwhile is left out.
///
/// # Errors
/// When the descriptors cannot be listed.
pub(super) fn read(process: &Process, threads: &[Thread]) -> io::Result<Vec<Descriptor>> {
    let mut found = of(process)?;
    let others = threads
        .iter()
        .filter(|thread| !share(Shared::Files, process.number(), thread.tid));
    for thread in others {
        let own = match of(&process.thread(thread.tid)) {
            // The thread has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            own => own?,
        };
        for one in own {
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    Ok(found)
}

fn of(process: &Process) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for fd in process.numbers("fd")? {
        let path = process.path("fd").join(fd.to_string());
        let Ok(target) = fs::read_link(&path) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let class = classify(&target, fs::metadata(&path).ok().as_ref(), &path);
        found.push(described(fd, target, class));
    }
    Ok(found)
}

fn described(fd: u32, target: String, class: Class) -> Descriptor {
    let (kind, expected) = match class {
        Class::Expected(kind) => (kind.to_owned(), true),
        Class::Unexpected(kind) => (kind.to_owned(), false),
        Class::Foreign => {
            let name = target.strip_prefix("anon_inode:").unwrap_or(&target);
            (name.trim_matches(['[', ']']).to_owned(), false)
        }
    };
    Descriptor {
        fd,
        kind,
        target,
        expected,
    }
}

/// One finding over all descriptors.
pub(super) fn judge(found: &io::Result<Vec<Descriptor>>) -> Finding {
    let found = match found {
        Ok(found) => found,
        Err(error) => return Finding::unreadable("/proc/PID/fd", error),
    };
    let strange: Vec<_> = found
        .iter()
        .filter(|one| !one.expected)
        .map(|one| match one.target.contains(&one.kind) {
            true => format!("{} ({})", one.fd, one.target),
            false => format!("{} ({}, {})", one.fd, one.kind, one.target),
        })
        .collect();
    match strange.is_empty() {
        true => Finding::in_force(format!("{}, all of kinds that a VM has", found.len())),
        false => Finding::absent(format!(
            "{} of {} are unexpected: {}",
            strange.len(),
            found.len(),
            strange.join(", ")
        )),
    }
}

/// Files and block devices that may hold a disk, as paths that lead to them from here: those that are open
/// for reading. What is only written is a log.
pub(super) fn storage(process: &Process, found: &[Descriptor]) -> Vec<PathBuf> {
    let holds = |one: &&Descriptor| {
        let info = process.text(&format!("fdinfo/{}", one.fd));
        let is_log = info.is_ok_and(|info| only_written(&info));
        ["file", "block device"].contains(&one.kind.as_str()) && !is_log
    };
    let mut paths: Vec<_> = found
        .iter()
        .filter(holds)
        .map(|one| {
            let named = PathBuf::from(&one.target);
            let open = process.path("fd").join(one.fd.to_string());
            // The same file by a name that a person knows, where that name leads to it from here.
            match same(&named, &open) {
                true => named,
                false => open,
            }
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Whether the text of `/proc/PID/fdinfo/N` (proc_pid_fdinfo(5)) is that of a file open for writing only.
fn only_written(info: &str) -> bool {
    const ACCESS: u32 = 0o3;
    const WRITE_ONLY: u32 = 0o1;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & ACCESS == WRITE_ONLY)
}

fn same(one: &Path, other: &Path) -> bool {
    let number = |path| fs::metadata(path).map(|found: Metadata| (found.dev(), found.ino()));
    matches!((number(one), number(other)), (Ok(one), Ok(other)) if one == other)
}

fn classify(target: &str, metadata: Option<&Metadata>, path: &Path) -> Class {
    if let Some(name) = target.strip_prefix("anon_inode:") {
        return anonymous(name);
    }
    if target.starts_with("socket:") {
        return socket(protocol(path).as_deref());
    }
    let Some(found) = metadata else {
        return Class::Unexpected("not to be looked at");
    };
    let kind = found.file_type();
    if kind.is_char_device() {
        character(found.rdev())
    } else if kind.is_block_device() {
        Class::Expected("block device")
    } else if kind.is_fifo() {
        Class::Expected("pipe")
    } else if kind.is_dir() {
        Class::Unexpected("directory")
    } else if kind.is_file() {
        file(target)
    } else {
        Class::Foreign
    }
}

/// Files without a name (Linux `anon_inode_getfile` and its users).
fn anonymous(name: &str) -> Class {
    match name {
        "kvm-vm" => Class::Expected("VM"),
        "[eventfd]" => Class::Expected("eventfd"),
        "[eventpoll]" => Class::Expected("epoll"),
        "[timerfd]" => Class::Expected("timer"),
        "[signalfd]" => Class::Expected("signals"),
        "[io_uring]" => Class::Expected("io_uring"),
        _ if name.starts_with("kvm-vcpu-stats") || name == "kvm-vm-stats" => {
            Class::Expected("KVM's figures")
        }
        _ if name.starts_with("kvm-vcpu") => Class::Expected("vCPU"),
        _ => Class::Foreign,
    }
}

/// Character devices (Linux `Documentation/admin-guide/devices.txt`).
fn character(number: Dev) -> Class {
    match (major(number), minor(number)) {
        (10, 232) => Class::Expected("KVM"),
        (10, 200) => Class::Expected("tap"),
        (10, 238) => Class::Expected("vhost-net"),
        (10, 241) => Class::Expected("vhost-vsock"),
        (1, 3) => Class::Expected("null"),
        (1, 5) => Class::Expected("zero"),
        (1, 8 | 9) => Class::Expected("random numbers"),
        (4 | 5, _) | (136..=143, _) => Class::Expected("terminal"),
        (1, 1 | 2 | 4) => Class::Unexpected("memory of the host"),
        _ => Class::Unexpected("device"),
    }
}

/// A file with a name, or one in memory. What the kernel makes files of is no disk.
fn file(target: &str) -> Class {
    let of_kernel = ["/proc/", "/sys/", "/dev/"];
    if target.starts_with("/memfd:") {
        Class::Expected("memory")
    } else if of_kernel.iter().any(|place| target.starts_with(place)) && !is_shared(target) {
        Class::Unexpected("file of the kernel's")
    } else if target.starts_with('/') {
        Class::Expected("file")
    } else {
        // `net:[4026531840]` and the like.
        Class::Foreign
    }
}

fn is_shared(target: &str) -> bool {
    target.starts_with("/dev/shm/") || target.starts_with("/dev/hugepages/")
}

/// A VM has Unix sockets (its API, vsock, a passed console) and no others.
fn socket(protocol: Option<&str>) -> Class {
    match protocol {
        Some("UNIX" | "UNIX-STREAM") => Class::Expected("Unix socket"),
        Some("TCP" | "TCPv6" | "UDP" | "UDPv6" | "MPTCP") => Class::Unexpected("network socket"),
        Some("NETLINK") => Class::Unexpected("netlink socket"),
        Some("PACKET" | "RAW" | "RAWv6" | "XDP") => Class::Unexpected("raw socket"),
        Some(_) => Class::Unexpected("socket of another family"),
        None => Class::Unexpected("socket of an unknown family"),
    }
}

/// What the kernel calls a socket's protocol: an attribute that sockets have (Linux `net/socket.c`,
/// `sockfs_xattr_get`).
fn protocol(path: &Path) -> Option<String> {
    let mut name = [0_u8; 64];
    let length = getxattr(path, "system.sockprotoname", &mut name[..]).ok()?;
    let name = name.get(..length)?;
    let name = String::from_utf8_lossy(name);
    Some(name.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::net::UnixStream;

    use rustix::fs::makedev;

    use super::super::report::State;
    use super::*;

    /// What this process's descriptor is taken for.
    fn of_this_process(fd: RawFd) -> Descriptor {
        let found = read(&Process::new(std::process::id()), &[]).unwrap();
        let one = found
            .into_iter()
            .find(|one| i64::from(one.fd) == i64::from(fd));
        one.unwrap()
    }

    #[test]
    fn what_a_vm_has_is_expected() {
        for name in ["kvm-vm", "kvm-vcpu:0", "kvm-vcpu-stats:3", "[eventfd]"] {
            assert!(matches!(anonymous(name), Class::Expected(_)), "{name}");
        }
        for target in ["/srv/disk.img", "/memfd:guest (deleted)", "/dev/shm/x"] {
            assert!(matches!(file(target), Class::Expected(_)), "{target}");
        }
        for (major, minor) in [(10, 232), (10, 200), (1, 3), (136, 7)] {
            let class = character(makedev(major, minor));
            assert!(matches!(class, Class::Expected(_)), "{major}:{minor}");
        }
    }

    #[test]
    fn what_a_vm_has_not_is_unexpected() {
        for name in [
            "[userfaultfd]",
            "[perf_event]",
            "bpf-prog",
            "[pidfd]",
            "inotify",
        ] {
            assert_eq!(anonymous(name), Class::Foreign, "{name}");
        }
        for target in ["/proc/1/mem", "/sys/kernel/x", "net:[4026531840]"] {
            assert!(!matches!(file(target), Class::Expected(_)), "{target}");
        }
        assert!(matches!(character(makedev(1, 1)), Class::Unexpected(_)));
        assert!(matches!(character(makedev(10, 229)), Class::Unexpected(_)));
        assert!(matches!(socket(None), Class::Unexpected(_)));
    }

    #[test]
    fn sockets_are_told_apart_by_their_protocol() {
        let (unix, _other) = UnixStream::pair().unwrap();
        let network = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = of_this_process(unix.as_raw_fd());
        assert!(unix.expected && unix.kind == "Unix socket", "{unix:?}");
        let network = of_this_process(network.as_raw_fd());
        assert!(!network.expected, "{network:?}");
        assert_eq!(network.kind, "network socket");
    }

    #[test]
    fn a_thread_with_a_table_of_its_own_does_not_hide_it() {
        let (ready, wait) = std::sync::mpsc::channel();
        let (done, end) = std::sync::mpsc::channel::<()>();
        let own = std::thread::spawn(move || {
            #[expect(
                deprecated,
                reason = "its successor is unsafe, and the call is the same"
            )]
            rustix::thread::unshare(rustix::thread::UnshareFlags::FILES).unwrap();
            let file = File::open("/proc/self/status").unwrap();
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            ready.send((tid.cast_unsigned(), file.as_raw_fd())).unwrap();
            let _ = end.recv();
        });
        let (tid, fd) = wait.recv().unwrap();
        let process = Process::new(std::process::id());
        let thread = Thread {
            tid,
            ..Thread::default()
        };
        let found = read(&process, &[thread]).unwrap();
        drop(done);
        own.join().unwrap();
        let is_it = |one: &&Descriptor| {
            i64::from(one.fd) == i64::from(fd) && one.target.ends_with("/status")
        };
        assert!(!found.iter().find(is_it).unwrap().expected, "{found:?}");
    }

    #[test]
    fn a_file_is_a_place_for_a_disk_and_a_directory_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let log = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        let process = Process::new(std::process::id());
        let open = of_this_process(file.as_raw_fd());
        assert_eq!(storage(&process, &[open]), [path]);
        let log = of_this_process(log.as_raw_fd());
        assert!(log.expected && storage(&process, &[log]).is_empty());
        let directory = File::open(dir.path()).unwrap();
        let directory = of_this_process(directory.as_raw_fd());
        assert!(!directory.expected, "{directory:?}");
        assert!(storage(&process, &[directory]).is_empty());
    }

    #[test]
    fn one_strange_descriptor_is_named() {
        let one = |fd, target: &str, class| described(fd, target.to_owned(), class);
        let good = one(3, "anon_inode:kvm-vm", anonymous("kvm-vm"));
        let bad = one(9, "anon_inode:[perf_event]", anonymous("[perf_event]"));
        let found = judge(&Ok(vec![good.clone(), bad]));
        assert_eq!(found.state, State::Absent);
        let expected = "1 of 2 are unexpected: 9 (anon_inode:[perf_event])";
        assert_eq!(found.evidence, expected);
        assert_eq!(judge(&Ok(vec![good])).state, State::InForce);
        let refused = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(judge(&refused).state, State::NotTestable);
    }
}
