//! What a registry wants to see: a password, or a token (distribution specification, "token authentication").

use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode, Uri};

use super::{Registry, RegistryError, is_loopback};

/// Bytes of an answer with a token.
const ANSWER: u64 = 64 << 10;

#[derive(Deserialize)]
struct Granted {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Registry {
    /// The header that an answer asks for.
    pub(super) fn authorize(
        &self,
        answer: &Response<Body>,
        what: &str,
    ) -> Result<String, RegistryError> {
        let host = self.reference.host.clone();
        let challenge = answer.headers().get("www-authenticate");
        let challenge = challenge
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let unclear = || RegistryError::Challenge {
            host: host.clone(),
            challenge: challenge.chars().take(200).collect(),
        };
        let denied = || RegistryError::Denied {
            host: host.clone(),
            what: format!("{}/{what}", self.reference.path),
        };
        if challenge.to_ascii_lowercase().starts_with("basic") {
            let own = self.credentials.as_ref().ok_or_else(denied)?;
            return Ok(own.header().to_owned());
        }
        let value = |name: &str| parameter(challenge, name);
        let realm = value("realm").ok_or_else(unclear)?;
        let mut request = self.agent.get(realm);
        let own_scope = format!("repository:{}:pull", self.reference.path);
        request = request.query("scope", value("scope").unwrap_or(&own_scope));
        if let Some(service) = value("service") {
            request = request.query("service", service);
        }
        // The password goes nowhere in the open. It is not sent on where the answer is to go elsewhere.
        if let Some(own) = self.credentials.as_ref().filter(|_| is_private(realm)) {
            request = request.header("authorization", own.header());
        }
        let mut answer = request.call().map_err(|source| self.failed(source))?;
        if answer.status() != StatusCode::OK {
            return Err(denied());
        }
        let text = answer.body_mut().with_config().limit(ANSWER).read_to_vec();
        let granted: Option<Granted> = text
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let granted = granted.ok_or_else(unclear)?;
        let token = if granted.token.is_empty() {
            granted.access_token
        } else {
            granted.token
        };
        // It becomes a header.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unclear());
        }
        Ok(format!("Bearer {token}"))
    }
}

/// Whether nobody on the way reads what is sent there.
fn is_private(address: &str) -> bool {
    let Ok(address) = address.parse::<Uri>() else {
        return false;
    };
    address.scheme_str() == Some("https") || address.host().is_some_and(is_loopback)
}

/// A quoted parameter of `Bearer realm="...",service="..."`.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let (_, mut rest) = challenge.split_once(' ')?;
    loop {
        let (key, value) = rest.split_once("=\"")?;
        let (value, after) = value.split_once('"')?;
        if key.trim_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::{is_private, parameter};

    #[test]
    fn a_challenge_has_parameters_in_any_order() {
        let text = r#"Bearer realm="https://auth.example/token",service="a, b",scope="repository:app:pull,push""#;
        assert_eq!(parameter(text, "realm"), Some("https://auth.example/token"));
        assert_eq!(parameter(text, "service"), Some("a, b"));
        assert_eq!(parameter(text, "scope"), Some("repository:app:pull,push"));
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(parameter("Bearer", "realm"), None);
    }
    #[test]
    fn a_password_goes_nowhere_in_the_open() {
        for address in [
            "https://auth.example/token",
            "http://127.0.0.1:5000/token",
            "http://[::1]/token",
        ] {
            assert!(is_private(address), "{address}");
        }
        for address in [
            "http://auth.example/token",
            "http://localhost:1@auth.example/",
            "//auth.example",
            "",
        ] {
            assert!(!is_private(address), "{address}");
        }
    }
}
