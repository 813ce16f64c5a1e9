//! The first process's first steps: from the initramfs into a root of its own, from which containers can pivot.
//!
//! The kernel cannot pivot away from the initramfs. So its root becomes a file system in memory with the agent in it, on
//! a mount of its own that is then read-only: **no container can write to the agent's program**, by whatever link to it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use guest_init::{kmsg, modules, mounts, net, root};
use rustix::mount::{MountFlags, mount, mount_remount};

use crate::cgroup;
use crate::pod::Places;

/// What the guest was booted with beside the agent: a container to run, and files that it binds.
pub(crate) const GIVEN: &str = "/ravelin";
/// Where the agent is in its root.
const FOLDER: &str = "/agent";
const PROGRAM: &str = "/agent/ravelin-agent";
/// How large its root and the mount of its program may become, bytes; what is put into the guest is elsewhere.
const ROOT: u64 = 1 << 20;
/// The argument that says that the root is taken.
pub(crate) const SETTLED: &str = "settled";

/// What stops the agent before it can run anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    #[error(transparent)]
    Root(#[from] root::RootError),
    #[error("cannot {what}: {source}")]
    Step {
        what: &'static str,
        source: io::Error,
    },
}

/// Names a step when it fails.
trait Step<T> {
    fn step(self, what: &'static str) -> Result<T, BootError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: &'static str) -> Result<T, BootError> {
        self.map_err(|source| BootError::Step {
            what,
            source: source.into(),
        })
    }
}

/// Leaves the initramfs, and executes the agent again from its root.
pub(crate) fn settle() -> Result<Infallible, BootError> {
    mounts::mount_kernel_views()?;
    modules::load_listed();
    let place = root::prepare_memory(ROOT)?;
    let folder = place.join(FOLDER.trim_start_matches('/'));
    fs::create_dir(&folder).step("make the agent's folder")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("agent", folder.as_path(), "tmpfs", flags, None).step("mount the agent's folder")?;
    let program = place.join(PROGRAM.trim_start_matches('/'));
    fs::copy("/proc/self/exe", &program).step("copy the agent")?;
    mount_remount(folder.as_path(), flags | MountFlags::RDONLY, c"")
        .step("make the agent's folder read-only")?;
    hand_on(place)?;
    root::take()?;
    let source = Command::new(PROGRAM).arg(SETTLED).exec();
    Err(BootError::Step {
        what: "execute the agent in its root",
        source,
    })
}

/// Takes what the guest was booted with along.
fn hand_on(place: &Path) -> Result<(), BootError> {
    let given = Path::new(GIVEN);
    if !given.exists() {
        return Ok(());
    }
    let target = place.join(GIVEN.trim_start_matches('/'));
    fs::create_dir(&target).step("make a folder for what was given")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        "given",
        target.as_path(),
        "tmpfs",
        flags,
        Some(c"mode=0755"),
    )
    .step("mount a folder for what was given")?;
    copy_all(given, &target, 0).step("copy what was given")
}

/// Copies a tree of files, folders and links, one after the other and each gone from where it was.
fn copy_all(from: &Path, to: &Path, depth: u32) -> io::Result<()> {
    /// As deep as anybody's volumes are.
    const DEEPEST: u32 = 64;
    if depth > DEEPEST {
        return Err(io::Error::other("the folders are too deep"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata()?;
        let kind = found.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_all(&source, &target, depth + 1)?;
            fs::set_permissions(&target, found.permissions())?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            fs::remove_file(&source)?;
        }
        let (user, group) = (
            std::os::unix::fs::MetadataExt::uid(&found),
            std::os::unix::fs::MetadataExt::gid(&found),
        );
        std::os::unix::fs::lchown(&target, Some(user), Some(group))?;
    }
    Ok(())
}

/// Mounts what the agent and its containers need, in the root that is taken.
pub(crate) fn furnish() -> Result<Places, BootError> {
    mounts::mount_scratch();
    net::configure(None);
    let cgroup = match cgroup::guard() {
        Ok(folder) => Some(folder),
        Err(error) => {
            kmsg::error(&format_args!(
                "the guest has no cgroups of version 2, so containers have no limits: {error}"
            ));
            None
        }
    };
    let base = Path::new("/run/ravelin");
    let places = Places {
        containers: base.join("containers"),
        files: base.join("files"),
        given: PathBuf::from(GIVEN).join("files"),
        cgroup,
        folders: None,
    };
    for folder in [&places.containers, &places.files] {
        fs::create_dir_all(folder).step("make the agent's folders")?;
    }
    Ok(places)
}
