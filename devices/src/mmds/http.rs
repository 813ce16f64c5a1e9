//! One request of the guest, and its answer. The paths, codes and texts are Firecracker's.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /path` | 200 and the value, 401 without a valid token under V2, 404, 501 for a value without a text form |
//! | `PUT /latest/api/token` | 200 and a token, 400 for a bad life or a forwarded request |
//! | `PUT` elsewhere | 404 |
//! | any other method | 405 |
//! | what is no request, or has a body that is not there | 400, and the connection ends |

use std::fmt::Write;

use httparse::{EMPTY_HEADER, Header, Request, Status};

use crate::mmds::store::{Format, LookupError, pointer};
use crate::mmds::{Mmds, Version};

/// The most bytes of a request, its body included.
pub(super) const LONGEST_REQUEST: usize = 8192;
/// The most headers of a request.
const MOST_HEADERS: usize = 64;
/// Where tokens are had.
const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN: [&str; 2] = ["x-metadata-token", "x-aws-ec2-metadata-token"];
const LIFE: [&str; 2] = [
    "x-metadata-token-ttl-seconds",
    "x-aws-ec2-metadata-token-ttl-seconds",
];

/// An answer to the first request of those received.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// All of it, as it goes to the guest.
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes received the request had.
    pub(super) used: usize,
    /// Whether the connection ends with it.
    pub(super) closes: bool,
}

/// Answers the first request in `received`; `None` when it is not whole yet, which it is at the latest
/// with [`LONGEST_REQUEST`] bytes.
pub(super) fn answer(mmds: &Mmds, received: &[u8]) -> Option<Answer> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    let head = match request.parse(received) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) if received.len() < LONGEST_REQUEST => return None,
        Ok(Status::Partial) | Err(_) => return Some(refuse(received.len())),
    };
    let (method, path, minor) = match (request.method, request.path, request.version) {
        (Some(method), Some(path), Some(minor)) => (method, path, minor),
        _ => return Some(refuse(received.len())),
    };
    // As in Firecracker, a body has to come along with the head, and a GET has none. So a connection
    // never waits for what may not come.
    let used = match body_len(request.headers) {
        Some(0) => head,
        Some(body) if method != "GET" => head.saturating_add(body),
        _ => return Some(refuse(received.len())),
    };
    if used > received.len() {
        return Some(refuse(received.len()));
    }
    let closes = closes(request.headers, minor);
    let reply = reply(mmds, method, path, request.headers);
    Some(Answer {
        bytes: reply.into_bytes(minor, closes, method != "HEAD"),
        used,
        closes,
    })
}

/// What goes back, without the version of the protocol.
struct Reply {
    status: u16,
    format: Format,
    /// A header of this answer alone.
    extra: Option<(String, String)>,
    body: String,
}

