//! Disks that are shared, held and removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::tree::{Kind, Meta};

fn cache(limit: u64) -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache"), limit).unwrap();
    (folder, cache)
}

fn filled(cache: &Cache, what: &str) -> Disk {
    let made = cache.disk(what, |store| {
        let content = store.take(&mut io::repeat(1), 100_000, true).unwrap();
        let mut tree = Tree::new(Limits::default());
        tree.put(b"file", Meta::default(), Kind::File(content))
            .unwrap();
        Ok::<_, CacheError>(tree)
    });
    made.unwrap()
}

fn left(cache: &Cache) -> usize {
    cache.list().unwrap().len()
}

#[test]
fn a_disk_is_made_once() {
    let (_folder, cache) = cache(u64::MAX);
    assert!(!filled(&cache, "a").was_there);
    assert!(filled(&cache, "a").was_there);
}

#[test]
fn many_that_start_at_once_share_one_disk() {
    let (_folder, cache) = cache(u64::MAX);
    let made = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (cache, made) = (cache.clone(), made.clone());
            std::thread::spawn(move || {
                cache
                    .disk("a", |_| {
                        made.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, CacheError>(Tree::new(Limits::default()))
                    })
                    .unwrap()
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| drop(thread.join().unwrap()));
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn what_fails_leaves_nothing() {
    let (_folder, cache) = cache(u64::MAX);
    let failed = cache.disk("a", |store| {
        store.take(&mut io::repeat(1), 100_000, true).unwrap();
        Err(CacheError::Write(io::ErrorKind::Other.into()))
    });
    assert!(failed.is_err());
    assert_eq!(left(&cache), 0);
    assert_eq!(
        fs::read_dir(cache.directory.join("making"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_full_cache_loses_the_disk_that_was_not_used_for_longest() {
    let (_folder, cache) = cache(250_000);
    for name in ["a", "b"] {
        let disk = filled(&cache, name);
        let past = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
        File::open(&disk.path).unwrap().set_modified(past).unwrap();
    }
    drop(filled(&cache, "a"));
    drop(filled(&cache, "c"));
    assert_eq!(left(&cache), 2);
    assert!(filled(&cache, "a").was_there);
}

#[test]
fn a_disk_that_somebody_has_stays() {
    let (_folder, cache) = cache(0);
    let held = filled(&cache, "a");
    drop(filled(&cache, "b"));
    cache.shrink().unwrap();
    let kept = cache.list().unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].is_held && kept[0].path == held.path);
    assert_eq!(cache.remove(&kept[0].id).unwrap(), Outcome::Held);
    drop(held);
    assert_eq!(cache.remove(&kept[0].id).unwrap(), Outcome::Removed);
    assert_eq!(cache.remove(&kept[0].id).unwrap(), Outcome::Missing);
}

#[test]
fn what_a_killed_maker_left_is_swept_away() {
    let (_folder, cache) = cache(u64::MAX);
    let left = cache.directory.join("making/0123.part");
    fs::write(&left, "half").unwrap();
    drop(filled(&cache, "a"));
    assert!(!left.exists());
}

#[test]
fn a_directory_is_read_once_for_a_key() {
    let (folder, cache) = cache(u64::MAX);
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "a").unwrap();
    assert!(!cache.directory("chain", &root).unwrap().was_there);
    fs::remove_dir_all(&root).unwrap();
    assert!(cache.directory("chain", &root).unwrap().was_there);
}
