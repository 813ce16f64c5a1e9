//! How fast a directory, or an archive of an image, becomes a disk: `cargo run --release -p image --example convert PATH`.
//! The disk is made in a cache in the directory `TMPDIR`, and removed; what is read should be in memory already.
#![expect(
    clippy::unwrap_used,
    reason = "a measurement ends where it cannot go on"
)]

use std::path::Path;
use std::time::Instant;

use image::cache::Cache;
use image::manifest::Image;
use image::source;

fn main() {
    let path = std::env::args()
        .nth(1)
        .expect("the path of a directory or of an archive");
    let path = Path::new(&path);
    let room = tempfile::tempdir().unwrap();
    let cache = Cache::open(room.path(), u64::MAX).unwrap();
    let start = Instant::now();
    let is_layout = path.join("index.json").exists();
    let disk = match path.is_dir() && !is_layout {
        true => cache.directory("measured", path).unwrap(),
        false => {
            let source = source::open(path, room.path(), u64::MAX).unwrap();
            let image = Image::find(&*source, None, &cache.limits).unwrap();
            cache.image(&image, &*source, &mut |_| {}).unwrap()
        }
    };
    let taken = start.elapsed().as_secs_f64();
    let mb = disk.file.metadata().unwrap().len() as f64 / 1e6;
    println!("{mb:.0} MB in {taken:.3} s: {:.0} MB/s", mb / taken);
}
