//! Indexes and manifests (OCI image specification; Docker's have the same fields).

use std::collections::HashMap;

use serde::Deserialize;

use super::{Image, ImageError, Layer, checked, configuration};
use crate::digest::Digest;
use crate::limits::Limits;
use crate::source::{Part, Source};

/// Indexes that name indexes: builders make two.
const DEPTH: usize = 4;
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// An index or a manifest: told apart by what it has.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize, Clone)]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    os: String,
    architecture: String,
}

impl Descriptor {
    fn names(&self) -> impl Iterator<Item = &str> {
        let annotations = self.annotations.iter();
        annotations.flat_map(|all| NAMES.iter().filter_map(|key| Some(all.get(*key)?.as_str())))
    }

    fn is_for_us(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_none_or(|platform| platform.os == "linux" && platform.architecture == "amd64")
    }

    fn platform(&self) -> String {
        let platform = self.platform.as_ref();
        platform.map_or("?".into(), |platform| {
            format!("{}/{}", platform.os, platform.architecture)
        })
    }
}

/// The image of that name in a layout's index, or its only one.
pub(super) fn from_names(
    source: &dyn Source,
    bytes: &[u8],
    name: Option<&str>,
    limits: &Limits,
) -> Result<Image, ImageError> {
    let index = parse(bytes, "index.json")?;
    let all = index.manifests.unwrap_or_default();
    let others = || {
        let names: Vec<_> = all.iter().filter_map(|one| one.names().next()).collect();
        names.join(", ")
    };
    let for_us: Vec<_> = all.iter().filter(|one| one.is_for_us()).collect();
    let chosen = match (name, &for_us[..]) {
        (Some(name), some) => some
            .iter()
            .find(|one| one.names().any(|other| other == name))
            .copied(),
        (None, [one]) => Some(*one),
        (None, []) => return Err(ImageError::Platform(platforms(&all))),
        (None, _) => return Err(ImageError::Several(others())),
    };
    let unknown = || ImageError::Unknown {
        name: name.unwrap_or_default().to_owned(),
        others: others(),
    };
    let chosen = chosen.ok_or_else(unknown)?;
    let digest: Digest = chosen.digest.parse()?;
    let bytes = named(source, chosen, limits)?;
    let image = from_document(source, digest, &bytes, limits)?;
    Ok(Image {
        name: chosen.names().next().map(str::to_owned),
        ..image
    })
}

/// The image of a manifest, or of an index's manifest for this machine.
pub(super) fn from_document(
    source: &dyn Source,
    digest: Digest,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Image, ImageError> {
    checked(bytes, digest)?;
    let mut document = parse(bytes, &digest.to_string())?;
    let mut depth = 0;
    while let Some(manifests) = document.manifests.take() {
        depth += 1;
        if depth > DEPTH {
            return Err(ImageError::Nested(DEPTH));
        }
        let ours = manifests.iter().find(|one| one.is_for_us());
        let ours = ours.ok_or_else(|| ImageError::Platform(platforms(&manifests)))?;
        document = parse(&named(source, ours, limits)?, &ours.digest)?;
    }
    let config = document
        .config
        .ok_or_else(|| ImageError::Neither(digest.to_string()))?;
    let (config, unpacked) = configuration(&blob(source, &config, limits)?)?;
    let layers = document.layers.unwrap_or_default();
    let layers = layers.iter().map(|layer| {
        let digest = layer.digest.parse()?;
        Ok::<_, ImageError>(Layer {
            part: Part::Blob(digest),
            packed: Some((digest, layer.size)),
        })
    });
    Ok(Image {
        digest,
        name: None,
        config,
        unpacked,
        layers: layers.collect::<Result<_, _>>()?,
    })
}

fn named(
    source: &dyn Source,
    descriptor: &Descriptor,
    limits: &Limits,
) -> Result<Vec<u8>, ImageError> {
    let digest = descriptor.digest.parse()?;
    let bytes = source.document(&Part::Manifest(digest), limits.document)?;
    checked(&bytes, digest)?;
    Ok(bytes)
}

fn blob(
    source: &dyn Source,
    descriptor: &Descriptor,
    limits: &Limits,
) -> Result<Vec<u8>, ImageError> {
    let digest = descriptor.digest.parse()?;
    let bytes = source.document(&Part::Blob(digest), limits.document)?;
    checked(&bytes, digest)?;
    Ok(bytes)
}

fn parse(bytes: &[u8], name: &str) -> Result<Document, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::Document(name.to_owned(), error))
}

fn platforms(all: &[Descriptor]) -> String {
    let platforms: Vec<_> = all.iter().take(8).map(Descriptor::platform).collect();
    if platforms.is_empty() {
        "nothing".into()
    } else {
        platforms.join(", ")
    }
}
