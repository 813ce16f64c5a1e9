//! Whole images, made here: in each form, and with each lie.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::source;
use crate::tests::Archive;

/// A layout that is being made.
struct Layout {
    folder: tempfile::TempDir,
    manifest: Value,
    config: Value,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn descriptor(bytes: &[u8]) -> Value {
    json!({"mediaType": "x", "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

fn layers() -> Vec<Vec<u8>> {
    let lower = Archive::new()
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        .file("a", &[7; 10_000]);
    let upper = Archive::new().file(".wh.a", b"").file("b", b"b");
    vec![lower.bytes(), upper.bytes()]
}

impl Layout {
    /// Of layers, each packed by `pack`.
    fn new(layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        let digests: Vec<_> = layers
            .iter()
            .map(|layer| Digest::of(layer).to_string())
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/b"]},
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let layout = Self {
            folder,
            manifest: json!({"schemaVersion": 2, "layers": []}),
            config,
        };
        layout.with_layers(layers, pack)
    }

    fn with_layers(mut self, layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Self {
        let packed: Vec<_> = layers.iter().map(|layer| self.blob(&pack(layer))).collect();
        self.manifest["layers"] = packed.into();
        self
    }

    fn blob(&self, bytes: &[u8]) -> Value {
        fs::write(self.blob_path(Digest::of(bytes)), bytes).unwrap();
        descriptor(bytes)
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.folder.path().join("blobs/sha256").join(digest.hex())
    }

    fn json(&self, value: &Value) -> Value {
        self.blob(value.to_string().as_bytes())
    }

    /// Writes configuration and manifest; the manifest's descriptor.
    fn write_manifest(&mut self) -> Value {
        self.manifest["config"] = self.json(&self.config);
        self.json(&self.manifest)
    }

    fn write_index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
    }

    fn write(mut self) -> Self {
        let manifest = self.write_manifest();
        self.write_index(&[manifest]);
        self
    }

    fn archive(&self) -> Vec<u8> {
        let mut archive = Archive::new().file(
            "index.json",
            &fs::read(self.folder.path().join("index.json")).unwrap(),
        );
        for entry in fs::read_dir(self.folder.path().join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let name = format!(
                "blobs/sha256/{}",
                path.file_name().unwrap().to_str().unwrap()
            );
            archive = archive.file(&name, &fs::read(path).unwrap());
        }
        archive.bytes()
    }

    fn take(&self) -> Result<Tree, String> {
        taken(self.folder.path(), None, Limits::default())
    }

    fn refused(&self) -> String {
        self.take().unwrap_err()
    }
}

/// All causes in one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn taken(path: &std::path::Path, name: Option<&str>, limits: Limits) -> Result<Tree, String> {
    let file = || tempfile::tempfile().unwrap();
    let mut store = Store::new(file(), file()).unwrap();
    let source = source::open(path, &std::env::temp_dir(), limits.bytes)
        .map_err(|error| sentence(&error))?;
    let image = Image::find(&*source, name, &limits).map_err(|error| sentence(&error))?;
    let tree = image.build(&*source, &mut store, &limits, &mut |_| {});
    tree.map_err(|error| sentence(&error))
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

fn docker(layers: &[Vec<u8>], tags: &[&[&str]]) -> Archive {
    let digests: Vec<_> = layers
        .iter()
        .map(|layer| Digest::of(layer).to_string())
        .collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}});
    let config = config.to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let paths: Vec<_> = (0..layers.len())
        .map(|index| format!("{index}/layer.tar"))
        .collect();
    let saved: Vec<_> = tags
        .iter()
        .map(|tags| json!({"Config": name, "RepoTags": tags, "Layers": paths}))
        .collect();
    let mut archive = Archive::new().file(&name, config.as_bytes());
    for (path, layer) in paths.iter().zip(layers) {
        archive = archive.file(path, layer);
    }
    archive.file("manifest.json", Value::from(saved).to_string().as_bytes())
}

fn has(tree: &Tree, path: &str) -> bool {
    tree.find(path.as_bytes()).unwrap().is_some()
}

#[test]
fn every_compression_gives_the_same_tree() {
    for pack in [<[u8]>::to_vec, gzip, zstd] {
        let tree = Layout::new(&layers(), pack).write().take().unwrap();
        assert!(has(&tree, "b") && has(&tree, "etc/passwd") && !has(&tree, "a"));
    }
}

#[test]
fn every_form_gives_the_same_disk() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), u64::MAX).unwrap();
    let layout = Layout::new(&layers(), gzip).write();
    let oci = written(&layout.archive());
    let whole = written(&gzip(&layout.archive()));
    let docker = written(&docker(&layers(), &[&["app:1"]]).bytes());
    let chains = [
        layout.folder.path(),
        oci.path(),
        whole.path(),
        docker.path(),
    ]
    .map(|path| {
        let source = source::open(path, folder.path(), 1 << 30).unwrap();
        let image = Image::find(&*source, None, &cache.limits).unwrap();
        image
            .build(
                &*source,
                &mut Store::new(tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap())
                    .unwrap(),
                &cache.limits,
                &mut |_| {},
            )
            .unwrap();
        image.chain()
    });
    assert!(chains.iter().all(|chain| *chain == chains[0]));
}