impl Reply {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            format: Format::Imds,
            extra: None,
            body: body.into(),
        }
    }

    fn into_bytes(self, minor: u8, closes: bool, has_body: bool) -> Vec<u8> {
        let connection = if closes { "close" } else { "keep-alive" };
        let kind = match self.format {
            Format::Json => "application/json",
            Format::Imds => "text/plain",
        };
        let mut text = format!(
            "HTTP/1.{minor} {} \r\nServer: Firecracker API\r\nConnection: {connection}\r\n",
            self.status
        );
        if let Some((name, value)) = &self.extra {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let len = self.body.len();
        let _ = write!(
            text,
            "Content-Type: {kind}\r\nContent-Length: {len}\r\n\r\n"
        );
        if has_body {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

fn reply(mmds: &Mmds, method: &str, target: &str, headers: &[Header<'_>]) -> Reply {
    let Some(path) = path_of(target) else {
        return Reply::text(400, "Invalid URI.");
    };
    match method {
        "GET" => get(mmds, path, headers),
        "PUT" => put(mmds, path, headers),
        _ => Reply {
            extra: Some(("Allow".to_owned(), "GET, PUT".to_owned())),
            ..Reply::text(405, "Not allowed HTTP method.")
        },
    }
}

fn get(mmds: &Mmds, path: &str, headers: &[Header<'_>]) -> Reply {
    let token = find(headers, &TOKEN).map(|(_, value)| value);
    let refusal = match token {
        Some(token) if mmds.is_valid_token(token) => None,
        Some(_) => {
            mmds.0.metrics.rx_invalid_token.increment();
            Some("MMDS token not valid.")
        }
        None => {
            mmds.0.metrics.rx_no_token.increment();
            Some(
                "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token.",
            )
        }
    };
    if let (Some(refusal), Version::V2) = (refusal, mmds.version()) {
        return Reply::text(401, refusal);
    }
    match mmds.lookup(path, accepted(headers)) {
        (Ok(body), format) => Reply {
            format,
            ..Reply::text(200, body)
        },
        (Err(LookupError::NotFound), _) => not_found(path),
        (Err(error @ LookupError::NotText), _) => Reply::text(501, error.to_string()),
    }
}

fn put(mmds: &Mmds, path: &str, headers: &[Header<'_>]) -> Reply {
    // Who is asked by somebody else must not get him a token.
    if let Some((name, _)) = find(headers, &["x-forwarded-for"]) {
        let reason = format!("Invalid header. Reason: Unsupported header name. Key: {name}");
        return Reply::text(400, reason);
    }
    if pointer(path) != TOKEN_PATH || path.ends_with('/') {
        return not_found(path);
    }
    let Some((name, value)) = find(headers, &LIFE) else {
        return Reply::text(
            400,
            "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.",
        );
    };
    let Ok(seconds) = value.parse::<u32>() else {
        let reason = format!("Invalid header. Reason: Invalid value. Key:{name}; Value:{value}");
        return Reply::text(400, reason);
    };
    match mmds.issue_token(seconds) {
        Ok(token) => Reply {
            extra: Some((name.to_owned(), seconds.to_string())),
            ..Reply::text(200, token)
        },
        Err(error) => Reply::text(400, error.to_string()),
    }
}

fn not_found(path: &str) -> Reply {
    Reply::text(404, format!("Resource not found: {path}."))
}

/// The path of a request's target, which may name the host before it (RFC 9112 §3.2).
fn path_of(target: &str) -> Option<&str> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.get(rest.find('/')?..)?,
        None => target,
    };
    path.starts_with('/').then_some(path)
}

/// The format asked for: JSON is given to who accepts nothing else.
fn accepted(headers: &[Header<'_>]) -> Format {
    match find(headers, &["accept"]) {
        Some((_, "application/json")) => Format::Json,
        _ => Format::Imds,
    }
}

/// The bytes of the body; `None` when nobody can say.
fn body_len(headers: &[Header<'_>]) -> Option<usize> {
    if find(headers, &["transfer-encoding"]).is_some() {
        return None;
    }
    let lengths = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("content-length"));
    let mut len = None;
    for header in lengths {
        let text = std::str::from_utf8(header.value).ok()?.trim();
        // `parse` takes a sign, HTTP does not.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let this = text.parse().ok().filter(|_| digits)?;
        if len.replace(this).is_some_and(|other| other != this) {
            return None;
        }
    }
    Some(len.unwrap_or(0))
}

/// Whether the connection ends with the answer (RFC 9112 §9.3).
fn closes(headers: &[Header<'_>], minor: u8) -> bool {
    let options = find(headers, &["connection"]).map_or("", |(_, value)| value);
    let has = |wanted: &str| {
        let mut options = options.split(',').map(str::trim);
        options.any(|option| option.eq_ignore_ascii_case(wanted))
    };
    has("close") || (minor == 0 && !has("keep-alive"))
}

/// The first header of one of these names, with its name as it was sent. A value that is no text counts
/// as an empty one.
fn find<'a>(headers: &[Header<'a>], names: &[&str]) -> Option<(&'a str, &'a str)> {
    let is_wanted = |header: &&Header<'_>| {
        names
            .iter()
            .any(|name| header.name.eq_ignore_ascii_case(name))
    };
    let header = headers.iter().find(is_wanted)?;
    let value = std::str::from_utf8(header.value).unwrap_or("");
    Some((header.name, value.trim()))
}

/// The answer to what is no request: where the next one begins nobody knows, so there is none.
fn refuse(received: usize) -> Answer {
    Answer {
        bytes: Reply::text(400, "Invalid request.").into_bytes(1, true, true),
        used: received,
        closes: true,
    }
}

#[cfg(test)]
mod tests;
