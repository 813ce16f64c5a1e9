//! What a user calls an image: a path, or a reference to a registry.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Digest;

/// An image in a registry: `HOST[:PORT]/PATH[:TAG][@sha256:DIGITS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry, with its port.
    pub host: String,
    /// The repository in it.
    pub path: String,
    /// What in the repository.
    pub version: Version,
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The one that has this name now.
    Tag(String),
    /// This one.
    Digest(Digest),
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a file or a directory, there perhaps one of several.
    Path(PathBuf, Option<String>),
    /// In a registry.
    Registry(Reference),
}

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No registry is named.
    #[error(
        "{0:?} is no file here and names no registry: name a file, or an image as in registry.example/app:1"
    )]
    NoRegistry(String),
    /// It is not made as references are.
    #[error("{name:?} is no reference: {why}, as in registry.example/app:1")]
    Form {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Location {
    /// What a user's word means: a file or a directory that is there, or else a reference. Behind a `#` stands which of
    /// several images in an archive is meant.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let is_there = |path: &str| std::fs::symlink_metadata(path).is_ok();
        let is_path = text.starts_with(['/', '.']);
        if is_there(text) {
            return Ok(Self::Path(text.into(), None));
        }
        match text.split_once('#') {
            Some((path, name)) if is_path || is_there(path) => {
                Ok(Self::Path(path.into(), Some(name.into())))
            }
            _ if is_path => Ok(Self::Path(text.into(), None)),
            _ => text.parse().map(Self::Registry),
        }
    }

    /// The name under which it is remembered: the same from wherever it is called.
    pub fn name(&self) -> String {
        match self {
            Self::Registry(reference) => reference.to_string(),
            Self::Path(path, name) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let name = name
                    .as_ref()
                    .map(|name| format!("#{name}"))
                    .unwrap_or_default();
                format!("{}{name}", path.display())
            }
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |why| ReferenceError::Form {
            name: text.chars().take(200).collect(),
            why,
        };
        let no_registry = || ReferenceError::NoRegistry(text.chars().take(200).collect());
        let (host, rest) = text.split_once('/').ok_or_else(no_registry)?;
        let is_host = host == "localhost" || host.contains(['.', ':']);
        let host_fits = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
        if !is_host || !host.chars().all(host_fits) {
            return Err(no_registry());
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| wrong("behind \"@\" stands a sha256 digest"))?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, tag),
            None => (rest, "latest"),
        };
        let path_fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
        let part_fits =
            |part: &str| !part.is_empty() && part.chars().all(path_fits) && !part.starts_with('.');
        if path.len() > 255 || !path.split('/').all(part_fits) {
            return Err(wrong(
                "a repository has small letters, digits, \"-\", \"_\", \".\" and \"/\"",
            ));
        }
        let tag_fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if tag.is_empty()
            || tag.len() > 128
            || !tag.chars().all(tag_fits)
            || tag.starts_with(['.', '-'])
        {
            return Err(wrong(
                "a tag has up to 128 letters, digits, \"-\", \"_\" and \".\"",
            ));
        }
        Ok(Self {
            host: host.into(),
            path: path.into(),
            version: digest.map_or_else(|| Version::Tag(tag.into()), Version::Digest),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.host, self.path)?;
        match &self.version {
            Version::Tag(tag) => write!(out, ":{tag}"),
            Version::Digest(digest) => write!(out, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_taken_apart_and_put_together() {
        let digest = Digest::of(b"").to_string();
        for (text, whole) in [
            (
                "registry.example/app:1",
                "registry.example/app:1".to_owned(),
            ),
            (
                "registry.example:5000/a/b_c",
                "registry.example:5000/a/b_c:latest".to_owned(),
            ),
            ("localhost/app", "localhost/app:latest".to_owned()),
            (
                "127.0.0.1:5000/app:v1.2-x",
                "127.0.0.1:5000/app:v1.2-x".to_owned(),
            ),
            (
                &format!("registry.example/app:1@{digest}"),
                format!("registry.example/app@{digest}"),
            ),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["app", "app:1", "lib/app", ""] {
            assert!(
                matches!(
                    text.parse::<Reference>(),
                    Err(ReferenceError::NoRegistry(_))
                ),
                "{text}"
            );
        }
        for text in [
            "registry.example/App",
            "registry.example/a/../b",
            "registry.example/a:",
            "registry.example/a:-x",
            "registry.example/a?b",
            "registry.example/a@sha256:12",
            "registry.example/",
        ] {
            assert!(
                matches!(text.parse::<Reference>(), Err(ReferenceError::Form { .. })),
                "{text}"
            );
        }
        assert!("ex ample.org/a".parse::<Reference>().is_err());
    }

    #[test]
    fn a_path_is_one_that_is_there_or_looks_like_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(Location::parse(path), Ok(Location::Path(path.into(), None)));
        let one = Location::parse(&format!("{path}#app:1"));
        assert_eq!(one, Ok(Location::Path(path.into(), Some("app:1".into()))));
        assert_eq!(
            Location::parse("./none.tar"),
            Ok(Location::Path("./none.tar".into(), None))
        );
    }
}
