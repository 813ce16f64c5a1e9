//! `--root` and `--disk`: `PATH[,ro][,id=ID][,serial=TEXT][,engine=sync|uring][,cache=unsafe|writeback][,bw=SIZE][,iops=N]`.

use vmm::spec::{Cache, Drive, Engine};

use super::options::{expected, limits, per_second};

/// The value of `--root` or `--disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk(Drive);

impl Disk {
    /// Reads the value of the flag. The first comma ends the path.
    ///
    /// # Errors
    /// A sentence that names the option that was not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut options = text.split(',');
        let mut drive = Drive {
            drive_id: String::new(),
            is_root_device: false,
            partuuid: None,
            cache_type: Cache::Writeback,
            is_read_only: false,
            path_on_host: options.next().unwrap_or_default().to_owned(),
            io_engine: Engine::Sync,
            rate_limiter: None,
            serial: None,
            socket: None,
        };
        if drive.path_on_host.is_empty() {
            return Err("no path was given: name a disk image or block device first".to_owned());
        }
        options.try_for_each(|option| set(&mut drive, option))?;
        Ok(Self(drive))
    }

    /// The drive as the root device.
    pub(crate) fn into_root(self) -> Drive {
        let mut drive = self.into_drive("rootfs");
        drive.is_root_device = true;
        drive
    }

    /// The drive under the id it was given, or else `id`.
    pub(crate) fn into_drive(self, id: &str) -> Drive {
        let mut drive = self.0;
        if drive.drive_id.is_empty() {
            id.clone_into(&mut drive.drive_id);
        }
        drive
    }
}

/// The disk of a container image: known to the agent by its serial, which is its id.
pub(crate) fn of_image(path: &std::path::Path) -> Drive {
    let disk = Disk::parse("image,ro").expect("a path and an option");
    Drive {
        path_on_host: path.to_string_lossy().into_owned(),
        ..disk.into_drive("rootfs")
    }
}

fn set(drive: &mut Drive, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    match (name, value) {
        ("ro", "") => drive.is_read_only = true,
        ("rw", "") => drive.is_read_only = false,
        ("id", id) => id.clone_into(&mut drive.drive_id),
        ("serial", serial) => drive.serial = Some(serial.to_owned()),
        ("engine", "sync") => drive.io_engine = Engine::Sync,
        ("engine", "uring") => drive.io_engine = Engine::Uring,
        ("engine", other) => return Err(expected("engine", other, "sync or uring")),
        ("cache", "unsafe") => drive.cache_type = Cache::Unsafe,
        ("cache", "writeback") => drive.cache_type = Cache::Writeback,
        ("cache", other) => return Err(expected("cache", other, "unsafe or writeback")),
        ("bw", value) => limits(&mut drive.rate_limiter).bandwidth = Some(per_second(value)?),
        ("iops", value) => limits(&mut drive.rate_limiter).ops = Some(per_second(value)?),
        _ => {
            return Err(format!(
                "`{option}` was given and one of ro, id=, serial=, engine=, cache=, bw=, iops= was expected"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_understood() {
        let text = "a.img,ro,id=data,serial=S1,engine=uring,cache=writeback,bw=10M,iops=500";
        let drive = Disk::parse(text).unwrap().into_drive("disk1");
        assert_eq!(drive.path_on_host, "a.img");
        assert_eq!(
            (drive.is_read_only, drive.drive_id.as_str()),
            (true, "data")
        );
        assert_eq!(
            (drive.io_engine, drive.cache_type),
            (Engine::Uring, Cache::Writeback)
        );
        assert_eq!(drive.serial.as_deref(), Some("S1"));
        let limiter = drive.rate_limiter.unwrap();
        assert_eq!(limiter.bandwidth.unwrap().size, 10 << 20);
        assert_eq!(limiter.ops.unwrap().size, 500);
    }

    #[test]
    fn a_root_is_the_root_device_and_writable() {
        let drive = Disk::parse("root.ext4").unwrap().into_root();
        assert!(drive.is_root_device && !drive.is_read_only);
        assert_eq!(drive.drive_id, "rootfs");
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert!(Disk::parse("a.img,fast").unwrap_err().contains("`fast`"));
        assert!(
            Disk::parse("a.img,engine=aio")
                .unwrap_err()
                .contains("sync or uring")
        );
        assert!(Disk::parse("").unwrap_err().contains("no path"));
        assert!(
            Disk::parse("a.img,iops=0")
                .unwrap_err()
                .contains("would stop")
        );
    }
}
