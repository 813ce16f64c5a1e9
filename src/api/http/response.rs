//! Answers, and their bytes.

use std::io::Write;

use serde_json::Value;

/// What a 400 of the HTTP layer ends with. Clients of Firecracker know the sentence.
const DROPPED: &str = "All previous unanswered requests will be dropped.";

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    Text,
}

impl ContentType {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            // Text is what Prometheus reads, and it wants the version of its grammar.
            Self::Text => vmm::metrics::MEDIA_TYPE,
        }
    }
}

/// What is to become of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    KeepAlive,
    Close,
}

impl Persistence {
    fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::Close => "close",
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// 200, 204, 400...
    pub(crate) status: u16,
    pub(crate) kind: ContentType,
    /// Not sent with a 204.
    pub(crate) body: Vec<u8>,
    /// The request used something that will go away: adds `Deprecation: true`.
    pub(crate) deprecated: bool,
}

impl Response {
    /// 204: done, and nothing to say.
    pub(crate) fn no_content() -> Self {
        Self::json(204, Vec::new())
    }

    /// A JSON text.
    pub(crate) fn json(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            kind: ContentType::Json,
            body,
            deprecated: false,
        }
    }

    /// Plain text.
    pub(crate) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: ContentType::Text,
            ..Self::json(status, body.into())
        }
    }

    /// `{"fault_message": ...}`: what was wrong with a request that HTTP had nothing against.
    pub(crate) fn fault(status: u16, message: &str) -> Self {
        let body = format!("{{\"fault_message\":{}}}", Value::from(message));
        Self::json(status, body.into_bytes())
    }

    /// The same answer with or without `Deprecation: true`.
    pub(crate) fn with_deprecation(self, deprecated: bool) -> Self {
        Self { deprecated, ..self }
    }

    /// A 400 of the HTTP layer. The line break stands in the string as it is, which JSON does not allow; Firecracker
    /// sends these very bytes, and its clients compare them.
    pub(super) fn bad_request(text: &str) -> Self {
        let quoted = Value::from(text).to_string();
        let open = quoted.strip_suffix('"').unwrap_or(&quoted);
        let body = format!("{{ \"error\": {open}\n{DROPPED}\" }}");
        Self::json(400, body.into_bytes())
    }

    /// The 503 of a full server.
    pub(super) fn too_many_connections() -> Self {
        let body = b"{ \"error\": \"Too many open connections\" }";
        Self::json(503, body.to_vec())
    }

    /// The bytes on the wire. The status line has no reason phrase but its space (RFC 9112 §4).
    pub(super) fn encode(&self, persistence: Persistence) -> Vec<u8> {
        let mut bytes = head(self.status, persistence);
        if self.deprecated {
            bytes.extend_from_slice(b"Deprecation: true\r\n");
        }
        // A 204 has neither a body nor a length (RFC 9110 §8.6).
        if self.status == 204 {
            bytes.extend_from_slice(b"\r\n");
            return bytes;
        }
        let (kind, length) = (self.kind.name(), self.body.len());
        push(
            &mut bytes,
            format_args!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"),
        );
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// `100 Continue`: the body may come (RFC 9110 §10.1.1).
pub(super) fn go_on() -> Vec<u8> {
    let mut bytes = head(100, Persistence::KeepAlive);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The head of an event stream. Without chunks the end of the connection is the end of the stream.
pub(super) fn stream_head(chunked: bool) -> Vec<u8> {
    let (persistence, framing) = match chunked {
        true => (Persistence::KeepAlive, "Transfer-Encoding: chunked\r\n"),
        false => (Persistence::Close, ""),
    };
    let mut bytes = head(200, persistence);
    push(
        &mut bytes,
        format_args!("Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n{framing}\r\n"),
    );
    bytes
}

/// The status line and what every answer says.
fn head(status: u16, persistence: Persistence) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let connection = persistence.name();
    push(
        &mut bytes,
        format_args!(
            "HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: {connection}\r\n"
        ),
    );
    bytes
}

pub(super) fn push(bytes: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    bytes
        .write_fmt(text)
        .expect("a write to a vector cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response) -> String {
        String::from_utf8(response.encode(Persistence::KeepAlive)).unwrap()
    }

    #[test]
    fn a_json_answer_has_firecrackers_bytes() {
        let response = Response::json(200, b"{\"a\":1}".to_vec());
        assert_eq!(
            text(&response),
            "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
             Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
        );
    }

    #[test]
    fn no_content_has_neither_length_nor_body() {
        assert_eq!(
            text(&Response::no_content()),
            "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn a_deprecated_request_is_told_so() {
        let response = Response::no_content().with_deprecation(true);
        assert_eq!(
            text(&response),
            "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nDeprecation: true\r\n\r\n"
        );
    }

    #[test]
    fn a_fault_message_is_valid_json_whatever_it_says() {
        let fault = Response::fault(400, "a \"quoted\"\nline \\ \u{1}");
        let value: Value = serde_json::from_slice(&fault.body).unwrap();
        assert_eq!(value["fault_message"], "a \"quoted\"\nline \\ \u{1}");
    }

    #[test]
    fn an_error_of_the_http_layer_has_firecrackers_bytes() {
        let response = Response::bad_request(
            "Request payload with size 260 is larger than the limit of 250 allowed by server.",
        );
        assert_eq!(
            text(&response),
            "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
             Content-Type: application/json\r\nContent-Length: 145\r\n\r\n\
             { \"error\": \"Request payload with size 260 is larger than the limit of 250 allowed by server.\n\
             All previous unanswered requests will be dropped.\" }"
        );
    }

    #[test]
    fn a_quote_in_an_error_ends_no_string() {
        let response = Response::bad_request("Value: \"x\"");
        let text = String::from_utf8(response.body).unwrap();
        assert!(
            text.starts_with("{ \"error\": \"Value: \\\"x\\\"\nAll"),
            "{text}"
        );
    }

    #[test]
    fn an_answer_before_a_close_says_so() {
        let bytes = Response::text(200, "hi").encode(Persistence::Close);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(
            text.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{text}"
        );
    }
}
