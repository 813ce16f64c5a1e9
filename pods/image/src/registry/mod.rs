//! Images in registries: the OCI distribution specification, as far as taking images needs it.
//!
//! Five requests: the manifest; the token that a registry wants to see, if it wants one; an index's manifest; the configuration; a layer
//! each. Layers are read as they arrive: an image that is broken off is taken from the start again.

mod credentials;
mod token;

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

pub use self::credentials::{CredentialError, Credentials};
use crate::digest::Digest;
use crate::reference::{Reference, Version};
use crate::source::{Part, Source, SourceError, Top, document};

/// What a manifest may be.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const CONNECT: Duration = Duration::from_secs(20);
/// How long a registry may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
const REDIRECTS: u32 = 5;
/// This host's certificates, where distributions have them.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Why a registry gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It could not be asked.
    #[error("the registry {host} cannot be asked")]
    Ask {
        /// Which.
        host: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// It has no such image.
    #[error("the registry {host} has no {what}")]
    Missing {
        /// Which.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// It gives nothing to strangers, or not to this user.
    #[error(
        "the registry {host} does not give {what} to you: say who you are by `docker login {host}`, which writes ~/.docker/config.json; \
         what a helper program keeps (credsStore) is not asked for"
    )]
    Denied {
        /// Which.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// It answers otherwise than registries do.
    #[error("the registry {host} answers {status} when it is asked for {what}")]
    Status {
        /// Which.
        host: String,
        /// How.
        status: StatusCode,
        /// What was asked for.
        what: String,
    },
    /// It wants a proof that cannot be had.
    #[error(
        "the registry {host} wants a token, and does not say where one is to be had: {challenge:?}"
    )]
    Challenge {
        /// Which.
        host: String,
        /// What it says.
        challenge: String,
    },
}

/// A registry, and an image in it.
pub struct Registry {
    agent: Agent,
    /// Where it is, with its scheme.
    base: String,
    reference: Reference,
    /// Who asks, if the registry wants to know.
    credentials: Option<Credentials>,
    /// The header that it has wanted to see.
    authorization: Mutex<Option<String>>,
}

impl Registry {
    /// The registry of a reference, which hears who the user is if it wants to know. It is not asked yet.
    pub fn open(reference: &Reference, credentials: Option<Credentials>) -> Self {
        let is_local = is_loopback(&reference.host);
        let scheme = if is_local { "http" } else { "https" };
        let tls = TlsConfig::builder().root_certs(certificates()).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!is_local)
            .max_redirects(REDIRECTS)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent("ravelin")
            .tls_config(tls)
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("{scheme}://{}", reference.host),
            reference: reference.clone(),
            credentials,
            authorization: Mutex::new(None),
        }
    }

    /// What is below the repository; a password is told, or a token fetched, if it is asked for.
    fn get(&self, what: &str, accept: &str) -> Result<Response<Body>, RegistryError> {
        let url = format!("{}/v2/{}/{what}", self.base, self.reference.path);
        let known = self.authorization.lock().ok();
        let known = known.and_then(|known| known.clone());
        let answer = self.send(&url, accept, known.as_deref())?;
        let answer = match answer.status() {
            StatusCode::UNAUTHORIZED => {
                let wanted = self.authorize(&answer, what)?;
                let answer = self.send(&url, accept, Some(&wanted))?;
                if let Ok(mut known) = self.authorization.lock() {
                    *known = Some(wanted);
                }
                answer
            }
            _ => answer,
        };
        let (host, what) = (
            self.reference.host.clone(),
            format!("{}/{what}", self.reference.path),
        );
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::NOT_FOUND => Err(RegistryError::Missing { host, what }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(RegistryError::Denied { host, what })
            }
            status => Err(RegistryError::Status { host, status, what }),
        }
    }

    fn send(
        &self,
        url: &str,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, RegistryError> {
        let mut request = self.agent.get(url).header("accept", accept);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.call().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ureq::Error) -> RegistryError {
        RegistryError::Ask {
            host: self.reference.host.clone(),
            source: Box::new(source),
        }
    }
}

impl Source for Registry {
    fn top(&self, limit: usize) -> Result<Top, SourceError> {
        let version = match &self.reference.version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) => digest.to_string(),
        };
        let what = format!("manifests/{version}");
        let body = self.get(&what, MANIFESTS)?.into_body().into_reader();
        let bytes = document(body, &what, limit)?;
        let digest = match self.reference.version {
            Version::Tag(_) => Digest::of(&bytes),
            Version::Digest(digest) => digest,
        };
        Ok(Top::Document(digest, bytes))
    }

    fn open(&self, part: &Part) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let (what, accept) = match part {
            Part::Manifest(digest) => (format!("manifests/{digest}"), MANIFESTS),
            Part::Blob(digest) => (format!("blobs/{digest}"), "*/*"),
            Part::File(name) => return Err(SourceError::Missing(name.clone())),
        };
        let body = self.get(&what, accept)?.into_body();
        Ok(Box::new(body.into_with_config().limit(u64::MAX).reader()))
    }
}

/// Those of `SSL_CERT_FILE`, or this host's, or else those that browsers trust.
fn certificates() -> RootCerts {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let paths = named.into_iter().chain(CERTIFICATES.map(Into::into));
    let Some(text) = paths.filter_map(|path| std::fs::read(path).ok()).next() else {
        return RootCerts::WebPki;
    };
    let all = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    RootCerts::Specific(Arc::new(all.collect()))
}

/// Whether a host, perhaps with a port, is this one by its address or by `localhost`.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests;
