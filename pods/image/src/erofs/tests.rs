//! File systems, read back by the tools of others and by the kernel where it can be asked.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::limits::Limits;
use crate::store::Content;
use crate::tree::Meta;

struct Image {
    tree: Tree,
    store: Store,
}

impl Image {
    fn new() -> Self {
        let file = || tempfile::tempfile().unwrap();
        Self {
            tree: Tree::new(Limits::default()),
            store: Store::new(file(), file()).unwrap(),
        }
    }

    fn content(&mut self, byte: u8, size: u64) -> Content {
        self.store.take(&mut io::repeat(byte), size, true).unwrap()
    }

    fn file(&mut self, path: &str, byte: u8, size: u64) {
        let content = self.content(byte, size);
        self.put(path, Kind::File(content));
    }

    fn put(&mut self, path: &str, kind: Kind) {
        self.tree.put(path.as_bytes(), meta(0o644), kind).unwrap();
    }

    fn write(self) -> Vec<u8> {
        let mut disk = write(&self.tree, self.store, [7; 16]).unwrap();
        disk.seek(SeekFrom::Start(0)).unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut disk, &mut bytes).unwrap();
        bytes
    }

    /// The disk checked, and its files extracted by `fsck.erofs`. `None` where there is no such tool.
    fn extract(self) -> Option<(tempfile::TempDir, PathBuf)> {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, self.write()).unwrap();
        let root = folder.path().join("root");
        let run = Command::new("fsck.erofs")
            .arg(format!("--extract={}", root.display()))
            .arg(&disk)
            .output();
        let Ok(output) = run else {
            println!("skipped: there is no fsck.erofs here (package erofs-utils)");
            return None;
        };
        assert!(output.status.success(), "{output:?}");
        Some((folder, root))
    }
}

fn meta(mode: u16) -> Meta {
    Meta {
        mode,
        mtime: 1_000_000_000,
        mtime_nsec: 5,
        ..Meta::default()
    }
}

#[test]
fn an_empty_root_is_a_file_system() {
    let Some((_folder, root)) = Image::new().extract() else {
        return;
    };
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
}

#[test]
fn files_of_every_size_come_back() {
    let mut image = Image::new();
    let sizes = [
        0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 6145, 100_000, 1_048_576,
    ];
    for (index, size) in sizes.into_iter().enumerate() {
        image.file(
            &format!("d/{size}"),
            u8::try_from(index).unwrap() + 65,
            size,
        );
    }
    let Some((_folder, root)) = image.extract() else {
        return;
    };
    for (index, size) in sizes.into_iter().enumerate() {
        let bytes = std::fs::read(root.join(format!("d/{size}"))).unwrap();
        let wanted = vec![u8::try_from(index).unwrap() + 65; usize::try_from(size).unwrap()];
        assert!(bytes == wanted, "{size}");
    }
}

#[test]
fn directories_of_every_size_come_back() {
    let mut image = Image::new();
    for count in [1, 2, 100, 240, 250, 1000, 5000] {
        for number in 0..count {
            image.file(&format!("{count}/name-{number}"), 0, 0);
        }
    }
    let Some((_folder, root)) = image.extract() else {
        return;
    };
    for count in [1, 2, 100, 240, 250, 1000, 5000] {
        let found = std::fs::read_dir(root.join(count.to_string()))
            .unwrap()
            .count();
        assert_eq!(found, count);
    }
}

#[test]
fn names_that_sort_before_a_dot_come_back() {
    let mut image = Image::new();
    let names = [
        "!",
        "-",
        "-a",
        ".a",
        "..a",
        "a",
        "ä",
        "\u{1}",
        &"n".repeat(255),
    ];
    for name in names {
        image.file(name, 1, 10);
    }
    let Some((_folder, root)) = image.extract() else {
        return;
    };
    for name in names {
        assert_eq!(std::fs::read(root.join(name)).unwrap(), [1; 10], "{name:?}");
    }
}

#[test]
fn links_of_every_length_come_back() {
    let mut image = Image::new();
    for len in [1, 59, 4000, 4030, 4035, 4095] {
        image.put(&format!("l{len}"), Kind::Symlink(vec![b'x'; len].into()));
    }
    let Some((_folder, root)) = image.extract() else {
        return;
    };
    for len in [1, 59, 4000, 4030, 4035, 4095] {
        let target = std::fs::read_link(root.join(format!("l{len}"))).unwrap();
        assert_eq!(target.as_os_str().len(), len);
    }
}

