//! One request of HTTP/1.1, from its bytes. Pure.
//!
//! What is strange is refused and not guessed at: two lengths, a transfer coding, a second `Authorization` or `Host`. Sizes
//! are bounded before anything is kept.

/// The bytes of a head, from the method to the empty line.
pub const HEAD: usize = 8 << 10;

/// The headers of a request.
pub const HEADERS: usize = 32;

/// The bytes of a body.
pub const BODY: usize = 256 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// To read.
    Get,
    /// The same, without a body in the answer.
    Head,
    /// To ask for something.
    Post,
    /// Nothing that is done here.
    Other,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What is asked for.
    pub method: Method,
    /// Of what: a path without a query.
    pub path: String,
    /// What stands behind `Bearer` in `Authorization`.
    pub token: Option<Vec<u8>>,
    /// The bytes of the body.
    pub length: usize,
    /// Whether the client waits for a word before it sends the body.
    pub waits: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 400: it is no request, for this reason.
    Malformed(&'static str),
    /// 411: it does not say how long its body is.
    NoLength,
    /// 413: its body is too large.
    BodyTooLarge,
    /// 431: its head is too large.
    HeadTooLarge,
    /// 505: of another version of HTTP.
    Version,
}

/// Reads a head from what has come so far, and gives it back with its length; nothing while it is not whole.
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes.get(..HEAD).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD => return Err(Refused::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Refused::Version),
        Err(_) => return Err(Refused::Malformed("this is no request of HTTP/1.1")),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => Method::Other,
    };
    let path = path(request.path.unwrap_or_default())?;
    let mut head = Head {
        method,
        path,
        token: None,
        length: 0,
        waits: false,
    };
    let (mut hosts, mut lengths, mut authorizations) = (0, 0, 0);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("host") {
            hosts += 1;
        } else if is("content-length") {
            lengths += 1;
            head.length = content_length(header.value)?;
        } else if is("transfer-encoding") {
            return Err(Refused::NoLength);
        } else if is("authorization") {
            authorizations += 1;
            head.token = bearer(header.value);
        } else if is("expect") {
            head.waits = header.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    if lengths > 1 {
        return Err(Refused::Malformed("there are several Content-Length"));
    }
    if authorizations > 1 {
        return Err(Refused::Malformed("there are several Authorization"));
    }
    // HTTP/1.0 has none
    if hosts > 1 || (hosts == 0 && request.version == Some(1)) {
        return Err(Refused::Malformed("there must be one Host"));
    }
    if head.length > BODY {
        return Err(Refused::BodyTooLarge);
    }
    Ok(Some((head, length)))
}

/// The path of a target: `/a?b`, or `http://host/a`.
fn path(target: &str) -> Result<String, Refused> {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&scheme) => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    if !path.starts_with('/') {
        return Err(Refused::Malformed("this is no path"));
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Ok(path.to_owned())
}

fn content_length(value: &[u8]) -> Result<usize, Refused> {
    let text = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refused::Malformed("Content-Length is no number"));
    }
    // more digits than a number has are too much in any case
    text.parse().map_err(|_| Refused::BodyTooLarge)
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str) -> Head {
        Head {
            method: Method::Get,
            path: path.to_owned(),
            token: None,
            length: 0,
            waits: false,
        }
    }

    fn parsed(text: &str) -> Result<Head, Refused> {
        let (head, length) = parse(text.as_bytes())?.unwrap_or_else(|| panic!("{text}: not whole"));
        assert_eq!(length, text.find("\r\n\r\n").unwrap() + 4);
        Ok(head)
    }

    #[test]
    fn heads_are_read() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", head("/")),
            ("GET /health HTTP/1.0\r\n\r\n", head("/health")),
            ("GET /?a=b#c HTTP/1.1\r\nHost:\r\n\r\nrest", head("/")),
            (
                "GET http://h:1/metrics?x HTTP/1.1\r\nHost: h\r\n\r\n",
                head("/metrics"),
            ),
            ("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", head("/")),
            (
                "HEAD / HTTP/1.1\r\nhOsT: h\r\nX: y\r\n\r\n",
                Head {
                    method: Method::Head,
                    ..head("/")
                },
            ),
            (
                "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
                Head {
                    method: Method::Other,
                    ..head("/")
                },
            ),
            (
                "POST /repair/a HTTP/1.1\r\nHost: h\r\nAuthorization: bearer  abc= \r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello",
                Head {
                    method: Method::Post,
                    token: Some(b"abc=".to_vec()),
                    length: 5,
                    waits: true,
                    ..head("/repair/a")
                },
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic abc\r\n\r\n",
                head("/"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer\r\n\r\n",
                head("/"),
            ),
        ] {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_strange_is_refused() {
        use Refused::{BodyTooLarge, Malformed, NoLength, Version};
        for (text, why) in [
            (
                "GET / HTTP/1.1\r\n\r\n",
                Malformed("there must be one Host"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                Malformed("there must be one Host"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                Malformed("there are several Content-Length"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
                Malformed("Content-Length is no number"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                Malformed("Content-Length is no number"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 262145\r\n\r\n",
                BodyTooLarge,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                BodyTooLarge,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                NoLength,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ntransfer-encoding: identity\r\n\r\n",
                NoLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
                Malformed("there are several Authorization"),
            ),
            (
                "GET admin HTTP/1.1\r\nHost: a\r\n\r\n",
                Malformed("this is no path"),
            ),
            (
                "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
                Malformed("this is no path"),
            ),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
            (
                "GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n",
                Malformed("this is no request of HTTP/1.1"),
            ),
            (
                "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
                Malformed("this is no request of HTTP/1.1"),
            ),
            (
                "\u{16}\u{3}\u{1} TLS\r\n\r\n",
                Malformed("this is no request of HTTP/1.1"),
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_bounded_and_read_in_any_pieces() {
        let whole = "POST /repair/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
        for end in 0..whole.len() - 2 {
            assert_eq!(parse(&whole.as_bytes()[..end]), Ok(None), "{end}");
        }
        assert!(parse(whole.as_bytes()).unwrap().is_some());
        let long = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(bytes));
        assert_eq!(parse(long(HEAD).as_bytes()), Err(Refused::HeadTooLarge));
        assert_eq!(parse(long(HEAD - 100).as_bytes()), Ok(None));
        // its end comes too late
        let late = long(HEAD) + "\r\n\r\n";
        assert_eq!(parse(late.as_bytes()), Err(Refused::HeadTooLarge));
        let many = |headers| {
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "A: b\r\n".repeat(headers)
            )
        };
        assert!(parse(many(HEADERS - 1).as_bytes()).unwrap().is_some());
        assert_eq!(parse(many(HEADERS).as_bytes()), Err(Refused::HeadTooLarge));
    }
}
