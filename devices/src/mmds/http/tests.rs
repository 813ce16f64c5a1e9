use serde_json::json;

use std::time::Duration;

use super::*;
use crate::mmds::Config;

fn mmds(version: Version, imds_compat: bool) -> Mmds {
    let mmds = Mmds::new(51_200).unwrap();
    mmds.configure(&Config {
        version,
        network_interfaces: vec!["eth0".to_owned()],
        ipv4_address: None,
        imds_compat,
    });
    mmds.put(json!({"latest": {"meta-data": {"ami-id": "ami-1", "count": 3}}}))
        .unwrap();
    mmds
}

/// The status, the headers and the body of the answer to the one request that `text` is.
fn ask(mmds: &Mmds, text: &str) -> (u16, String, String) {
    let answer = answer(mmds, text.as_bytes()).expect("the request is whole");
    assert_eq!(answer.used, text.len());
    let text = String::from_utf8(answer.bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    assert!(headers.contains(&format!("Content-Length: {}", body.len())));
    let status = line.strip_prefix("HTTP/1.1 ").unwrap().trim_end();
    (status.parse().unwrap(), headers.to_owned(), body.to_owned())
}

fn status_and_body(mmds: &Mmds, text: &str) -> (u16, String) {
    let (status, _, body) = ask(mmds, text);
    (status, body)
}

fn token(mmds: &Mmds) -> String {
    let request =
        "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n".to_owned();
    let (status, body) = status_and_body(mmds, &request);
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn a_get_is_answered_in_the_format_that_it_accepts() {
    let mmds = mmds(Version::V1, false);
    for (accept, kind, body) in [
        ("", "text/plain", "ami-id\ncount"),
        ("Accept: */*\r\n", "text/plain", "ami-id\ncount"),
        ("Accept: text/plain\r\n", "text/plain", "ami-id\ncount"),
        (
            "aCCEPT:  application/json \r\n",
            "application/json",
            r#"{"ami-id":"ami-1","count":3}"#,
        ),
    ] {
        let request = format!("GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\n{accept}\r\n");
        let (status, headers, found) = ask(&mmds, &request);
        assert_eq!((status, found.as_str()), (200, body));
        assert!(headers.contains(&format!("Content-Type: {kind}\r\n")));
    }
}

#[test]
fn with_imds_compat_every_answer_is_text() {
    let mmds = mmds(Version::V1, true);
    let request = "GET /latest HTTP/1.1\r\nAccept: application/json\r\n\r\n";
    let (status, headers, body) = ask(&mmds, request);
    assert_eq!((status, body.as_str()), (200, "meta-data/"));
    assert!(headers.contains("Content-Type: text/plain"));
}

#[test]
fn what_cannot_be_given_is_said_in_firecrackers_words() {
    let mmds = mmds(Version::V1, false);
    for (request, status, body) in [
        ("GET /x//y HTTP/1.1", 404, "Resource not found: /x//y."),
        (
            "GET /latest/meta-data/count HTTP/1.1",
            501,
            "Cannot retrieve value. The value has an unsupported type.",
        ),
        (
            "GET http://169.254.169.254/z HTTP/1.1",
            404,
            "Resource not found: /z.",
        ),
        ("GET http://169.254.169.254 HTTP/1.1", 400, "Invalid URI."),
        ("GET latest HTTP/1.1", 400, "Invalid URI."),
        (
            "PUT /latest/api/toke HTTP/1.1",
            404,
            "Resource not found: /latest/api/toke.",
        ),
        (
            "PUT /latest/api/token/ HTTP/1.1",
            404,
            "Resource not found: /latest/api/token/.",
        ),
        ("POST / HTTP/1.1", 405, "Not allowed HTTP method."),
        ("PATCH / HTTP/1.1", 405, "Not allowed HTTP method."),
    ] {
        let found = status_and_body(&mmds, &format!("{request}\r\n\r\n"));
        assert_eq!(found, (status, body.to_owned()), "{request}");
    }
    let (_, headers, _) = ask(&mmds, "DELETE / HTTP/1.1\r\n\r\n");
    assert!(headers.contains("Allow: GET, PUT"));
}

#[test]
fn a_head_is_refused_without_a_body() {
    let mmds = mmds(Version::V1, false);
    let answer = answer(&mmds, b"HEAD / HTTP/1.1\r\n\r\n").unwrap();
    assert!(answer.bytes.starts_with(b"HTTP/1.1 405 "));
    assert!(answer.bytes.ends_with(b"\r\n\r\n"));
}

#[test]
fn version_2_answers_only_with_a_valid_token() {
    let mmds = mmds(Version::V2, false);
    let with = |header: &str| {
        let request = format!("GET /latest/meta-data/ami-id HTTP/1.1\r\n{header}\r\n");
        status_and_body(&mmds, &request)
    };
    let (status, body) = with("");
    assert_eq!(status, 401);
    assert_eq!(
        body,
        "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token."
    );
    let invalid = (401, "MMDS token not valid.".to_owned());
    assert_eq!(with("X-metadata-token: foo\r\n"), invalid);
    assert_eq!(with("X-metadata-token: \u{fffd}\r\n"), invalid);
    for name in ["X-metadata-token", "x-AWS-ec2-metadata-token"] {
        let found = with(&format!("{name}: {}\r\n", token(&mmds)));
        assert_eq!(found, (200, "ami-1".to_owned()));
    }
    assert_eq!(mmds.metrics().rx_no_token.get(), 1);
    assert_eq!(mmds.metrics().rx_invalid_token.get(), 2);
}

#[test]
fn version_1_takes_tokens_and_does_without() {
    let mmds = mmds(Version::V1, false);
    let token = token(&mmds);
    for header in [
        "".to_owned(),
        "X-metadata-token: foo\r\n".to_owned(),
        format!("X-metadata-token: {token}\r\n"),
    ] {
        let request = format!("GET /latest/meta-data/ami-id HTTP/1.1\r\n{header}\r\n");
        assert_eq!(status_and_body(&mmds, &request), (200, "ami-1".to_owned()));
    }
    assert_eq!(mmds.metrics().rx_no_token.get(), 1);
    assert_eq!(mmds.metrics().rx_invalid_token.get(), 1);
}

#[test]
fn an_expired_tokens_time_is_the_hosts() {
    let mmds = mmds(Version::V2, false);
    let token = token(&mmds);
    assert!(mmds.0.tokens.is_valid(Duration::from_secs(59), &token));
    assert!(!mmds.0.tokens.is_valid(Duration::from_secs(3600), &token));
}

#[test]
fn a_token_request_is_refused_in_firecrackers_words() {
    for version in [Version::V1, Version::V2] {
        let mmds = mmds(version, false);
        for (header, body) in [
            (
                "",
                "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.",
            ),
            (
                "X-metadata-token-ttl-seconds: 0\r\n",
                "Invalid time to live value provided for token: 0. Please provide a value between 1 and 21600.",
            ),
            (
                "X-metadata-token-ttl-seconds: 21601\r\n",
                "Invalid time to live value provided for token: 21601. Please provide a value between 1 and 21600.",
            ),
            (
                "X-metadata-token-ttl-seconds: ten\r\n",
                "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; Value:ten",
            ),
            (
                "x-forwarded-FOR: me\r\nX-metadata-token-ttl-seconds: 60\r\n",
                "Invalid header. Reason: Unsupported header name. Key: x-forwarded-FOR",
            ),
        ] {
            let request = format!("PUT /latest/api/token HTTP/1.1\r\n{header}\r\n");
            assert_eq!(status_and_body(&mmds, &request), (400, body.to_owned()));
        }
    }
}

#[test]
fn a_token_comes_with_the_life_it_was_asked_for() {
    let mmds = mmds(Version::V2, false);
    let request =
        "PUT /latest//api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n";
    let (status, headers, body) = ask(&mmds, request);
    assert_eq!(status, 200);
    assert!(headers.contains("X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
    assert!(mmds.is_valid_token(&body));
}

#[test]
fn half_a_request_waits_and_two_are_answered_one_by_one() {
    let mmds = mmds(Version::V1, false);
    let one = b"GET /latest HTTP/1.1\r\nHost: x\r\n\r\n";
    for len in 0..one.len() {
        assert_eq!(answer(&mmds, &one[..len]), None, "{len} bytes");
    }
    let two = [&one[..], &one[..]].concat();
    let first = answer(&mmds, &two).unwrap();
    assert_eq!((first.used, first.closes), (one.len(), false));
}

#[test]
fn a_body_has_to_come_along_and_a_get_has_none() {
    let mmds = mmds(Version::V1, false);
    let life = "X-metadata-token-ttl-seconds: 60\r\n";
    let whole = format!("PUT /latest/api/token HTTP/1.1\r\n{life}Content-Length: 4\r\n\r\nbody");
    assert_eq!(ask(&mmds, &whole).0, 200);
    for request in [
        "GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
        format!("PUT /latest/api/token HTTP/1.1\r\n{life}Content-Length: 100\r\n\r\nbody"),
        format!("PUT /latest/api/token HTTP/1.1\r\n{life}Content-Length: +4\r\n\r\nbody"),
        format!(
            "PUT /latest/api/token HTTP/1.1\r\n{life}Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody!"
        ),
        format!(
            "PUT /latest/api/token HTTP/1.1\r\n{life}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", usize::MAX),
    ] {
        let answer = answer(&mmds, request.as_bytes()).unwrap();
        assert!(answer.closes, "{request}");
        assert!(answer.bytes.ends_with(b"\r\n\r\nInvalid request."));
    }
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let mmds = mmds(Version::V1, false);
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST_REQUEST));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
    for request in [
        "\0\0\0\0",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / \r\n\r\n",
        "A: b\r\n\r\n",
        &long,
        &headers,
    ] {
        let answer = answer(&mmds, request.as_bytes()).unwrap();
        assert!(answer.closes && answer.bytes.starts_with(b"HTTP/1.1 400 "));
        assert_eq!(answer.used, request.len());
    }
}

#[test]
fn a_connection_stays_unless_somebody_wants_its_end() {
    let mmds = mmds(Version::V1, false);
    for (version, header, closes) in [
        ("1.1", "", false),
        ("1.1", "Connection: close\r\n", true),
        ("1.1", "Connection: Keep-Alive, Close\r\n", true),
        ("1.0", "", true),
        ("1.0", "Connection: keep-alive\r\n", false),
    ] {
        let request = format!("GET /latest HTTP/{version}\r\n{header}\r\n");
        let answer = answer(&mmds, request.as_bytes()).unwrap();
        assert_eq!(answer.closes, closes, "{request}");
        let says = if closes { "close" } else { "keep-alive" };
        let text = String::from_utf8(answer.bytes).unwrap();
        assert!(text.starts_with(&format!("HTTP/{version} 200 \r\n")));
        assert!(text.contains(&format!("Connection: {says}\r\n")));
    }
}

#[test]
fn noise_is_answered_or_waited_for() {
    let mmds = mmds(Version::V2, false);
    let mut dice = crate::virtio::contract::Dice::new(0x5eed);
    let whole =
        b"GET /latest/meta-data HTTP/1.1\r\nX-metadata-token: 00\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..20_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..dice.pick(&[1, 2, 5, 40]) {
            let at = usize::try_from(dice.roll() >> 33).unwrap() % bytes.len();
            bytes[at] = dice.pick(b"\r\n\0 /:%~\xff0aA\x7f");
        }
        if let Some(answer) = answer(&mmds, &bytes) {
            assert!(answer.used <= bytes.len() && answer.used > 0);
            assert!(
                !answer.bytes.starts_with(b"HTTP/1.1 200"),
                "without a token"
            );
        }
    }
}
