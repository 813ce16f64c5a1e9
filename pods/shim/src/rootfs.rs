//! A container's root: what containerd would have mounted becomes a read-only disk, once for all that have the same layers.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use containerd_shim_protos::types::mount::Mount;
use image::cache::{Cache, CacheError, Disk};
use image::directory::{self, DirectoryError};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::address::hex;

/// A root that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    /// What containerd asks for.
    #[error(
        "the root filesystem is to be mounted as {0}: overlay and bind mounts were expected, as of the snapshotters overlayfs and native"
    )]
    Kind(String),
    /// The kernel.
    #[error("the root filesystem cannot be mounted ({0}): {1}")]
    Mount(PathBuf, #[source] io::Error),
    /// The cache.
    #[error("the container's disk: {}", chain(.0))]
    Cache(#[from] CacheError),
    /// What is in it.
    #[error("the container's disk: {}", chain(.0))]
    Directory(#[from] DirectoryError),
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// What a root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    /// Directories, each over those behind it: nobody changes them.
    Layers(Vec<PathBuf>),
    /// One directory, which may be another one every time.
    Directory(PathBuf),
}

impl Root {
    /// Reads what containerd has sent; without mounts the root is there already, at `mounted`.
    ///
    /// # Errors
    /// When it is nothing that a disk can be made of.
    pub(crate) fn read(mounts: &[Mount], mounted: &Path) -> Result<Self, RootfsError> {
        let [mount] = mounts else {
            return match mounts {
                [] => Ok(Self::Directory(mounted.to_owned())),
                _ => Err(RootfsError::Kind(format!("{} mounts", mounts.len()))),
            };
        };
        match mount.type_.as_str() {
            "bind" => Ok(Self::Directory(PathBuf::from(&mount.source))),
            "overlay" => Self::of_overlay(&mount.options),
            other => Err(RootfsError::Kind(other.to_owned())),
        }
    }

    fn of_overlay(options: &[String]) -> Result<Self, RootfsError> {
        let get = |key: &str| options.iter().find_map(|option| option.strip_prefix(key));
        let lower = get("lowerdir=")
            .ok_or_else(|| RootfsError::Kind("an overlay without lowerdir".to_owned()))?;
        let mut layers: Vec<PathBuf> = lower.split(':').map(PathBuf::from).collect();
        if let Some(upper) = get("upperdir=").map(PathBuf::from)
            && fs::read_dir(&upper).is_ok_and(|mut entries| entries.next().is_some())
        {
            // Somebody has written there before.
            layers.insert(0, upper);
        }
        Ok(Self::Layers(layers))
    }

    /// What tells this root from every other one: the layers, as directories that were made once. None where the next one
    /// at the same place may be another.
    fn key(&self) -> Option<String> {
        let Self::Layers(layers) = self else {
            return None;
        };
        let mut digest = Sha256::new();
        for layer in layers {
            let found = fs::metadata(layer).ok()?;
            let made = found
                .created()
                .ok()?
                .duration_since(std::time::UNIX_EPOCH)
                .ok()?;
            let line = format!(
                "{}\n{} {} {}\n",
                layer.display(),
                found.dev(),
                found.ino(),
                made.as_nanos()
            );
            digest.update(line);
        }
        Some(hex(&digest.finalize()))
    }

    /// The directory with all of it, mounted where only this thread sees it if it must be.
    fn mounted(&self, place: &Path) -> Result<PathBuf, RootfsError> {
        let failed = |error: io::Error| RootfsError::Mount(place.to_owned(), error);
        let layers = match self {
            Self::Directory(directory) => return Ok(directory.clone()),
            Self::Layers(layers) => layers,
        };
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| failed(error.into()))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(|error| failed(error.into()))?;
        fs::create_dir_all(place).map_err(failed)?;
        if let [one] = &layers[..] {
            // An overlay has two at least.
            mount_bind(one, place).map_err(|error| failed(error.into()))?;
            return Ok(place.to_owned());
        }
        let (common, names) = shorten(layers);
        // This thread's own, since it has left the others' with their mounts.
        std::env::set_current_dir(&common).map_err(failed)?;
        let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")))
            .map_err(|error| failed(error.into()))?;
        mount(
            "overlay",
            place,
            "overlay",
            MountFlags::RDONLY,
            options.as_c_str(),
        )
        .map_err(|error| failed(error.into()))?;
        Ok(place.to_owned())
    }
}

/// A disk, and whether it is this container's alone.
#[derive(Debug)]
pub(crate) struct RootDisk {
    /// The cache's, in use as long as this is there.
    pub(crate) disk: Disk,
    /// Its path, if nobody else will ever want it.
    pub(crate) alone: Option<PathBuf>,
}

impl RootDisk {
    /// It, open.
    pub(crate) fn file(&self) -> &File {
        &self.disk.file
    }
}

/// Makes the disk of a root, or finds it. `once` is a name that no other container has; `place` a directory for mounts.
///
/// # Errors
/// What keeps it from being made.
pub(crate) async fn disk(
    root: Root,
    cache: PathBuf,
    limit: u64,
    once: String,
    place: PathBuf,
) -> Result<RootDisk, RootfsError> {
    let (sender, made) = oneshot::channel();
    // Of its own, since it takes leave of the others' mounts; these end with it.
    thread::spawn(move || {
        let _ = sender.send(make(&root, &cache, limit, &once, &place));
    });
    let gone = |_| RootfsError::Kind("nothing: the shim ends".to_owned());
    made.await.map_err(gone)?
}

fn make(
    root: &Root,
    cache: &Path,
    limit: u64,
    once: &str,
    place: &Path,
) -> Result<RootDisk, RootfsError> {
    let cache = Cache::open(cache, limit)?;
    let key = root.key();
    let what = match &key {
        Some(key) => format!("layers {key}"),
        None => format!("once {once}"),
    };
    let limits = cache.limits;
    let disk = cache.disk::<RootfsError>(&what, |store| {
        let path = root.mounted(place)?;
        Ok(directory::read(&path, store, limits, &mut |_| {})?)
    })?;
    let alone = key.is_none().then(|| disk.path.clone());
    Ok(RootDisk { disk, alone })
}

/// The directory that all of them are in, and their paths from there: a mount's options have one page.
fn shorten(layers: &[PathBuf]) -> (PathBuf, Vec<String>) {
    let first = layers
        .first()
        .and_then(|layer| layer.parent())
        .unwrap_or(Path::new("/"));
    let is_common = |directory: &&Path| layers.iter().all(|layer| layer.starts_with(directory));
    let common = first
        .ancestors()
        .find(is_common)
        .unwrap_or(Path::new("/"))
        .to_owned();
    let names = layers.iter().map(|layer| {
        layer
            .strip_prefix(&common)
            .unwrap_or(layer)
            .display()
            .to_string()
    });
    let names = names.collect();
    (common, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(options: &[&str]) -> Mount {
        let mut mount = Mount::new();
        mount.type_ = "overlay".to_owned();
        mount.options = options.iter().map(|&option| option.to_owned()).collect();
        mount
    }

    #[test]
    fn an_overlays_layers_are_the_root() {
        let mount = overlay(&[
            "index=off",
            "workdir=/w",
            "upperdir=/nonexistent",
            "lowerdir=/s/2/fs:/s/1/fs",
        ]);
        let root = Root::read(&[mount], Path::new("/b")).unwrap();
        assert_eq!(root, Root::Layers(vec!["/s/2/fs".into(), "/s/1/fs".into()]));
    }

    #[test]
    fn what_was_written_before_is_a_layer_too() {
        let upper = tempfile::tempdir().unwrap();
        fs::write(upper.path().join("f"), "").unwrap();
        let mount = overlay(&[
            &format!("upperdir={}", upper.path().display()),
            "lowerdir=/s/1/fs",
        ]);
        let root = Root::read(&[mount], Path::new("/b")).unwrap();
        assert_eq!(
            root,
            Root::Layers(vec![upper.path().to_owned(), "/s/1/fs".into()])
        );
    }

    #[test]
    fn without_mounts_the_root_is_there_and_another_every_time() {
        let root = Root::read(&[], Path::new("/b/rootfs")).unwrap();
        assert_eq!(
            (root.key(), root),
            (None, Root::Directory("/b/rootfs".into()))
        );
    }

    #[test]
    fn another_directory_at_the_same_place_is_another_root() {
        let directory = tempfile::tempdir().unwrap();
        let layer = directory.path().join("fs");
        fs::create_dir(&layer).unwrap();
        let root = Root::Layers(vec![layer.clone()]);
        let first = root.key().unwrap();
        assert_eq!(root.key().unwrap(), first);
        fs::rename(&layer, directory.path().join("old")).unwrap();
        fs::create_dir(&layer).unwrap();
        assert_ne!(root.key().unwrap(), first);
    }

    #[test]
    fn paths_are_shortened_to_where_they_part() {
        let layers = ["/var/lib/s/12/fs".into(), "/var/lib/s/1/fs".into()];
        assert_eq!(
            shorten(&layers),
            (
                "/var/lib/s".into(),
                vec!["12/fs".to_owned(), "1/fs".to_owned()]
            )
        );
        assert_eq!(
            shorten(&["/one".into()]),
            ("/".into(), vec!["one".to_owned()])
        );
    }

    #[test]
    fn another_kind_of_mount_is_refused_by_its_name() {
        let mut mount = Mount::new();
        mount.type_ = "fuse3.x".to_owned();
        assert!(
            Root::read(&[mount], Path::new("/b"))
                .unwrap_err()
                .to_string()
                .contains("fuse3.x")
        );
    }
}
