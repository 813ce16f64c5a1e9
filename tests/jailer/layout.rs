//! What a jail leaves on disk.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Command;

use crate::kit::{GID, RAVELIN, UID, jailing};

#[test]
fn directories_and_devices_belong_to_the_user_alone() {
    jailing(|place| {
        let _vm = place.start("");
        for (path, mode) in [
            ("", 0o40700),
            ("dev", 0o40700),
            ("dev/net", 0o40700),
            ("run", 0o40700),
            ("dev/net/tun", 0o20600),
            ("dev/kvm", 0o20600),
            ("dev/urandom", 0o20600),
        ] {
            let found = fs::symlink_metadata(place.root().join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (UID, GID), "{path}");
            assert_eq!(found.mode(), mode, "{path}");
        }
        let above = fs::metadata(place.base().join("firecracker/web")).unwrap();
        assert_eq!(above.uid(), 0);
    });
}

#[test]
fn devices_have_their_numbers() {
    jailing(|place| {
        let _vm = place.start("");
        let number = |path: &str| {
            let found = fs::symlink_metadata(place.root().join(path)).ok()?;
            assert!(found.file_type().is_char_device(), "{path}");
            let device = found.rdev();
            Some((rustix::fs::major(device), rustix::fs::minor(device)))
        };
        assert_eq!(number("dev/net/tun"), Some((10, 200)));
        assert_eq!(number("dev/kvm"), Some((10, 232)));
        assert_eq!(number("dev/urandom"), Some((1, 9)));
        let misc = fs::read_to_string("/proc/misc").unwrap();
        let on_host = misc.lines().find_map(|line| {
            let (minor, name) = line.trim().split_once(' ')?;
            (name == "userfaultfd").then(|| (10, minor.parse().unwrap()))
        });
        assert_eq!(number("dev/userfaultfd"), on_host);
    });
}

#[test]
fn the_program_is_a_copy_of_the_users_and_nothing_else_is_there() {
    jailing(|place| {
        fs::set_permissions(place.firecracker(), fs::Permissions::from_mode(0o755)).unwrap();
        let _vm = place.start("");
        let copy = place.root().join("firecracker");
        let found = fs::metadata(&copy).unwrap();
        assert_eq!((found.uid(), found.gid()), (UID, GID));
        assert_eq!(found.mode() & 0o7777, 0o755);
        assert!(fs::read(&copy).unwrap() == fs::read(RAVELIN).unwrap());
        let names = fs::read_dir(place.root()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["dev", "firecracker", "firecracker.pid", "run"]);
    });
}

#[test]
fn a_longer_program_of_an_earlier_jail_leaves_no_tail() {
    jailing(|place| {
        fs::create_dir_all(place.root()).unwrap();
        let longer = fs::metadata(RAVELIN).unwrap().len() + 4096;
        let copy = fs::File::create(place.root().join("firecracker")).unwrap();
        copy.set_len(longer).unwrap();
        copy.set_permissions(fs::Permissions::from_mode(0o755))
            .unwrap();
        drop(copy);
        let _vm = place.start("");
        assert!(fs::read(place.root().join("firecracker")).unwrap() == fs::read(RAVELIN).unwrap());
    });
}

#[test]
fn a_jail_that_already_holds_mounts_keeps_them() {
    // As Kata prepares one: the root is a mount, what the guest is made of is mounted on files in it.
    jailing(|place| {
        let kernel = place.path().join("vmlinux");
        fs::write(&kernel, "kernel").unwrap();
        fs::create_dir_all(place.root()).unwrap();
        let mount = |from: &std::path::Path, to: &std::path::Path| {
            let done = Command::new("mount")
                .arg("--bind")
                .args([from, to])
                .status();
            assert!(done.unwrap().success());
        };
        mount(&place.root(), &place.root());
        let inside = place.root().join("kernel");
        fs::write(&inside, "").unwrap();
        mount(&kernel, &inside);
        let vm = place.start("");
        let mounts = vm.proc("mountinfo");
        let points: Vec<_> = mounts
            .lines()
            .map(|l| l.split(' ').nth(4).unwrap())
            .collect();
        assert!(points.contains(&"/kernel"), "{mounts}");
        let seen = fs::read_to_string(format!("/proc/{}/root/kernel", vm.pid())).unwrap();
        assert_eq!(seen, "kernel");
    });
}
