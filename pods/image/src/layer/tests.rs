//! Layers made here, good ones and hostile ones.

use super::*;
use crate::tests::{Archive, entry};
use crate::tree::Attributes;

fn applied(layers: &[Archive], limits: Limits) -> Result<Tree, LayerError> {
    let file = || tempfile::tempfile().unwrap();
    let mut store = Store::new(file(), file()).unwrap();
    let mut tree = Tree::new(limits);
    for layer in layers {
        apply(&mut &layer.bytes()[..], &mut tree, &mut store, &limits)?;
    }
    Ok(tree)
}

fn refused(archive: Archive) -> String {
    refused_with(archive, Limits::default())
}

fn refused_with(archive: Archive, limits: Limits) -> String {
    applied(&[archive], limits).unwrap_err().to_string()
}

fn has(tree: &Tree, path: &str) -> bool {
    tree.find(path.as_bytes()).unwrap().is_some()
}

#[test]
fn files_links_and_owners_are_taken() {
    let layer = Archive::new()
        .file("bin/sh", b"shell")
        .with(entry("bin/ash", EntryType::Link).target("bin/sh"))
        .with(entry("sh", EntryType::Symlink).target("/bin/sh"))
        .with(entry("home", EntryType::Directory).owner(1000, 100_000));
    let tree = applied(&[layer], Limits::default()).unwrap();
    assert_eq!(
        tree.find(b"bin/sh").unwrap(),
        tree.find(b"bin/ash").unwrap()
    );
    assert_eq!(tree.open(b"sh"), tree.find(b"bin/sh").unwrap());
    let home = tree.find(b"home").unwrap().unwrap();
    assert_eq!(
        (tree.node(home).meta.uid, tree.node(home).meta.gid),
        (1000, 100_000)
    );
}

#[test]
fn whiteouts_take_away_what_is_below() {
    let lower = Archive::new()
        .file("a", b"")
        .file("d/x", b"")
        .file("d/y", b"");
    let upper = Archive::new()
        .file(".wh.a", b"")
        .file("d/new", b"")
        .file("d/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"");
    let tree = applied(&[lower, upper], Limits::default()).unwrap();
    assert!(!has(&tree, "a") && !has(&tree, "d/x") && has(&tree, "d/new"));
    assert!(!has(&tree, ".wh..wh.plnk"));
}

#[test]
fn a_whiteout_of_a_directory_itself_is_refused() {
    for path in ["d/.wh.", "d/.wh..", "d/.wh..."] {
        let layer = Archive::new().file("d/x", b"").file(path, b"");
        assert!(refused(layer).contains("no name"), "{path}");
    }
}

#[test]
fn a_long_name_and_attributes_come_from_records() {
    let long = "n/".repeat(200) + "end";
    let records = [
        ("path", long.as_bytes()),
        ("mtime", b"5.25"),
        ("SCHILY.xattr.user.a", b"\0\xff\n"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ];
    let layer = Archive::new().records(&records).file("short", b"x");
    let tree = applied(&[layer], Limits::default()).unwrap();
    let id = tree.find(long.as_bytes()).unwrap().unwrap();
    let meta = &tree.node(id).meta;
    assert_eq!((meta.mtime, meta.mtime_nsec), (5, 250_000_000));
    let wanted: Attributes = vec![(b"user.a".as_slice().into(), b"\0\xff\n".as_slice().into())];
    assert_eq!(meta.attributes, wanted);
}

#[test]
fn a_path_that_climbs_out_is_refused() {
    for path in ["../../etc/cron.d/x", "a/../../x"] {
        assert!(
            refused(Archive::new().file(path, b"")).contains("leads out"),
            "{path}"
        );
    }
    let records = [("path", b"../x".as_slice())];
    assert!(refused(Archive::new().records(&records).file("x", b"")).contains("leads out"));
}

#[test]
fn a_link_to_the_outside_stays_inside() {
    let layer = Archive::new()
        .with(entry("out", EntryType::Symlink).target("/"))
        .file("out/etc/passwd", b"root");
    let tree = applied(&[layer], Limits::default()).unwrap();
    assert!(has(&tree, "etc/passwd"));
    let layer = Archive::new()
        .with(entry("out", EntryType::Symlink).target("../../../tmp"))
        .file("out/x", b"");
    assert!(refused(layer).contains("no directory"));
}

#[test]
fn a_hard_link_to_the_outside_is_refused() {
    for target in ["/etc/shadow", "../../etc/shadow"] {
        let layer = Archive::new().with(entry("x", EntryType::Link).target(target));
        let sentence = refused(layer);
        assert!(
            sentence.contains("hard link") || sentence.contains("leads out"),
            "{sentence}"
        );
    }
}

#[test]
fn a_size_beyond_all_measure_is_refused() {
    let layer = Archive::new().with(entry("x", EntryType::Regular).size(1 << 62));
    assert!(refused(layer).contains("could not be taken"));
    let records = [("size", b"99999999999".as_slice())];
    assert!(refused(Archive::new().records(&records).file("x", b"")).contains("two sizes"));
}

#[test]
fn a_hundred_thousand_entries_are_refused_by_a_smaller_limit() {
    let mut layer = Archive::new();
    for number in 0..100_000 {
        layer = layer.with(entry(&format!("{number}"), EntryType::Fifo));
    }
    let limits = Limits {
        entries: 5000,
        ..Limits::default()
    };
    assert!(refused_with(layer, limits).contains("more than 5000 entries"));
}

#[test]
fn a_path_of_a_thousand_directories_is_refused() {
    let deep = "d/".repeat(1000);
    let layer = Archive::new()
        .records(&[("path", deep.as_bytes())])
        .with(entry("d", EntryType::Directory));
    assert!(refused(layer).contains("deeper than 256"));
}

#[test]
fn names_and_attributes_without_end_are_refused() {
    let long = vec![b'a'; 300 << 10];
    for key in ["path", "SCHILY.xattr.user.a"] {
        let layer = Archive::new().records(&[(key, &long)]).file("x", b"");
        assert!(refused(layer).contains("more than 256 KiB"), "{key}");
    }
    let layer = Archive::new()
        .records(&[("SCHILY.xattr.user.a", &long[..70_000])])
        .file("x", b"");
    assert!(refused(layer).contains("65536 bytes"));
}

#[test]
fn a_kind_that_no_layer_has_is_refused() {
    let layer = Archive::new().with(entry("x", EntryType::GNUSparse));
    assert!(refused(layer).contains("no layer has"));
}

#[test]
fn a_layer_that_ends_early_is_refused() {
    let bytes = Archive::new().file("a", &[1; 5000]).bytes();
    for len in [100, 600, 3000] {
        let file = || tempfile::tempfile().unwrap();
        let mut store = Store::new(file(), file()).unwrap();
        let limits = Limits::default();
        let applied = apply(
            &mut &bytes[..len],
            &mut Tree::new(limits),
            &mut store,
            &limits,
        );
        assert!(applied.is_err(), "{len}");
    }
}

#[test]
fn noise_is_no_layer() {
    let noise: Vec<u8> = (0..4096u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = || tempfile::tempfile().unwrap();
    let mut store = Store::new(file(), file()).unwrap();
    let limits = Limits::default();
    assert!(apply(&mut &noise[..], &mut Tree::new(limits), &mut store, &limits).is_err());
}
