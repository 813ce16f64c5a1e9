//! Layers and archives with bytes changed, by the thousand.

use super::*;

/// Numbers that are the same at every run.
fn noise(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap_or(0) % below
    }
}

#[test]
fn thousands_of_damaged_layers_are_refused_or_taken_and_nothing_else_happens() {
    let long = "n/".repeat(60) + "end";
    let records = [
        ("path", long.as_bytes()),
        ("SCHILY.xattr.user.a", b"value".as_slice()),
    ];
    let layer = Archive::new()
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        .with(crate::tests::entry("l", tar::EntryType::Symlink).target("etc"))
        .with(crate::tests::entry("h", tar::EntryType::Link).target("etc/passwd"))
        .records(&records)
        .file("x", &[7; 3000])
        .file("etc/.wh..wh..opq", b"")
        .bytes();
    let limits = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    for seed in 0..3000 {
        let mut below = noise(seed + 1);
        let packed = match seed % 3 {
            0 => layer.clone(),
            1 => gzip(&layer),
            _ => zstd(&layer),
        };
        let mut damaged = packed;
        for _ in 0..=below(8) {
            let at = below(damaged.len());
            damaged[at] = u8::try_from(below(256)).unwrap();
        }
        damaged.truncate(
            damaged.len()
                - if below(4) == 0 {
                    below(damaged.len())
                } else {
                    0
                },
        );
        let file = || tempfile::tempfile().unwrap();
        let mut store = Store::new(file(), file()).unwrap();
        let mut tree = Tree::new(limits);
        let mut left = limits.bytes;
        let Ok(reader) = unpack::reader(&damaged[..]) else {
            continue;
        };
        let mut reader = Bounded::new(reader, &mut left);
        // What was taken must also be written.
        if layer::apply(&mut reader, &mut tree, &mut store, &limits).is_ok() {
            crate::erofs::write(&tree, store, [0; 16]).unwrap();
        }
    }
}

#[test]
fn thousands_of_damaged_archives_are_refused_or_taken_and_nothing_else_happens() {
    let archive = Layout::new(&layers(), <[u8]>::to_vec).write().archive();
    let limits = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    let path = tempfile::NamedTempFile::new().unwrap();
    for seed in 0..1000 {
        let mut below = noise(seed + 1);
        let mut damaged = archive.clone();
        for _ in 0..=below(20) {
            let at = below(damaged.len());
            damaged[at] = u8::try_from(below(256)).unwrap();
        }
        fs::write(path.path(), &damaged).unwrap();
        // Whether it is taken depends on what was hit; that this returns is the test.
        let _ = taken(path.path(), None, limits);
    }
}
