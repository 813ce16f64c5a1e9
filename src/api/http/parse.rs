//! A request's line and headers (RFC 9112 §3, §5).
//!
//! Errors carry the words of Firecracker where its clients may know them.

use thiserror::Error;

use super::service::Method;
use super::{MAX_HEAD, MAX_HEADERS};

/// What the server needs of a request's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) accept: Option<String>,
    /// Bytes of the body.
    pub(super) length: usize,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects: bool,
    /// The connection stays open after the answer.
    pub(super) keep_alive: bool,
    /// The client is new enough for a chunked answer.
    pub(super) chunks: bool,
}

/// Why a request is no request. The connection ends with it.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error("Invalid HTTP Method: Unsupported HTTP method.")]
    Method,
    #[error("Invalid HTTP Version: Unsupported HTTP version.")]
    Version,
    #[error("Invalid URI: Empty URI not allowed.")]
    EmptyTarget,
    #[error("Invalid URI: It contains an illegal character.")]
    Target,
    #[error("Invalid request.")]
    Request,
    #[error("Invalid header. Reason: Header is incorrectly formatted.")]
    Header,
    #[error("Invalid header. Reason: There are more than {MAX_HEADERS} headers.")]
    TooManyHeaders,
    #[error(
        "Invalid header. Reason: Request line and headers are larger than the limit of {MAX_HEAD} bytes."
    )]
    TooLarge,
    #[error("Invalid header. Reason: Invalid value. Key:{name}; Value: {value}")]
    Value { name: String, value: String },
    #[error("Invalid header. Reason: Unsupported feature. Key: {name}; Value: {value}")]
    Unsupported { name: String, value: String },
    #[error(
        "Request payload with size {size} is larger than the limit of {limit} allowed by server."
    )]
    Payload { size: usize, limit: usize },
}

/// Parses the head at the start of `bytes`. `None`: its end has not come yet. Otherwise also the bytes it takes.
///
/// # Errors
/// When what is there cannot become a request, or its body would be larger than `payload` bytes.
pub(super) fn head(bytes: &[u8], payload: usize) -> Result<Option<(Head, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let taken = match request.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error, &request, bytes)),
    };
    let method = request.method.and_then(Method::of).ok_or(Refusal::Method)?;
    let (path, query) = target(request.path.unwrap_or_default());
    let newest = request.version == Some(1);
    let mut head = Head {
        method,
        path,
        query,
        accept: None,
        length: 0,
        expects: false,
        keep_alive: newest,
        chunks: newest,
    };
    read_headers(&mut head, request.headers)?;
    if head.length > payload {
        return Err(Refusal::Payload {
            size: head.length,
            limit: payload,
        });
    }
    Ok(Some((head, taken)))
}

/// Names what the parser stumbled over. It goes through method, target, version and headers in this order, so what
/// it has filled in says how far it came.
fn refusal(error: httparse::Error, request: &httparse::Request<'_, '_>, bytes: &[u8]) -> Refusal {
    let Some(method) = request.method else {
        return Refusal::Request;
    };
    if Method::of(method).is_none() {
        return Refusal::Method;
    }
    if request.path.is_none() {
        let start = bytes.iter().position(|byte| !b"\r\n".contains(byte));
        let target = start.map(|start| start + method.len() + 1);
        return match target.and_then(|target| bytes.get(target)) {
            Some(b' ') => Refusal::EmptyTarget,
            _ => Refusal::Target,
        };
    }
    match error {
        httparse::Error::Version => Refusal::Version,
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::Header,
        _ => Refusal::Request,
    }
}

/// Path and query of a target in origin or absolute form (RFC 9112 §3.2). No path: an empty one, which names nothing.
fn target(text: &str) -> (String, Option<String>) {
    let local = match text.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("", |start| &rest[start..]),
        None => text,
    };
    match local.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (local.to_owned(), None),
    }
}

