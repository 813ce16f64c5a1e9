//! Who a user is for a registry: what `docker login` and `podman login` have written down.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the file is, in the environment: its directory.
const VARIABLE: &str = "DOCKER_CONFIG";
/// The file.
const FILE: &str = "config.json";
/// The longest that is read, bytes.
const LONGEST: u64 = 1 << 20;

/// A name and its password, as the header of a request has them. They are shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(String);

/// A file that does not say who its user is.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It cannot be read.
    #[error("{0} cannot be read: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// It is no such file.
    #[error(
        "{0} is not what docker login writes ({1}): log in anew, or name another directory in DOCKER_CONFIG"
    )]
    Form(PathBuf, String),
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// Name, colon and password in Base64; empty where a helper program has them.
    #[serde(default)]
    auth: String,
}

impl Credentials {
    /// The user's for a registry: of `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. None where there is no file, or it
    /// does not name the registry.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn of_user(host: &str) -> Result<Option<Self>, CredentialError> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let homes = || Some(std::env::home_dir()?.join(".docker"));
        match named.or_else(homes) {
            Some(directory) => Self::read(&directory.join(FILE), host),
            None => Ok(None),
        }
    }

    pub(super) fn read(path: &Path, host: &str) -> Result<Option<Self>, CredentialError> {
        let failed = |error| CredentialError::Read(path.to_owned(), error);
        let form = |why: String| CredentialError::Form(path.to_owned(), why);
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let mut text = Vec::new();
        file.take(LONGEST + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > LONGEST {
            return Err(form(format!("it is longer than {LONGEST} bytes")));
        }
        // The sentence of a syntax error names a place, and nothing that stands there.
        let document: Document = serde_json::from_slice(&text)
            .map_err(|error| form(format!("line {}, column {}", error.line(), error.column())))?;
        let mut entries = document.auths.into_iter();
        let Some((_, entry)) = entries.find(|(key, _)| is_of(key, host)) else {
            return Ok(None);
        };
        if entry.auth.is_empty() {
            return Ok(None);
        }
        // It becomes a header.
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
        match entry.auth.bytes().all(is_base64) {
            true => Ok(Some(Self(format!("Basic {}", entry.auth)))),
            false => Err(form(format!("its auth for {host} is no Base64"))),
        }
    }

    /// What the header `authorization` says.
    pub(super) fn header(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Credentials")
    }
}

/// Whether a key names a registry: the host alone, or as older programs have it, in an address.
fn is_of(key: &str, host: &str) -> bool {
    let key = key
        .strip_prefix("https://")
        .or(key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next() == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, host: &str) -> Result<Option<Credentials>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        Credentials::read(&path, host).map_err(|error| error.to_string())
    }

    #[test]
    fn a_registrys_entry_is_found_by_its_host_alone() {
        let text = r#"{"auths": {"one.example": {"auth": "b25lOnB3"}, "https://two.example:5000/v1/": {"auth": "dHdvOnB3"},
            "helped.example": {}}, "credsStore": "secretservice"}"#;
        let found = |host| read(text, host).unwrap().map(|one| one.header().to_owned());
        assert_eq!(found("one.example").as_deref(), Some("Basic b25lOnB3"));
        assert_eq!(found("two.example:5000").as_deref(), Some("Basic dHdvOnB3"));
        for stranger in [
            "two.example",
            "example",
            "one.example.com",
            "helped.example",
        ] {
            assert_eq!(found(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused_without_its_contents() {
        for text in [
            "secret",
            r#"{"auths": {"a": {"auth": "secret\r\nx: y"}}}"#,
            r#"{"auths": "secret"}"#,
        ] {
            let error = read(text, "a").unwrap_err();
            assert!(
                error.contains("docker login") && !error.contains("secret"),
                "{error}"
            );
        }
        let long = format!("{{\"auths\": {{}}, \"x\": \"{}\"}}", "x".repeat(1 << 20));
        assert!(read(&long, "a").unwrap_err().contains("longer"));
    }

    #[test]
    fn without_a_file_nobody_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Credentials::read(&folder.path().join(FILE), "a").unwrap(),
            None
        );
    }

    #[test]
    fn they_are_not_shown() {
        let shown = format!("{:?}", Credentials("Basic b25lOnB3".to_owned()));
        assert!(!shown.contains("b25l"), "{shown}");
    }
}