#[test]
fn a_layer_other_than_announced_is_refused() {
    let layout = Layout::new(&layers(), gzip).write();
    let digest = layout.manifest["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    fs::write(
        layout.blob_path(digest),
        gzip(&Archive::new().file("evil", b"").bytes()),
    )
    .unwrap();
    let sentence = layout.refused();
    assert!(
        sentence.contains("layer 1 of 2") && sentence.contains("announced"),
        "{sentence}"
    );
}

#[test]
fn a_layer_of_another_size_is_refused() {
    let mut layout = Layout::new(&layers(), gzip);
    layout.manifest["layers"][1]["size"] = 5.into();
    assert!(
        layout
            .write()
            .refused()
            .contains("announced with 5 bytes and has more")
    );
}

#[test]
fn a_layer_that_unpacks_to_something_else_is_refused() {
    let mut layout = Layout::new(&layers(), gzip);
    layout.config["rootfs"]["diff_ids"][0] = Digest::of(b"else").to_string().into();
    assert!(layout.write().refused().contains("was announced"));
}

#[test]
fn a_layer_cut_short_is_refused() {
    let layout = Layout::new(&layers(), gzip).write();
    let digest = layout.manifest["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let bytes = fs::read(layout.blob_path(digest)).unwrap();
    fs::write(layout.blob_path(digest), &bytes[..bytes.len() / 2]).unwrap();
    assert!(layout.refused().contains("announced"));
}

#[test]
fn a_configuration_or_manifest_other_than_announced_is_refused() {
    for part in ["config", "manifest"] {
        let mut layout = Layout::new(&layers(), gzip);
        let manifest = layout.write_manifest();
        layout.write_index(std::slice::from_ref(&manifest));
        let descriptor = if part == "config" {
            &layout.manifest["config"]
        } else {
            &manifest
        };
        let path = layout.blob_path(descriptor["digest"].as_str().unwrap().parse().unwrap());
        let changed = fs::read_to_string(&path).unwrap() + " ";
        fs::write(path, changed).unwrap();
        assert!(layout.refused().contains("announced"), "{part}");
    }
}

#[test]
fn a_digest_that_is_a_path_is_refused() {
    let mut layout = Layout::new(&layers(), gzip);
    layout.manifest["layers"][0]["digest"] = "sha256:../../../etc/passwd".into();
    assert!(layout.write().refused().contains("is no digest"));
}

#[test]
fn a_part_that_is_a_link_to_the_host_is_refused() {
    let layout = Layout::new(&layers(), gzip).write();
    let path = layout.blob_path(
        layout.manifest["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
    );
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(layout.refused().contains("cannot be read"));
}

#[test]
fn a_bomb_is_refused_at_its_limit() {
    let zeros = vec![0; 32 << 20];
    let bomb = Archive::new().file("zeros", &zeros).bytes();
    for pack in [gzip, zstd] {
        let layout = Layout::new(std::slice::from_ref(&bomb), pack).write();
        let limits = Limits {
            bytes: 1 << 20,
            ..Limits::default()
        };
        let sentence = taken(layout.folder.path(), None, limits).unwrap_err();
        assert!(sentence.contains("more bytes than are taken"), "{sentence}");
    }
}

#[test]
fn a_bomb_behind_the_end_of_a_layer_is_refused() {
    let mut layer = Archive::new().file("a", b"").bytes();
    layer.resize(8 << 20, 0);
    let layout = Layout::new(&[layer], gzip).write();
    let limits = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    assert!(
        taken(layout.folder.path(), None, limits)
            .unwrap_err()
            .contains("more bytes")
    );
}

#[test]
fn an_image_for_other_machines_is_refused() {
    let mut layout = Layout::new(&layers(), gzip);
    layout.config["architecture"] = "arm64".into();
    assert!(layout.write().refused().contains("linux/arm64"));
}

#[test]
fn an_index_gives_the_manifest_for_this_machine() {
    let mut layout = Layout::new(&layers(), gzip);
    let mut manifest = layout.write_manifest();
    manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut other = layout.blob(b"other");
    other["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let index = layout.json(&json!({"schemaVersion": 2, "manifests": [other, manifest]}));
    layout.write_index(&[index]);
    assert!(has(&layout.take().unwrap(), "b"));
}

#[test]
fn indexes_that_name_indexes_end() {
    let mut layout = Layout::new(&layers(), gzip);
    let mut named = layout.write_manifest();
    for _ in 0..6 {
        named = layout.json(&json!({"schemaVersion": 2, "manifests": [named]}));
    }
    layout.write_index(&[named]);
    assert!(layout.refused().contains("more than 4 deep"));
}

#[test]
fn one_of_several_images_is_chosen_by_name() {
    let mut layout = Layout::new(&layers(), gzip);
    let mut one = layout.write_manifest();
    let mut two = one.clone();
    one["annotations"] = json!({"org.opencontainers.image.ref.name": "one"});
    two["annotations"] = json!({"io.containerd.image.name": "registry.example/two:1"});
    layout.write_index(&[one, two]);
    let take = |name| taken(layout.folder.path(), name, Limits::default());
    assert!(
        take(None)
            .unwrap_err()
            .contains("one, registry.example/two:1")
    );
    assert!(
        take(Some("three"))
            .unwrap_err()
            .contains("no image \"three\"")
    );
    assert!(take(Some("one")).is_ok() && take(Some("registry.example/two:1")).is_ok());
}

#[test]
fn one_of_several_saved_images_is_chosen_by_name() {
    let archive = written(&docker(&layers(), &[&["one:1"], &["two:1", "two:2"]]).bytes());
    let take = |name| taken(archive.path(), name, Limits::default());
    assert!(take(None).unwrap_err().contains("one:1, two:1, two:2"));
    assert!(take(Some("two:2")).is_ok());
}

#[test]
fn links_between_layers_of_a_saved_image_are_followed_inside() {
    let mut layers = layers();
    layers.push(layers[0].clone());
    let archive = docker(&layers[..2], &[]);
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids":
        [Digest::of(&layers[0]).to_string(), Digest::of(&layers[0]).to_string()]}});
    let saved = json!([{"Config": "c.json", "Layers": ["0/layer.tar", "9/layer.tar"]}]);
    let link = |path, target| crate::tests::entry(path, tar::EntryType::Symlink).target(target);
    let good = archive
        .file("c.json", config.to_string().as_bytes())
        .file("manifest.json", saved.to_string().as_bytes())
        .with(link("9/layer.tar", "../0/layer.tar"));
    assert!(taken(written(&good.bytes()).path(), None, Limits::default()).is_ok());
    let circle = good.with(link("9/layer.tar", "../9/layer.tar"));
    let sentence = taken(written(&circle.bytes()).path(), None, Limits::default()).unwrap_err();
    assert!(sentence.contains("not there"), "{sentence}");
}

#[test]
fn documents_and_layers_have_limits() {
    let layout = Layout::new(&layers(), gzip).write();
    let take = |limits| taken(layout.folder.path(), None, limits).unwrap_err();
    assert!(
        take(Limits {
            document: 50,
            ..Limits::default()
        })
        .contains("more than 50 bytes")
    );
    assert!(
        take(Limits {
            layers: 1,
            ..Limits::default()
        })
        .contains("2 layers; at most 1")
    );
}

#[test]
fn a_manifest_with_fewer_layers_than_announced_is_refused() {
    let mut layout = Layout::new(&layers(), gzip);
    layout.manifest["layers"].as_array_mut().unwrap().pop();
    assert!(layout.write().refused().contains("has 1 layers"));
}

#[test]
fn what_is_no_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        taken(folder.path(), None, Limits::default())
            .unwrap_err()
            .contains("is no image")
    );
    let noise = written(&[0x55; 5000]);
    assert!(
        taken(noise.path(), None, Limits::default())
            .unwrap_err()
            .contains("cannot be read")
    );
    let nothing = taken(std::path::Path::new("/nowhere"), None, Limits::default());
    assert!(nothing.unwrap_err().contains("cannot be read"));
}

mod damage;
