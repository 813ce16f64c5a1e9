//! `manifest.json`, as "docker save" writes it.

use serde::Deserialize;

use super::{Image, ImageError, Layer, checked, configuration};
use crate::digest::Digest;
use crate::limits::Limits;
use crate::source::{Part, Source};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Saved {
    fn names(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// The image of that name, or the only one.
pub(super) fn find(
    source: &dyn Source,
    bytes: &[u8],
    name: Option<&str>,
    limits: &Limits,
) -> Result<Image, ImageError> {
    let document = |error| ImageError::Document("manifest.json".into(), error);
    let saved: Vec<Saved> = serde_json::from_slice(bytes).map_err(document)?;
    let others = || {
        let names: Vec<_> = saved
            .iter()
            .flat_map(Saved::names)
            .map(String::as_str)
            .collect();
        names.join(", ")
    };
    let chosen = match (name, &saved[..]) {
        (Some(name), saved) => saved
            .iter()
            .find(|one| one.names().iter().any(|other| other == name)),
        (None, [one]) => Some(one),
        (None, []) => None,
        (None, _) => return Err(ImageError::Several(others())),
    };
    let unknown = || ImageError::Unknown {
        name: name.unwrap_or_default().to_owned(),
        others: others(),
    };
    let chosen = chosen.ok_or_else(unknown)?;
    let config = source.document(&Part::File(chosen.config.clone()), limits.document)?;
    let digest = Digest::of(&config);
    // Its name is its digest, in the old form and in the new one.
    let stem = chosen.config.rsplit('/').next().unwrap_or_default();
    if let Ok(wanted) = format!("sha256:{}", stem.trim_end_matches(".json")).parse() {
        checked(&config, wanted)?;
    }
    let (config, unpacked) = configuration(&config)?;
    let layers = chosen.layers.iter();
    Ok(Image {
        digest,
        name: chosen.names().first().cloned(),
        config,
        unpacked,
        layers: layers
            .map(|path| Layer {
                part: Part::File(path.clone()),
                packed: None,
            })
            .collect(),
    })
}
