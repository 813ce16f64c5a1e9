//! Whether what a VM has its disks in is encrypted: from a file to its file system's device, and through the
//! layers below it (LVM, RAID, loop devices) to dm-crypt.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use super::read;
use super::report::Finding;

/// More layers than anybody stacks: where the walk ends.
const DEEPEST: usize = 16;

/// What was found below one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// Everything on the way down passes through dm-crypt.
    Encrypted,
    /// Some of it reaches a device that is not encrypted as far as this host sees.
    Plain,
    /// The file system has no block device of its own (tmpfs, overlay, btrfs, a network), or sysfs is silent.
    Unknown,
}

/// Looks below each of `files`, with the directory of block devices by number (`/sys/dev/block`).
pub(super) fn look(devices: &Path, files: &[PathBuf]) -> Finding {
    let covers: Vec<_> = files
        .iter()
        .map(|path| {
            let number = device(path);
            let cover = number.map_or(Cover::Unknown, |number| below(devices, number, DEEPEST));
            (path.display().to_string(), cover)
        })
        .collect();
    finding(&covers)
}

/// The number of the device below a file, or of the device itself.
fn device(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    match found.file_type().is_block_device() {
        true => Ok(found.rdev()),
        false => Ok(found.dev()),
    }
}

fn below(devices: &Path, number: u64, depth: usize) -> Cover {
    let Some(depth) = depth.checked_sub(1) else {
        return Cover::Unknown;
    };
    let place = devices.join(format!("{}:{}", major(number), minor(number)));
    let Ok(place) = fs::canonicalize(place) else {
        return Cover::Unknown;
    };
    if read::text(place.join("dm/uuid")).is_ok_and(|uuid| uuid.starts_with("CRYPT-")) {
        return Cover::Encrypted;
    }
    if let Ok(file) = read::text(place.join("loop/backing_file")) {
        let number = device(Path::new(&file));
        return number.map_or(Cover::Unknown, |number| below(devices, number, depth));
    }
    // A partition has its disk's layers.
    let disk = match place.join("partition").exists() {
        true => place.parent().unwrap_or(&place),
        false => &place,
    };
    let Ok(layers) = read::names(disk.join("slaves")) else {
        return Cover::Unknown;
    };
    let covers = layers.iter().map(|layer| {
        let number = read::text(disk.join("slaves").join(layer).join("dev"));
        match number.as_deref().ok().and_then(numbered) {
            Some(number) => below(devices, number, depth),
            None => Cover::Unknown,
        }
    });
    weakest(covers)
}

/// A device's number in a file `dev` of sysfs: `253:0`.
fn numbered(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(rustix::fs::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    ))
}

/// The cover of a device with these below it; one without any is the disk itself.
fn weakest(covers: impl Iterator<Item = Cover>) -> Cover {
    let covers: Vec<_> = covers.collect();
    if covers.is_empty() || covers.contains(&Cover::Plain) {
        Cover::Plain
    } else if covers.contains(&Cover::Unknown) {
        Cover::Unknown
    } else {
        Cover::Encrypted
    }
}

fn finding(covers: &[(String, Cover)]) -> Finding {
    let advice = "keep disk images on a volume of dm-crypt (cryptsetup luksFormat)";
    let with = |cover| {
        let named: Vec<_> = covers
            .iter()
            .filter(|(_, found)| *found == cover)
            .map(|(path, _)| path.as_str())
            .collect();
        named.join(", ")
    };
    let (plain, unknown) = (with(Cover::Plain), with(Cover::Unknown));
    if covers.is_empty() {
        Finding::unknown("no VM's disks were looked at", "name a VM that has disks")
    } else if !plain.is_empty() {
        Finding::warning(format!("no dm-crypt below {plain}"), advice)
    } else if !unknown.is_empty() {
        Finding::unknown(
            format!("the device below {unknown} is not known to this host"),
            advice,
        )
    } else {
        Finding::ok(format!("dm-crypt below {}", with(Cover::Encrypted)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::makedev;

    use super::super::report::Level;
    use super::*;

    /// A directory like sysfs: `block/NAME` and `dev/MAJ:MIN`, which leads to it.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            let sys = Self(tempfile::tempdir().unwrap());
            fs::create_dir(sys.devices()).unwrap();
            sys
        }

        fn devices(&self) -> PathBuf {
            self.0.path().join("dev")
        }

        /// A device with layers below it.
        fn add(&self, name: &str, minor: u32, below: &[&str]) -> PathBuf {
            let place = self.0.path().join("block").join(name);
            fs::create_dir_all(place.join("slaves")).unwrap();
            fs::write(place.join("dev"), format!("8:{minor}\n")).unwrap();
            for layer in below {
                let layer_place = place.parent().unwrap().join(layer);
                symlink(layer_place, place.join("slaves").join(layer)).unwrap();
            }
            symlink(&place, self.devices().join(format!("8:{minor}"))).unwrap();
            place
        }

        fn crypt(&self, name: &str, minor: u32, below: &[&str]) {
            let dm = self.add(name, minor, below).join("dm");
            fs::create_dir(&dm).unwrap();
            fs::write(dm.join("uuid"), "CRYPT-LUKS2-0123-root\n").unwrap();
        }

        fn below(&self, minor: u32) -> Cover {
            below(&self.devices(), makedev(8, minor), DEEPEST)
        }
    }

    #[test]
    fn lvm_on_dm_crypt_is_encrypted_and_the_disk_below_is_not() {
        let sys = Sys::new();
        sys.add("sda", 0, &[]);
        sys.crypt("dm-0", 1, &["sda"]);
        sys.add("dm-1", 2, &["dm-0"]);
        assert_eq!(sys.below(2), Cover::Encrypted);
        assert_eq!(sys.below(0), Cover::Plain);
        assert_eq!(sys.below(9), Cover::Unknown);
    }

    #[test]
    fn one_plain_half_of_a_mirror_is_plain() {
        let sys = Sys::new();
        sys.add("sda", 0, &[]);
        sys.crypt("dm-0", 1, &["sda"]);
        sys.add("sdb", 2, &[]);
        sys.add("md0", 3, &["dm-0", "sdb"]);
        assert_eq!(sys.below(3), Cover::Plain);
    }

    #[test]
    fn a_partition_has_its_disks_layers() {
        let sys = Sys::new();
        let disk = sys.add("sda", 0, &[]);
        let partition = disk.join("sda1");
        fs::create_dir(&partition).unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        symlink(&partition, sys.devices().join("8:1")).unwrap();
        assert_eq!(sys.below(1), Cover::Plain);
    }

    #[test]
    fn layers_in_a_circle_end() {
        let sys = Sys::new();
        sys.add("dm-0", 0, &["dm-1"]);
        sys.add("dm-1", 1, &["dm-0"]);
        assert_eq!(sys.below(0), Cover::Unknown);
    }

    #[test]
    fn nothing_looked_at_is_not_green() {
        let found = |cover| finding(&[("/a".to_owned(), cover)]).level;
        assert_eq!(finding(&[]).level, Level::Unknown);
        assert_eq!(found(Cover::Encrypted), Level::Ok);
        assert_eq!(found(Cover::Plain), Level::Warning);
        assert_eq!(found(Cover::Unknown), Level::Unknown);
    }
}
