//! Disks: what is written is there, what may not be written is not, and a full host is no reason to end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::guest::Guest;
use crate::kit;

crate::tests!(
    STOCK => [
        a_stock_guest_mounts_an_ext4_root_for_writing,
    ],
    TRIMMED => [
        what_was_written_and_flushed_is_there_after_a_reboot,
        what_was_written_through_io_uring_is_there_after_a_reboot,
        what_was_written_before_power_off_is_there_afterwards,
        two_disks_have_the_serials_they_were_given,
        two_disks_do_not_share_a_byte,
        a_disk_without_a_serial_has_its_id_as_one,
        a_read_only_root_is_mounted_read_only,
        a_read_only_disk_refuses_writes,
        discarded_blocks_take_no_space_on_the_host,
        a_full_host_is_an_error_in_the_guest_and_nothing_more,
        a_full_host_is_an_error_through_io_uring_too,
    ],
);

const MIB: u64 = 1 << 20;

/// A folder with disk images that vanishes with it.
struct Disks(TempDir);

impl Disks {
    fn new() -> Self {
        // Not /tmp, which may lie in memory: a file there is served without io_uring.
        Self(tempfile::tempdir_in("/var/tmp").unwrap())
    }

    /// A copy of the kit's root image.
    fn root(&self) -> PathBuf {
        let copy = self.0.path().join("root.ext4");
        let status = Command::new("cp")
            .arg("--sparse=always")
            .args([&kit::file("root.ext4"), &copy])
            .status();
        assert!(status.unwrap().success());
        copy
    }

    /// An image of zeroes.
    fn empty(&self, name: &str, mib: u64) -> PathBuf {
        let path = self.0.path().join(name);
        File::create(&path).unwrap().set_len(mib * MIB).unwrap();
        path
    }

    /// An image of ones, every block of which takes space.
    fn full(&self, name: &str, mib: usize) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, vec![0xff; mib << 20]).unwrap();
        path
    }
}

/// The trimmed kernel, which mounts this root by itself.
fn rooted(root: &Path, options: &str) -> Guest {
    Guest::new()
        .kernel("vmlinux-trimmed")
        .flag("--root", with(root, options))
}

fn with(path: &Path, options: &str) -> String {
    format!("{}{options}", path.display())
}

fn a_stock_guest_mounts_an_ext4_root_for_writing() {
    let disks = Disks::new();
    let root = disks.root();
    let guest = || Guest::stock().flag("--root", &root);
    guest()
        .script("grep -w /dev/vda /proc/mounts && echo hello > /greeting")
        .run()
        .said(" ext4 rw,")
        .status(0);
    let outcome = guest().script("echo greeting=$(cat /greeting)").run();
    assert_eq!(outcome.status(0).value("greeting"), "hello", "{outcome}");
}

fn what_was_written_and_flushed_is_there_after_a_reboot() {
    survives_a_reboot(",engine=sync");
}

fn what_was_written_through_io_uring_is_there_after_a_reboot() {
    survives_a_reboot(",engine=uring");
}

/// Asserts that a file is the same after a guest has written and flushed it, reset itself, and was booted again.
fn survives_a_reboot(options: &str) {
    let disks = Disks::new();
    let root = disks.root();
    let write = "dd if=/dev/urandom of=/data bs=1M count=200 && echo size=$(stat -c %s /data) && echo sum=$(md5sum < /data) && sync && reboot -f";
    let outcome = rooted(&root, options).script(write).run();
    let written = outcome.status(120).value("sum");
    assert_eq!(outcome.number("size"), 200 * MIB, "{outcome}");
    let again = rooted(&root, options)
        .script("echo sum=$(md5sum < /data)")
        .run();
    assert_eq!(again.status(0).value("sum"), written, "{again}");
}

fn what_was_written_before_power_off_is_there_afterwards() {
    let disks = Disks::new();
    let root = disks.root();
    rooted(&root, "")
        .script("echo unsynced > /note")
        .run()
        .status(0);
    let outcome = rooted(&root, ",ro").script("echo note=$(cat /note)").run();
    assert_eq!(outcome.status(0).value("note"), "unsynced", "{outcome}");
    // Nothing is left for a journal to replay.
    let check = Command::new("/sbin/e2fsck").arg("-fn").arg(&root).output();
    if let Ok(check) = check {
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
    }
}

fn two_disks_have_the_serials_they_were_given() {
    let disks = Disks::new();
    let (one, two) = (disks.empty("one", 8), disks.empty("two", 16));
    let guest = Guest::trimmed()
        .flag("--disk", with(&one, ",serial=ALPHA"))
        .flag("--disk", with(&two, ",serial=BETA"));
    let outcome = guest.script("for disk in vda vdb; do echo $disk=$(cat /sys/block/$disk/serial /sys/block/$disk/size); done");
    let outcome = outcome.run();
    assert_eq!(
        outcome.status(0).value("vda").replace("ALPHA", "ALPHA "),
        "ALPHA 16384",
        "{outcome}"
    );
    assert_eq!(
        outcome.value("vdb").replace("BETA", "BETA "),
        "BETA 32768",
        "{outcome}"
    );
}

