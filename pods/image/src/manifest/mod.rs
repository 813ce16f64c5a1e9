//! An image: its configuration and its layers, found from the document at the top of a source.

mod docker;
mod oci;

use std::io;

use oci_spec::image::{Arch, ImageConfiguration, Os};

use crate::digest::{Bounded, Checked, Digest, DigestError};
use crate::layer::{self, LayerError};
use crate::limits::Limits;
use crate::source::{Part, Source, SourceError, Top};
use crate::store::Store;
use crate::tree::Tree;
use crate::unpack;

/// Why an image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Something could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A document is not what it should be.
    #[error("the document {0} of the image makes no sense")]
    Document(String, #[source] serde_json::Error),
    /// A digest is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A document is not the one that was announced.
    #[error("a document of the image is not the one that was announced")]
    Changed(#[source] io::Error),
    /// Indexes name indexes.
    #[error("indexes of the image name each other more than {0} deep; it has no manifest")]
    Nested(usize),
    /// There is an index or a manifest without what it is for.
    #[error("the document {0} of the image is neither an index nor a manifest")]
    Neither(String),
    /// There is nothing for this machine.
    #[error("the image has nothing for linux/amd64; it has {0}")]
    Platform(String),
    /// There are several.
    #[error("there are several images; name one of them behind a \"#\": {0}")]
    Several(String),
    /// The one that was named is not there.
    #[error("there is no image {name:?}; there are: {others}")]
    Unknown {
        /// What was named.
        name: String,
        /// What there is.
        others: String,
    },
    /// More layers than are taken.
    #[error("the image has {0} layers; at most {1} are taken")]
    Layers(usize, usize),
    /// The configuration and the manifest do not agree.
    #[error("the image has {layers} layers, and its configuration speaks of {announced}")]
    Count {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        announced: usize,
    },
    /// A layer is refused.
    #[error("layer {number} of {count} is refused")]
    Layer {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// Why.
        source: LayerError,
    },
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it is known by: the digest of what its reference names.
    pub digest: Digest,
    /// The name that its archive gives it.
    pub name: Option<String>,
    /// How it wants to be run.
    pub config: ImageConfiguration,
    /// The digests of its layers, unpacked.
    unpacked: Vec<Digest>,
    layers: Vec<Layer>,
}

/// A layer as it lies in its source.
#[derive(Debug, Clone)]
struct Layer {
    part: Part,
    packed: Option<(Digest, u64)>,
}

/// How far the layers have come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The layer, from 1.
    pub layer: usize,
    /// Of how many.
    pub layers: usize,
    /// Bytes read of it.
    pub read: u64,
    /// Bytes that it has, where that is known.
    pub size: Option<u64>,
}

impl Image {
    /// Finds the image of a source; `name` chooses between several.
    ///
    /// # Errors
    /// If there is none, it is for other machines, or its documents are refused.
    pub fn find(
        source: &dyn Source,
        name: Option<&str>,
        limits: &Limits,
    ) -> Result<Self, ImageError> {
        let image = match source.top(limits.document)? {
            Top::Names(bytes) => oci::from_names(source, &bytes, name, limits)?,
            Top::Document(digest, bytes) => oci::from_document(source, digest, &bytes, limits)?,
            Top::Docker(bytes) => docker::find(source, &bytes, name, limits)?,
        };
        let (layers, announced) = (image.layers.len(), image.unpacked.len());
        if layers > limits.layers {
            return Err(ImageError::Layers(layers, limits.layers));
        }
        if layers != announced {
            return Err(ImageError::Count { layers, announced });
        }
        Ok(image)
    }

    /// What its disk is made of: the same for the same layers, wherever they come from.
    pub fn chain(&self) -> String {
        let digests: Vec<_> = self.unpacked.iter().map(Digest::to_string).collect();
        format!("layers {}", digests.join(" "))
    }

    /// Bytes of all layers as they lie in the source, where that is known.
    pub fn size(&self) -> Option<u64> {
        let sizes = self.layers.iter().map(|layer| Some(layer.packed?.1));
        sizes.sum()
    }

    /// The merged tree of all layers. Every byte is compared with its digests before this returns.
    ///
    /// # Errors
    /// The first thing that is refused.
    pub fn build(
        &self,
        source: &dyn Source,
        store: &mut Store,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tree, ImageError> {
        let mut tree = Tree::new(*limits);
        let mut left = limits.bytes;
        let count = self.layers.len();
        for (index, (layer, unpacked)) in self.layers.iter().zip(&self.unpacked).enumerate() {
            let packed = source.open(&layer.part)?;
            let mut read = 0;
            let mut tell = |len: u64| {
                read += len;
                progress(Progress {
                    layer: index + 1,
                    layers: count,
                    read,
                    size: layer.packed.map(|(_, size)| size),
                });
            };
            let packed = Told {
                reader: packed,
                tell: &mut tell,
            };
            let mut target = Target {
                tree: &mut tree,
                store,
                limits,
                left: &mut left,
            };
            target
                .take(packed, layer, *unpacked)
                .map_err(|source| ImageError::Layer {
                    number: index + 1,
                    count,
                    source,
                })?;
        }
        Ok(tree)
    }
}

/// Where layers go.
struct Target<'a> {
    tree: &'a mut Tree,
    store: &'a mut Store,
    limits: &'a Limits,
    left: &'a mut u64,
}

impl Target<'_> {
    fn take(
        &mut self,
        packed: impl io::Read,
        layer: &Layer,
        unpacked: Digest,
    ) -> Result<(), LayerError> {
        let Some((digest, size)) = layer.packed else {
            return self.unpack(packed, unpacked);
        };
        let mut packed = Checked::new(packed, digest, Some(size));
        let taken = self.unpack(&mut packed, unpacked);
        // A damaged layer is named as such, whatever damage was noticed first.
        packed.finish().map_err(LayerError::Read)?;
        taken
    }

    fn unpack(&mut self, packed: impl io::Read, unpacked: Digest) -> Result<(), LayerError> {
        let reader = unpack::reader(packed).map_err(LayerError::Read)?;
        let mut reader = Checked::new(Bounded::new(reader, self.left), unpacked, None);
        layer::apply(&mut reader, self.tree, self.store, self.limits)?;
        reader.finish().map_err(LayerError::Read)
    }
}

/// A reader that tells how much was read.
struct Told<'a, R> {
    reader: R,
    tell: &'a mut dyn FnMut(u64),
}

impl<R: io::Read> io::Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        (self.tell)(len as u64);
        Ok(len)
    }
}

/// A document that is what its digest says.
fn checked(bytes: &[u8], wanted: Digest) -> Result<(), ImageError> {
    Checked::new(bytes, wanted, None)
        .finish()
        .map_err(ImageError::Changed)
}

/// The configuration, if it is for this machine, and the digests of the layers that it speaks of.
fn configuration(bytes: &[u8]) -> Result<(ImageConfiguration, Vec<Digest>), ImageError> {
    let config: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Document("config".into(), error))?;
    if *config.os() != Os::Linux || *config.architecture() != Arch::Amd64 {
        let has = format!("{}/{}", config.os(), config.architecture());
        return Err(ImageError::Platform(has));
    }
    let digests = config.rootfs().diff_ids().iter();
    let digests = digests
        .map(|digest| digest.parse())
        .collect::<Result<_, _>>()?;
    Ok((config, digests))
}

#[cfg(test)]
mod tests;
