//! A container's root: a read-only file system, and over it a layer in memory that takes what is written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::time::{Instant, sleep};

use crate::error::{AgentError, Doing};

/// How long a disk may take to appear, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(10);
/// The longest serial of a virtio disk, bytes (virtio 1.2 §5.2.6.1).
const LONGEST_SERIAL: usize = 20;
/// What may be written where nothing is to be: the places that are mounted on, bytes.
const SCARCE: u64 = 1 << 20;

/// Where a root comes from.
pub(crate) enum Source {
    /// A disk of the guest.
    Disk { serial: String, filesystem: String },
    /// A folder of this machine, where the agent is tried out without a guest.
    Folder(PathBuf),
}

/// How much of it can be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writable {
    /// Bytes; 0 is half of the guest's memory.
    pub(crate) bytes: u64,
    pub(crate) is_read_only: bool,
}

/// A root that is mounted. It is unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    base: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Disk {
    /// Mounts one below a folder that is not there yet.
    pub(crate) async fn mount(
        base: &Path,
        source: &Source,
        writable: Writable,
    ) -> Result<Self, AgentError> {
        let what = "make the place of the container's root";
        fs::create_dir_all(base).doing(what)?;
        let mut disk = Self {
            base: base.into(),
            mounted: Vec::new(),
        };
        let lower = match source {
            Source::Folder(folder) => folder.clone(),
            Source::Disk { serial, filesystem } => disk.lower(serial, filesystem).await?,
        };
        disk.overlay(&lower, writable)?;
        Ok(disk)
    }

    /// The root.
    pub(crate) fn path(&self) -> PathBuf {
        self.base.join("root")
    }

    async fn lower(&mut self, serial: &str, filesystem: &str) -> Result<PathBuf, AgentError> {
        if !["erofs", "ext4"].contains(&filesystem) {
            return Err(AgentError::Asked(format!(
                "the root's file system is '{filesystem}' and erofs or ext4 was expected"
            )));
        }
        let device = find(serial).await?;
        let lower = self.folder("lower")?;
        let what = format!("mount the disk {serial} as {filesystem}");
        mount(
            device.as_path(),
            lower.as_path(),
            filesystem,
            MountFlags::RDONLY | MountFlags::NODEV,
            None,
        )
        .doing(what)?;
        self.mounted.push(lower.clone());
        Ok(lower)
    }

    fn overlay(&mut self, lower: &Path, writable: Writable) -> Result<(), AgentError> {
        let what = "mount the container's writable layer";
        let top = self.folder("top")?;
        let size = match writable {
            Writable {
                is_read_only: true, ..
            } => SCARCE.to_string(),
            Writable { bytes: 0, .. } => "50%".into(),
            Writable { bytes, .. } => bytes.to_string(),
        };
        let options = text(format!("mode=0755,size={size}")).doing(what)?;
        mount(
            "top",
            top.as_path(),
            "tmpfs",
            MountFlags::empty(),
            options.as_deref(),
        )
        .doing(what)?;
        self.mounted.push(top.clone());
        let (upper, work) = (top.join("upper"), top.join("work"));
        fs::create_dir(&upper).doing(what)?;
        fs::create_dir(&work).doing(what)?;
        // The root itself is as the image has it.
        let like = fs::metadata(lower).doing(what)?;
        fs::set_permissions(&upper, like.permissions()).doing(what)?;
        let owner = (
            std::os::unix::fs::MetadataExt::uid(&like),
            std::os::unix::fs::MetadataExt::gid(&like),
        );
        std::os::unix::fs::chown(&upper, Some(owner.0), Some(owner.1)).doing(what)?;
        let root = self.folder("root")?;
        let options = text(format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        ))
        .doing(what)?;
        mount(
            "root",
            root.as_path(),
            "overlay",
            MountFlags::empty(),
            options.as_deref(),
        )
        .doing(what)?;
        self.mounted.push(root);
        Ok(())
    }

    fn folder(&self, name: &str) -> Result<PathBuf, AgentError> {
        let path = self.base.join(name);
        fs::create_dir(&path).doing("make the place of the container's root")?;
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for place in self.mounted.iter().rev() {
            // The last that is in it lets go of it when it ends.
            let _ = unmount(place.as_path(), UnmountFlags::DETACH);
            let _ = fs::remove_dir(place);
        }
        let _ = fs::remove_dir(&self.base);
    }
}

fn text(options: String) -> io::Result<Option<std::ffi::CString>> {
    Ok(Some(std::ffi::CString::new(options)?))
}

/// The disk with this serial, which may take a moment to appear.
async fn find(serial: &str) -> Result<PathBuf, AgentError> {
    if serial.is_empty() || serial.len() > LONGEST_SERIAL {
        return Err(AgentError::Asked(format!(
            "the root's disk has the serial '{serial}' and 1 to {LONGEST_SERIAL} bytes were expected"
        )));
    }
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(device) = look(Path::new("/sys/block"), serial) {
            return Ok(Path::new("/dev").join(device));
        }
        if Instant::now() > limit {
            return Err(AgentError::Asked(format!(
                "the guest has no disk with the serial '{serial}'"
            )));
        }
        sleep(BETWEEN).await;
    }
}

/// The name of the disk whose `serial` is this (Documentation/ABI/stable/sysfs-block).
fn look(block: &Path, serial: &str) -> Option<String> {
    fs::read_dir(block).ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("serial")).ok()?;
        (found.trim_end_matches(['\n', '\0']) == serial)
            .then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_known_by_its_whole_serial() {
        let block = tempfile::tempdir().unwrap();
        for (name, serial) in [("vda", "rootfs2"), ("vdb", "rootfs\n"), ("loop0", "")] {
            fs::create_dir(block.path().join(name)).unwrap();
            fs::write(block.path().join(name).join("serial"), serial).unwrap();
        }
        assert_eq!(look(block.path(), "rootfs").as_deref(), Some("vdb"));
        assert_eq!(look(block.path(), "root"), None);
    }
}
