//! The token that a registry wants to see (distribution specification, "token authentication").

use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::{Registry, RegistryError};

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
    /// Fetches the token that an answer asks for.
    pub(super) fn fetch_token(
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
            return Err(denied());
        }
        let value = |name: &str| parameter(challenge, name);
        let realm = value("realm").ok_or_else(unclear)?;
        let mut request = self.agent.get(realm);
        let own_scope = format!("repository:{}:pull", self.reference.path);
        request = request.query("scope", value("scope").unwrap_or(&own_scope));
        if let Some(service) = value("service") {
            request = request.query("service", service);
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
        Ok(token)
    }
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
    use super::parameter;

    #[test]
    fn a_challenge_has_parameters_in_any_order() {
        let text = r#"Bearer realm="https://auth.example/token",service="a, b",scope="repository:app:pull,push""#;
        assert_eq!(parameter(text, "realm"), Some("https://auth.example/token"));
        assert_eq!(parameter(text, "service"), Some("a, b"));
        assert_eq!(parameter(text, "scope"), Some("repository:app:pull,push"));
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(parameter("Bearer", "realm"), None);
    }
}
