//! From the initramfs to the root that the kernel command line names.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};

use crate::cmdline::{Options, RootMount};
use crate::kmsg;

const NEW_ROOT: &str = "/newroot";
/// How long a device may take to appear after its driver is loaded.
const DEVICE_LIMIT: Duration = Duration::from_secs(10);
const DEVICE_POLL: Duration = Duration::from_millis(10);

/// Why the root cannot be taken.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say what each is")]
pub enum RootError {
    #[error("root={0} is not a device path: name the disk, for example root=/dev/vda")]
    NotADevice(String),
    #[error("root={device} does not appear: the guest has {present}")]
    NoDevice { device: String, present: String },
    #[error("cannot mount root={device}: no file system type of {tried} fits ({last})")]
    NoType {
        device: String,
        tried: String,
        last: Errno,
    },
    #[error("the root {device} has no {init}: give it one, or name another with init=")]
    NoInit { device: String, init: String },
    #[error("cannot hand over to the root: {step}: {source}")]
    Step { step: &'static str, source: Errno },
    #[error("cannot run {init} of the root: {source}")]
    Exec { init: String, source: io::Error },
}

/// Mounts `device`, frees the initramfs and becomes the root's init.
pub fn switch(device: &str, options: &Options) -> Result<Infallible, RootError> {
    wait_for(device, options.mount.wait)?;
    fs::create_dir_all(NEW_ROOT).map_err(|source| step("making /newroot", &source))?;
    mount_root(device, &options.mount)?;
    let init = options.init.as_deref().unwrap_or("/sbin/init");
    if fs::symlink_metadata(Path::new(NEW_ROOT).join(init.trim_start_matches('/'))).is_err() {
        return Err(RootError::NoInit {
            device: device.into(),
            init: init.into(),
        });
    }
    move_views(device);
    free_initramfs();
    enter()?;
    let source = Command::new(init).args(std::env::args_os().skip(1)).exec();
    Err(RootError::Exec {
        init: init.into(),
        source,
    })
}

fn wait_for(device: &str, for_ever: bool) -> Result<(), RootError> {
    if !device.starts_with("/dev/") {
        return Err(RootError::NotADevice(device.into()));
    }
    let limit = Instant::now() + DEVICE_LIMIT;
    while fs::metadata(device).is_err() {
        if !for_ever && Instant::now() > limit {
            return Err(RootError::NoDevice {
                device: device.into(),
                present: disks(),
            });
        }
        std::thread::sleep(DEVICE_POLL);
    }
    Ok(())
}

/// The guest's disks, for a message.
fn disks() -> String {
    let names: Vec<String> = fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            Some(format!(
                "/dev/{}",
                entry.ok()?.file_name().to_string_lossy()
            ))
        })
        .collect();
    if names.is_empty() {
        "no disk".into()
    } else {
        names.join(", ")
    }
}

/// Mounts the device with the first type that fits, as the kernel itself does for a root.
fn mount_root(device: &str, how: &RootMount) -> Result<(), RootError> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let types: Vec<&str> = if how.types.is_empty() {
        disk_types(&known).collect()
    } else {
        how.types.iter().map(String::as_str).collect()
    };
    let flags = if how.writable {
        MountFlags::empty()
    } else {
        MountFlags::RDONLY
    };
    let data = how
        .flags
        .as_deref()
        .and_then(|flags| CString::new(flags).ok());
    let mut last = Errno::NODEV;
    for kind in &types {
        // A silent attempt: the wrong types would each leave a line on the console.
        match mount(
            device,
            NEW_ROOT,
            *kind,
            flags | MountFlags::SILENT,
            data.as_deref(),
        ) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(RootError::NoType {
        device: device.into(),
        tried: types.join(", "),
        last,
    })
}

/// The types in `/proc/filesystems` that live on a device.
fn disk_types(known: &str) -> impl Iterator<Item = &str> {
    known
        .lines()
        .filter(|line| !line.starts_with("nodev"))
        .map(str::trim)
        .filter(|kind| !kind.is_empty())
}

/// Mounts a file system in memory of at most `bytes` at the place from which [`take`] makes it the root, and gives that
/// place.
///
/// # Errors
///
/// The place cannot be made, or the kernel has no tmpfs.
pub fn prepare_memory(bytes: u64) -> Result<&'static Path, RootError> {
    fs::create_dir_all(NEW_ROOT).map_err(|source| step("making /newroot", &source))?;
    let size = CString::new(format!("mode=0755,size={bytes}")).expect("a number has no zero byte");
    mount(
        "root",
        NEW_ROOT,
        "tmpfs",
        MountFlags::NOSUID,
        Some(size.as_c_str()),
    )
    .map_err(|source| RootError::Step {
        step: "mounting a tmpfs",
        source,
    })?;
    Ok(Path::new(NEW_ROOT))
}

/// Moves the kernel's views into the prepared root, frees the initramfs and makes that root `/`.
///
/// # Errors
///
/// The kernel refuses one of the steps.
pub fn take() -> Result<(), RootError> {
    move_views("in memory");
    free_initramfs();
    enter()
}

fn move_views(device: &str) {
    for view in ["/dev", "/proc", "/sys"] {
        let place = format!("{NEW_ROOT}{view}");
        // It is there already, or moving there says what is wrong.
        let _ = fs::create_dir(&place);
        if let Err(error) = mount_move(view, place.as_str()) {
            kmsg::error(&format_args!(
                "cannot move {view} to the root {device}: {error}"
            ));
        }
    }
}

/// Deletes the initramfs, which would keep its memory as long as the guest runs.
fn free_initramfs() {
    let Ok(device) = fs::metadata("/").map(|root| root.dev()) else {
        return;
    };
    for entry in fs::read_dir("/")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let path = entry.path();
        let deleted = match entry.metadata() {
            Ok(meta) if meta.dev() != device => continue,
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            kmsg::info(&format_args!("cannot free {}: {error}", path.display()));
        }
    }
}

/// Makes the mounted root `/`, as switch_root(8) does: the initramfs itself cannot be unmounted.
fn enter() -> Result<(), RootError> {
    let named = |step| move |source| RootError::Step { step, source };
    chdir(NEW_ROOT).map_err(named("entering it"))?;
    mount_move(".", "/").map_err(named("moving it to /"))?;
    chroot(".").map_err(named("changing the root"))?;
    chdir("/").map_err(named("entering /"))
}

fn step(step: &'static str, source: &io::Error) -> RootError {
    RootError::Step {
        step,
        source: Errno::from_io_error(source).unwrap_or(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_need_no_device_are_not_tried() {
        let known = "nodev\tsysfs\nnodev\ttmpfs\n\text3\n\text4\nnodev\tdevpts\n";
        assert_eq!(disk_types(known).collect::<Vec<_>>(), ["ext3", "ext4"]);
    }

    #[test]
    fn a_root_that_is_no_path_is_refused_without_waiting() {
        assert!(matches!(
            wait_for("UUID=1234", true),
            Err(RootError::NotADevice(_))
        ));
    }
}
