//! Why a jail was not built, in the words of Firecracker's jailer where it has some.

use std::io;
use std::path::PathBuf;

/// Why a jail was not built: what failed, and on what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    #[error("Failed to canonicalize path {path}: {1}", path = .0.display())]
    Canonicalize(PathBuf, io::Error),
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("Failed to extract filename from path {}", .0.display())]
    ExtractFileName(PathBuf),
    #[error(
        "Invalid filename. The filename of `--exec-file` option must contain \"firecracker\": {0}"
    )]
    ExecFileName(String),
    #[error("Failed to call close range syscall: {0}")]
    CloseRange(io::Error),
    #[error("Failed to create directory {path}: {1}", path = .0.display())]
    CreateDir(PathBuf, io::Error),
    #[error("Failed to open file {path}: {1}", path = .0.display())]
    FileOpen(PathBuf, io::Error),
    #[error("Detected hard link at: {}", .0.display())]
    HardLink(PathBuf),
    #[error("Failed to copy {from} to {to}: {2}", from = .0.display(), to = .1.display())]
    Copy(PathBuf, PathBuf, io::Error),
    #[error("Failed to change owner for {path}: {1}", path = .0.display())]
    ChangeFileOwner(PathBuf, io::Error),
    #[error("Failed to change permissions on {path}: {1}", path = .0.display())]
    Chmod(PathBuf, io::Error),
    #[error("Failed to join network namespace: netns: {0}")]
    SetNetNs(io::Error),
    #[error("Failed to set limit for resource: {0}: {1}")]
    Setrlimit(&'static str, io::Error),
    #[error("Cgroup invalid file: {0}")]
    CgroupInvalidFile(String),
    #[error(
        "Invalid list of devices: `{0}` was given, and a line such as `c 10:232 rwm`, or `a` for all, was expected"
    )]
    Device(String),
    #[error("Hierarchy not found: No hierarchy found for this cgroup version.")]
    CgroupHierarchyMissing,
    #[error("Controller {0} is unavailable")]
    CgroupControllerUnavailable(String),
    #[error("Failed to inherit cgroups configurations from file {1} in path {path}", path = .0.display())]
    CgroupInheritFromParent(PathBuf, &'static str),
    #[error("Failed to read file {path} into a string: {1}", path = .0.display())]
    ReadToString(PathBuf, io::Error),
    #[error("Failed to write to {path}: {1}", path = .0.display())]
    Write(PathBuf, io::Error),
    #[error("Failed to open /dev/null: {0}")]
    OpenDevNull(io::Error),
    #[error("Failed to unshare into new mount namespace: {0}")]
    UnshareNewNs(io::Error),
    #[error("Failed to change the propagation type to slave: {0}")]
    MountPropagationSlave(io::Error),
    #[error("The jail root directory {} was exchanged while the jail was built", .0.display())]
    Exchanged(PathBuf),
    #[error("Failed to bind mount the jail root directory: {0}")]
    MountBind(io::Error),
    #[error("Failed to change current directory: {0}")]
    SetCurrentDir(io::Error),
    #[error("Failed to pivot root: {0}")]
    PivotRoot(io::Error),
    #[error("Failed to unmount the old jail root: {0}")]
    UmountOldRoot(io::Error),
    #[error("Failed to create {0} via mknod inside the jail: {1}")]
    MknodDev(&'static str, io::Error),
    #[error("Failed to daemonize: {0}")]
    Daemonize(io::Error),
    #[error("Failed to daemonize: setsid: {0}")]
    SetSid(io::Error),
    #[error("Failed to duplicate fd: {0}")]
    Dup2(io::Error),
    #[error("Failed cloning into a new child process: {0}")]
    Clone(io::Error),
    #[error("Failed to switch to the uid and gid of the jail: {0}")]
    Ids(io::Error),
    #[error("Failed to raise the wall `{0}`: {1}")]
    Wall(&'static str, io::Error),
    #[error("Failed to exec into Firecracker: {}", exec_failure(.0))]
    Exec(io::Error),
}

/// What exec says, and the most likely cause of what puzzles most: a file that is there is not found.
fn exec_failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{error}: the jail holds no program loader and no libraries, so the exec file must be linked statically"
        ),
        _ => error.to_string(),
    }
}