fn read_headers(head: &mut Head, headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
    let mut length = None;
    for header in headers {
        let (name, value) = (header.name, text(header)?);
        if name.eq_ignore_ascii_case("content-length") {
            let bytes = content_length(value).ok_or_else(|| bad_value(name, value))?;
            // Two lengths that differ are two requests (RFC 9112 §6.3).
            if length.replace(bytes).is_some_and(|other| other != bytes) {
                return Err(bad_value(name, value));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("identity") {
                return Err(Refusal::Unsupported {
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        } else if name.eq_ignore_ascii_case("expect") {
            // HTTP/1.0 clients are not answered with a 100 (RFC 9110 §10.1.1).
            head.expects |= head.chunks && value.eq_ignore_ascii_case("100-continue");
        } else if name.eq_ignore_ascii_case("connection") {
            head.keep_alive = persists(head.keep_alive, value);
        } else if name.eq_ignore_ascii_case("accept") {
            head.accept = Some(value.to_owned());
        }
    }
    head.length = length.unwrap_or(0);
    Ok(())
}

/// Every value must be UTF-8, also one that nobody looks at.
fn text<'a>(header: &httparse::Header<'a>) -> Result<&'a str, Refusal> {
    std::str::from_utf8(header.value).map_err(|_| Refusal::Header)
}

fn bad_value(name: &str, value: &str) -> Refusal {
    Refusal::Value {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// Digits only: `parse` alone would also take a sign. At most 32 bits, as in Firecracker.
fn content_length(value: &str) -> Option<usize> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse::<u32>().ok().filter(|_| digits)?;
    usize::try_from(number).ok()
}

/// `close` wins over everything, `keep-alive` over HTTP/1.0's default (RFC 9112 §9.3).
fn persists(before: bool, value: &str) -> bool {
    let has = |word: &str| {
        let mut words = value.split(',').map(str::trim);
        words.any(|other| other.eq_ignore_ascii_case(word))
    };
    !has("close") && (before || has("keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 250;

    fn parsed(text: &str) -> Head {
        let (head, taken) = head(text.as_bytes(), LIMIT).unwrap().unwrap();
        assert_eq!(taken, text.len());
        head
    }

    fn refused(text: &str) -> String {
        head(text.as_bytes(), LIMIT).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_get_is_read() {
        let head = parsed("GET /machine-config HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n");
        assert_eq!(head.method, Method::Get);
        assert_eq!(head.path, "/machine-config");
        assert_eq!((head.query, head.length), (None, 0));
        assert_eq!(head.accept.as_deref(), Some("*/*"));
        assert!(head.keep_alive && head.chunks && !head.expects);
    }

    #[test]
    fn names_of_headers_are_read_in_any_case() {
        let head = parsed("PUT / HTTP/1.1\r\ncontent-LENGTH:  12 \r\nEXPECT: 100-Continue\r\n\r\n");
        assert_eq!((head.length, head.expects), (12, true));
    }

    #[test]
    fn the_query_is_no_part_of_the_path() {
        let head = parsed("GET /a/b?c=d?e HTTP/1.1\r\n\r\n");
        assert_eq!(head.path, "/a/b");
        assert_eq!(head.query.as_deref(), Some("c=d?e"));
    }

    #[test]
    fn an_absolute_target_loses_its_host() {
        let path = |target| parsed(&format!("GET {target} HTTP/1.1\r\n\r\n")).path;
        assert_eq!(path("http://localhost/home"), "/home");
        assert_eq!(path("http://localhost:8080/home/sub"), "/home/sub");
        assert_eq!(path("http://localhost"), "");
        assert_eq!(path("http://"), "");
    }

    #[test]
    fn persistence_follows_the_version_and_the_header() {
        let keeps = |rest| parsed(&format!("GET / HTTP/{rest}\r\n\r\n")).keep_alive;
        assert!(keeps("1.1"));
        assert!(!keeps("1.1\r\nConnection: close"));
        assert!(!keeps("1.1\r\nConnection: keep-alive, Close"));
        assert!(!keeps("1.0"));
        assert!(keeps("1.0\r\nConnection: Keep-Alive"));
    }

    #[test]
    fn a_client_of_http_1_0_gets_neither_chunks_nor_a_100() {
        let head = parsed("PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
        assert!(!head.chunks && !head.expects);
    }

    #[test]
    fn other_methods_are_refused_with_firecrackers_words() {
        for method in ["POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "X"] {
            assert_eq!(
                refused(&format!("{method} / HTTP/1.1\r\n\r\n")),
                "Invalid HTTP Method: Unsupported HTTP method."
            );
        }
        assert_eq!(
            refused("POST / HTTP/9.9\r\n\r\n"),
            "Invalid HTTP Method: Unsupported HTTP method."
        );
    }

    #[test]
    fn every_method_has_the_name_it_was_asked_by() {
        for name in ["GET", "PUT", "PATCH", "DELETE"] {
            let head = parsed(&format!("{name} / HTTP/1.1\r\n\r\n"));
            assert_eq!(head.method.name(), name);
        }
    }

    #[test]
    fn a_malformed_line_is_named_by_its_broken_part() {
        for (line, text) in [
            (
                "GET / HTTP/2.0",
                "Invalid HTTP Version: Unsupported HTTP version.",
            ),
            (
                "GET / FTP/1.1",
                "Invalid HTTP Version: Unsupported HTTP version.",
            ),
            ("GET  HTTP/1.1", "Invalid URI: Empty URI not allowed."),
            ("\r\nGET  HTTP/1.1", "Invalid URI: Empty URI not allowed."),
            (
                "GET /\u{1} HTTP/1.1",
                "Invalid URI: It contains an illegal character.",
            ),
            ("GET", "Invalid request."),
            ("{\"a\": 1}", "Invalid request."),
            ("\u{16}\u{3}\u{1}", "Invalid request."),
        ] {
            assert_eq!(refused(&format!("{line}\r\n\r\n")), text, "{line:?}");
        }
    }

    #[test]
    fn a_malformed_header_is_refused() {
        for line in ["no colon", "a b: c", "a: b\u{0}", ": c"] {
            assert_eq!(
                refused(&format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")),
                "Invalid header. Reason: Header is incorrectly formatted.",
                "{line:?}"
            );
        }
        let bytes = b"GET / HTTP/1.1\r\nAccept: \xff\r\n\r\n";
        assert_eq!(head(bytes, LIMIT), Err(Refusal::Header));
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for value in ["abc", "-1", "+5", "1 2", "0x10", "4294967296", ""] {
            assert_eq!(
                refused(&format!(
                    "PUT / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n"
                )),
                format!(
                    "Invalid header. Reason: Invalid value. Key:Content-Length; Value: {value}"
                )
            );
        }
    }

    #[test]
    fn two_lengths_must_be_the_same() {
        let with = |one, two| {
            format!("PUT / HTTP/1.1\r\nContent-Length: {one}\r\nContent-Length: {two}\r\n\r\n")
        };
        assert_eq!(parsed(&with(5, 5)).length, 5);
        assert_eq!(
            refused(&with(5, 6)),
            "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 6"
        );
    }

    #[test]
    fn a_chunked_body_is_refused() {
        assert_eq!(
            refused("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "Invalid header. Reason: Unsupported feature. Key: Transfer-Encoding; Value: chunked"
        );
        assert_eq!(
            parsed("PUT / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n").length,
            0
        );
    }

    #[test]
    fn a_body_over_the_limit_is_refused_by_its_length() {
        let with = |length| format!("PUT / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(parsed(&with(250)).length, 250);
        assert_eq!(
            refused(&with(251)),
            "Request payload with size 251 is larger than the limit of 250 allowed by server."
        );
    }

    #[test]
    fn the_headers_are_counted() {
        let with = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(parsed(&with(MAX_HEADERS)).keep_alive);
        assert_eq!(
            refused(&with(MAX_HEADERS + 1)),
            "Invalid header. Reason: There are more than 64 headers."
        );
    }

    #[test]
    fn a_head_without_its_end_is_waited_for() {
        let whole = b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(head(&whole[..end], LIMIT), Ok(None), "{end}");
        }
    }
}