#[test]
fn a_file_has_as_many_links_as_names() {
    let mut image = Image::new();
    image.file("a", 1, 5000);
    image.tree.link(b"d/b", b"a").unwrap();
    let dump = |bytes: &[u8]| {
        let disk = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(disk.path(), bytes).unwrap();
        let run = Command::new("dump.erofs")
            .args(["--path=/d/b"])
            .arg(disk.path())
            .output();
        run.ok()
            .map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Some(text) = dump(&image.write()) else {
        return;
    };
    assert!(text.contains("Links: 2"), "{text}");
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let make = || {
        let mut image = Image::new();
        image.file("b/c", 1, 5000);
        image.file("a", 2, 500);
        image.write()
    };
    assert!(make() == make());
}

#[test]
fn what_was_replaced_takes_no_room() {
    let mut image = Image::new();
    image.file("a", 1, 1 << 20);
    image.file("a", 2, 10);
    let disk = write(&image.tree, image.store, [7; 16]).unwrap();
    assert!(disk.metadata().unwrap().blocks() * 512 < 100_000);
}

/// Mounted by the kernel: what the tools do not show.
#[test]
fn the_kernel_reads_it() {
    let mut image = Image::new();
    image.file("plain", 1, 10_000);
    image.put("null", Kind::Fifo);
    image.put("dev/console", Kind::Character(5, 1));
    image.put("dev/far", Kind::Block(259, 1000));
    image.put("s", Kind::Socket);
    image.put("l", Kind::Symlink(b"plain".as_slice().into()));
    image.tree.link(b"hard", b"plain").unwrap();
    let content = image.content(9, 1500);
    let big: Box<[u8]> = vec![b'v'; 3000].into();
    let attributes = vec![
        (
            b"security.capability".as_slice().into(),
            [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
                .as_slice()
                .into(),
        ),
        (b"user.big".as_slice().into(), big),
    ];
    let rich = Meta {
        uid: 100_000,
        gid: 7,
        attributes,
        ..meta(0o4755)
    };
    image
        .tree
        .put(
            b"rich",
            rich,
            Kind::File(image.store.take(&mut io::repeat(3), 5000, false).unwrap()),
        )
        .unwrap();
    image.put("small", Kind::File(content));
    for number in 0..3000 {
        image.file(&format!("many/{number:05}"), 4, 30);
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::write(&disk, image.write()).unwrap();
    let at = folder.path().join("at");
    std::fs::create_dir(&at).unwrap();
    let Some(_mounted) = Mounted::new(&disk, &at) else {
        println!("skipped: this process may not mount, or the kernel has no EROFS");
        return;
    };
    let stat = |name: &str| std::fs::symlink_metadata(at.join(name)).unwrap();
    assert_eq!(std::fs::read(at.join("plain")).unwrap(), vec![1; 10_000]);
    assert_eq!(
        (stat("plain").nlink(), stat("hard").ino()),
        (2, stat("plain").ino())
    );
    assert_eq!(
        (stat("plain").mtime(), stat("plain").mtime_nsec()),
        (1_000_000_000, 5)
    );
    assert_eq!(
        (stat("rich").uid(), stat("rich").permissions().mode()),
        (100_000, 0o104_755)
    );
    assert_eq!(std::fs::read(at.join("rich")).unwrap(), vec![3; 5000]);
    assert_eq!(std::fs::read(at.join("small")).unwrap(), vec![9; 1500]);
    assert_eq!(stat("dev/console").rdev(), rustix::fs::makedev(5, 1));
    assert_eq!(stat("dev/far").rdev(), rustix::fs::makedev(259, 1000));
    assert!(stat("null").file_type().is_fifo() && stat("s").file_type().is_socket());
    assert_eq!(
        std::fs::read_link(at.join("l")).unwrap(),
        Path::new("plain")
    );
    assert_eq!((stat("many").nlink(), stat("").nlink()), (2, 4));
    let many: BTreeMap<_, _> = std::fs::read_dir(at.join("many"))
        .unwrap()
        .map(|entry| {
            (
                entry.as_ref().unwrap().file_name(),
                entry.unwrap().metadata().unwrap().len(),
            )
        })
        .collect();
    assert!(many.len() == 3000 && many.values().all(|len| *len == 30));
    let mut value = vec![0; 4096];
    let len = rustix::fs::getxattr(at.join("rich"), "user.big", &mut value[..]).unwrap();
    assert_eq!(value[..len], [b'v'; 3000]);
    let len = rustix::fs::getxattr(at.join("rich"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(len, 20);
}

struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(disk: &Path, at: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "erofs", "-o", "loop,ro"])
            .arg(disk)
            .arg(at);
        let output = mount.output().ok()?;
        if !output.status.success() {
            println!("{output:?}");
        }
        output.status.success().then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}