fn two_disks_do_not_share_a_byte() {
    let disks = Disks::new();
    let (one, two) = (disks.empty("one", 8), disks.empty("two", 8));
    let guest = Guest::trimmed()
        .flag("--disk", with(&one, ""))
        .flag("--disk", with(&two, ",engine=uring"));
    let script =
        "yes one | head -c 8388608 > /dev/vda & yes two | head -c 8388608 > /dev/vdb & wait; sync";
    guest.script(script).run().status(0);
    assert!(
        fs::read(&one)
            .unwrap()
            .chunks(4)
            .all(|piece| piece == b"one\n")
    );
    assert!(
        fs::read(&two)
            .unwrap()
            .chunks(4)
            .all(|piece| piece == b"two\n")
    );
}

fn a_disk_without_a_serial_has_its_id_as_one() {
    let disks = Disks::new();
    let guest = Guest::trimmed().flag("--disk", with(&disks.empty("one", 8), ",id=archive"));
    let outcome = guest
        .script("echo serial=$(cat /sys/block/vda/serial)")
        .run();
    assert_eq!(outcome.status(0).value("serial"), "archive", "{outcome}");
}

fn a_read_only_root_is_mounted_read_only() {
    let guest = rooted(&kit::file("root.ext4"), ",ro");
    guest
        .script("grep /dev/root /proc/mounts; echo x > /x || exit 3")
        .run()
        .said(" ext4 ro,")
        .status(3);
}

fn a_read_only_disk_refuses_writes() {
    let disks = Disks::new();
    let image = disks.empty("one", 8);
    let guest = Guest::trimmed().flag("--disk", with(&image, ",ro"));
    let outcome = guest.script("echo ro=$(cat /sys/block/vda/ro); dd if=/dev/urandom of=/dev/vda bs=1M count=1 || exit 3").run();
    assert_eq!(outcome.status(3).number("ro"), 1, "{outcome}");
    assert!(fs::read(&image).unwrap().iter().all(|byte| *byte == 0));
}

fn discarded_blocks_take_no_space_on_the_host() {
    let disks = Disks::new();
    let image = disks.full("one", 16);
    let before = fs::metadata(&image).unwrap().blocks();
    Guest::trimmed()
        .flag("--disk", with(&image, ""))
        .script("blkdiscard /dev/vda")
        .run()
        .status(0);
    let after = fs::metadata(&image).unwrap();
    assert_eq!(after.len(), 16 * MIB);
    assert!(
        after.blocks() < before / 4,
        "{} blocks of 512 bytes of {before} are left",
        after.blocks()
    );
}

fn a_full_host_is_an_error_in_the_guest_and_nothing_more() {
    // Of a user's own: in memory, in a user namespace.
    let mount = "mount -t tmpfs -o size=24m tmpfs \"$0\"";
    outlives_a_full_host(
        &["unshare", "--mount", "--map-root-user"],
        mount,
        ",engine=sync",
    );
}

fn a_full_host_is_an_error_through_io_uring_too() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        eprintln!("guests: SKIPPED a full host through io_uring: it takes root and a loop device");
        return;
    }
    // A file system in memory would be served without io_uring.
    let mount = "truncate -s 24M \"$0.ext4\" && mkfs.ext4 -q -O ^has_journal \"$0.ext4\" && \
                 mount -o loop \"$0.ext4\" \"$0\"";
    outlives_a_full_host(&["unshare", "--mount"], mount, ",engine=uring");
}

/// Asserts that a guest that fills the host's disk sees an error, and can go on reading what it has written. `mount`
/// mounts a file system of 24 MiB on the folder `$0`, in the name space that `alone` makes: nothing of it is left behind.
fn outlives_a_full_host(alone: &[&str], mount: &str, options: &str) {
    let disks = Disks::new();
    let folder = disks.0.path().join("full");
    fs::create_dir(&folder).unwrap();
    let prepare = format!("{mount} && truncate -s 64M \"$0/disk\" && exec \"$@\"");
    let script = "head -c 8388608 /dev/urandom > /tmp/head; \
                  dd if=/tmp/head of=/dev/vda bs=1M conv=fsync && echo the head is written; \
                  dd if=/dev/urandom of=/dev/vda bs=1M seek=8 count=56 conv=fsync || echo the rest does not fit; \
                  echo 3 > /proc/sys/vm/drop_caches; \
                  dd if=/dev/vda bs=1M count=8 | cmp - /tmp/head && exit 5";
    let words = [alone, &["sh", "-c", &prepare]].concat();
    let mut words: Vec<&OsStr> = words.into_iter().map(OsStr::new).collect();
    words.push(folder.as_os_str());
    let guest = Guest::trimmed().wrapped(&words);
    let outcome = guest
        .flag("--disk", with(&folder.join("disk"), options))
        .script(script)
        .run();
    outcome
        .said("the head is written")
        .said("Input/output error")
        .said("the rest does not fit")
        .status(5);
}
