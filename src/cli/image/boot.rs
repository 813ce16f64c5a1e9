//! From an image to a process that boots it: this one, with what was made of the image on its command line.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FileType, FlockOperation, OFlags, flock, fstat};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;

use super::archive::Archive;
use super::program::{self, Answer};
use super::volume::{self, Volume};
use super::{Args, Made};
use crate::failure::Failure;

/// Where the agent looks for the container, and for the files that it is given.
const CONFIG: &str = "ravelin/config.json";
const FILES: &str = "ravelin/files";

/// What `ravelin run` knows besides the image's own flags.
pub(crate) struct Around<'a> {
    pub(crate) kernel: Option<&'a Path>,
    pub(crate) command: &'a [String],
    pub(crate) quiet: bool,
    /// Whether the guest's console is this terminal, if there is one.
    pub(crate) on_console: bool,
}

/// Becomes the process that boots the image.
///
/// # Errors
/// What kept it from that. It does not come back otherwise.
pub(crate) fn boot(
    args: &Args,
    image: &str,
    around: &Around<'_>,
) -> Result<std::convert::Infallible, Failure> {
    let has_terminal = around.on_console && io::stdin().is_terminal() && io::stdout().is_terminal();
    let term = env::var("TERM").unwrap_or_else(|_| "xterm".into());
    let terminal = has_terminal.then_some(&*term);
    if !around.quiet && !has_terminal && is_lost(io::stdin()) {
        eprintln!(
            "ravelin: a container's input is a terminal or nothing: what stands on stdin is not passed on; files are, by -v"
        );
    }
    let (answer, holder) = program::resolve(args, image, terminal, around.quiet, around.command)?;
    let disk = hold(&answer.disk)?;
    holder.release();
    let kernel = kernel(around.kernel, &answer)?;
    let agent = agent(args.agent.as_deref(), &answer)?;
    let initrd = initrd(&agent, &answer, &args.volume)?;
    for file in [&disk, &initrd] {
        // They stay with this process whatever program it runs: the disk's lock, and a file without a name.
        fcntl_setfd(file, FdFlags::empty()).map_err(Failure::run)?;
    }
    let made = Made {
        name: answer.image,
        digest: answer.digest,
        disk: answer.disk,
        kernel,
        initrd: format!("/proc/self/fd/{}", initrd.as_raw_fd()).into(),
        has_terminal,
    };
    let made = serde_json::to_string(&made).map_err(Failure::run)?;
    let mut words = env::args_os();
    let name = words.next().unwrap_or_else(|| "ravelin".into());
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(name)
        .args(words.next())
        .arg("--made")
        .arg(made)
        .args(words);
    Err(Failure::run(format!(
        "ravelin cannot start itself anew: {}",
        command.exec()
    )))
}

/// Whether somebody may have meant this for the container: a pipe, or a file.
fn is_lost(stdin: impl AsFd) -> bool {
    let kind = fstat(stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::RegularFile))
}

/// The disk, locked against removal.
fn hold(path: &Path) -> Result<File, Failure> {
    let wrap = |error: io::Error| {
        Failure::run(format!(
            "the image's disk {} cannot be used: {error}",
            path.display()
        ))
    };
    let file = File::open(path).map_err(wrap)?;
    flock(&file, FlockOperation::LockShared).map_err(|errno| wrap(errno.into()))?;
    Ok(file)
}

fn kernel(flag: Option<&Path>, answer: &Answer) -> Result<PathBuf, Failure> {
    flag.map(Path::to_owned).or_else(|| answer.kernel.clone()).ok_or_else(|| {
        Failure::run(
            "there is no kernel for the image: give --kernel, or `kernel` in /etc/ravelin/config.toml, or put one at \
             /usr/local/share/ravelin/vmlinux",
        )
    })
}

fn agent(flag: Option<&Path>, answer: &Answer) -> Result<PathBuf, Failure> {
    flag.map(Path::to_owned).or_else(|| answer.agent.clone()).ok_or_else(|| {
        Failure::run(
            "there is no agent for the image: give --agent, or `agent` in /etc/ravelin/config.toml, or put one at \
             /usr/local/share/ravelin/agent.cpio",
        )
    })
}

/// The agent's initial RAM disk with the container behind it: the kernel unpacks one archive after the other.
fn initrd(agent: &Path, answer: &Answer, volumes: &[Volume]) -> Result<File, Failure> {
    let of_agent = |error: io::Error| {
        Failure::run(format!(
            "the agent {} cannot be read: {error}",
            agent.display()
        ))
    };
    let mut from = File::open(agent).map_err(of_agent)?;
    let mut file = unnamed(&answer.disk).map_err(Failure::run)?;
    let len = io::copy(&mut from, &mut file).map_err(of_agent)?;
    let written = append(&file, len, answer, volumes);
    written.map_err(|error| {
        Failure::run(format!(
            "the container's files cannot be put together: {error}"
        ))
    })?;
    Ok(file)
}

fn append(file: &File, len: u64, answer: &Answer, volumes: &[Volume]) -> io::Result<()> {
    let mut container = answer.container.clone();
    let mut archive = Archive::behind(BufWriter::new(file), len)?;
    archive.directory("ravelin")?;
    archive.directory(FILES)?;
    for (number, volume) in volumes.iter().enumerate() {
        let path = format!("{FILES}/{number}");
        volume::copy(&mut archive, &volume.source, &path)?;
        if let Some(mounts) = container["mounts"].as_array_mut() {
            mounts.push(json!({
                "destination": volume.destination,
                "type": "bind",
                "source": format!("/{path}"),
                "options": ["rbind", "ro"],
            }));
        }
    }
    let text = serde_json::to_vec(&container)?;
    archive.file(CONFIG, 0o600, text.len() as u64, &text[..])?;
    archive.end()
}

/// A file without a name beside the disk, or else in memory.
fn unnamed(disk: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    let beside = |folder: &Path| {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(folder)
    };
    match disk.parent().map(beside) {
        Some(Ok(file)) => Ok(file),
        _ => {
            let fd = rustix::fs::memfd_create("initrd", rustix::fs::MemfdFlags::CLOEXEC)?;
            Ok(File::from(fd))
        }
    }
}
