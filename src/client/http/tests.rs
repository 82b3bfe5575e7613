//! Requests to real listeners, most of which misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::client::{Exchange, Heard, Talk};

/// A part of a line without end.
const LINE: &[u8] = &[b'x'; 4096];
/// For what does not wait for it: a machine under load may be slow.
const LONG: Duration = Duration::from_secs(30);
/// For what has to wait for its end.
const SHORT: Duration = Duration::from_secs(1);

fn far() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn get(text: &str) -> Request {
    Request::new(Method::GET, url(text))
}

fn ask_one(request: Request, timeout: Duration) -> Result<Answered, Failure> {
    send(vec![(request, timeout)], far()).remove(0)
}

/// What a failure is called, without the number of the port.
fn told(result: Result<Answered, Failure>) -> String {
    let failure = result.unwrap_err();
    failure.sentence("it")
}

/// Reads a request to the end of its head.
fn head_of(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A server that does this with each connection, after it has read the head of a request.
fn serve(act: impl Fn(&str, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            act(&head_of(&mut stream), stream);
        }
    });
    address
}

/// A server that answers with these bytes, and closes the connection when the client has.
fn answering(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    serve(move |_, mut stream| {
        let _ = stream.write_all(&answer);
        drain(&stream);
    })
}

/// A server that answers with these bytes, and closes the connection.
fn closing(answer: impl Into<Vec<u8>>) -> String {
    let answer = answer.into();
    serve(move |_, mut stream| {
        let _ = stream.write_all(&answer);
    })
}

/// A server that sends `first`, and then `again` without end; with a pause between where it is slow.
fn endless(first: &'static [u8], again: &'static [u8], pause: Option<Duration>) -> String {
    serve(move |_, mut stream| {
        let (_never, tick): (Sender<()>, Receiver<()>) = channel();
        let _ = stream.write_all(first);
        while stream.write_all(again).is_ok() {
            if let Some(pause) = pause {
                let _ = tick.recv_timeout(pause);
            }
        }
    })
}

fn drain(mut stream: &TcpStream) {
    let mut bytes = [0; 1024];
    while matches!(stream.read(&mut bytes), Ok(length) if length > 0) {}
}

#[test]
fn a_request_says_who_asks_and_the_answer_is_taken_apart() {
    let (say, heard) = channel();
    let say = std::sync::Mutex::new(say);
    let address = serve(move |head, mut stream| {
        say.lock().unwrap().send(head.to_owned()).unwrap();
        let answer =
            "HTTP/1.1 200 OK\r\nX-Version: 7\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
        stream.write_all(answer.as_bytes()).unwrap();
        drain(&stream);
    });
    let answered = ask_one(get(&format!("http://{address}/health")), LONG).unwrap();
    assert_eq!(answered.answer.status, StatusCode::OK);
    assert_eq!(answered.answer.body, br#"{"status":"ok"}"#);
    assert_eq!(answered.answer.body_length, 15);
    assert_eq!(answered.answer.headers["x-version"], "7");
    assert_eq!(answered.certificate_ends, None);
    assert!(answered.took < LONG);
    let request = heard.recv().unwrap();
    let mut lines: Vec<&str> = request.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "GET /health HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: */*",
            "connection: close",
            &format!("host: {address}"),
            &format!("user-agent: watchdog/{}", env!("CARGO_PKG_VERSION")),
        ]
    );
    // all that may be said
    let full = Request {
        body: Some(b"{}".to_vec()),
        host: Some("api.example.org".to_owned()),
        headers: vec![
            (header::USER_AGENT, HeaderValue::from_static("probe")),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            (header::COOKIE, HeaderValue::from_static("a=1")),
            (header::COOKIE, HeaderValue::from_static("b=2")),
        ],
        ..Request::new(
            Method::POST,
            url(&format!("http://us%40er:p%3Aw@{address}?q=1")),
        )
    };
    assert!(ask_one(full, LONG).is_ok());
    let request = heard.recv().unwrap();
    let mut lines: Vec<&str> = request.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "POST /?q=1 HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            "accept: application/json",
            // us@er:p:w
            "authorization: Basic dXNAZXI6cDp3",
            "connection: close",
            "content-length: 2",
            "cookie: a=1",
            "cookie: b=2",
            "host: api.example.org",
            "user-agent: probe",
        ]
    );
}

#[test]
fn each_way_to_frame_a_body_is_understood() {
    let body = |answer: &str| {
        let request = get(&format!("http://{}/", closing(answer)));
        let answered = ask_one(request, LONG).unwrap().answer;
        assert_eq!(answered.body.len(), answered.body_length);
        String::from_utf8(answered.body).unwrap()
    };
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "hello",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\n\r\nuntil it closes", "until it closes"),
        ("HTTP/1.0 200 OK\r\n\r\nof old", "of old"),
        ("HTTP/1.1 200\r\n\r\nwithout a reason", "without a reason"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n",
            "hello world",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
            "hello",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ""),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ] {
        assert_eq!(body(answer), expected, "{answer}");
    }
    // what says how long it is, and is none
    let head = Request::new(
        Method::HEAD,
        url(&format!(
            "http://{}/",
            answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        )),
    );
    assert_eq!(ask_one(head, LONG).unwrap().answer.body_length, 0);
    // byte by byte
    let slow = serve(|_, mut stream| {
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        drain(&stream);
    });
    let answered = ask_one(get(&format!("http://{slow}/")), LONG).unwrap();
    assert_eq!(answered.answer.body, b"abc");
}

#[test]
fn a_large_request_and_an_early_answer_go_together() {
    let address = serve(|head, mut stream| {
        assert!(head.contains("content-length: 8388608\r\n"), "{head}");
        // it does not want it
        let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        drain(&stream);
    });
    let large = Request {
        body: Some(vec![b'x'; 8 << 20]),
        ..Request::new(Method::POST, url(&format!("http://{address}/")))
    };
    let status = ask_one(large, LONG).unwrap().answer.status;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn what_is_beyond_the_limit_is_not_read_and_is_no_failure() {
    let limited = |address: String, limit, kept| {
        let request = Request {
            body_limit: limit,
            body_kept: kept,
            ..get(&format!("http://{address}/"))
        };
        let answer = ask_one(request, LONG).unwrap().answer;
        (answer.body.len(), answer.body_length)
    };
    let flood = || endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 4096], None);
    assert_eq!(limited(flood(), 100_000, 1000), (1000, 100_000));
    let chunks = endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"a\r\n0123456789\r\n",
        None,
    );
    assert_eq!(limited(chunks, 100_000, 100_000), (100_000, 100_000));
    // it says that it is of 1 GiB, and there it stands
    let gib = answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
        1 << 30,
        "b".repeat(5000)
    ));
    assert_eq!(limited(gib, 5000, 5000), (5000, 5000));
    let exactly = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(limited(exactly, 5, 5), (5, 5));
}

#[test]
fn silence_at_each_step_ends_with_the_timeout_and_says_what_came() {
    for (first, expected) in [
        (
            &b""[..],
            "it timed out after 1s: it accepted the connection and sent nothing",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: ",
            "it timed out after 1s: it began to answer, and did not finish the head",
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            "it timed out after 1s: it began to answer, and did not finish the head",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "it timed out after 1s: it answered 200 OK, and did not finish the body (4 bytes came)",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n9",
            "it timed out after 1s: it answered 503 Service Unavailable, and did not finish the body (0 bytes came)",
        ),
    ] {
        let request = get(&format!("http://{}/", answering(first)));
        assert_eq!(told(ask_one(request, SHORT)), expected);
    }
    // accepted by the kernel for a program that does not
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = get(&format!("http://{}/", frozen.local_addr().unwrap()));
    assert_eq!(
        told(ask_one(request, SHORT)),
        "it timed out after 1s: it accepted the connection and sent nothing"
    );
    // TLS that is never answered
    let request = get(&format!("https://{}/", frozen.local_addr().unwrap()));
    let said = told(ask_one(request, SHORT));
    assert!(
        said.ends_with("it accepted the connection and did not finish the TLS handshake")
            || said.contains("no certificate authority"),
        "{said}"
    );
}

#[test]
fn one_that_dribbles_is_cut_off_at_the_deadline() {
    let pause = Some(Duration::from_millis(20));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (first, again, expected) in [
        (
            &b"HTTP/1.1 200 OK\r\n"[..],
            &b"x"[..],
            "did not finish the head",
        ),
        (b"", b"\r\n", "did not finish the head"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
            b"x",
            "did not finish the body",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x", "did not finish the body"),
        (chunked, b"1\r\nx\r\n", "did not finish the body"),
    ] {
        let request = get(&format!("http://{}/", endless(first, again, pause)));
        let said = told(ask_one(request, SHORT));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_has_no_end_is_refused_at_its_limit() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (first, again, expected) in [
        (
            &b"HTTP/1.1 200 OK\r\n"[..],
            &b"A: b\r\n"[..],
            "it answered with a broken head: more than 128 headers",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: ",
            LINE,
            "it sends a head without end: more than 64 KiB before the body",
        ),
        (
            b"",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            "it sends a head without end: more than 64 KiB before the body",
        ),
        (
            b"",
            b"\r\n\r\n",
            "it sends a head without end: more than 64 KiB before the body",
        ),
        (
            chunked,
            b"1;x=",
            "it answered 200 OK, with a body that is not framed right: ",
        ),
        (
            chunked,
            b"1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\nz\r\n",
            "it answered 200 OK, with a body that is not framed right: ",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-Trailer: 1\r\n",
            "it answered 200 OK, with a body that is not framed right: there is more of the frame than of the content",
        ),
    ] {
        let request = get(&format!("http://{}/", endless(first, again, None)));
        let said = told(ask_one(request, LONG));
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn what_is_not_http_is_told_from_what_is_broken() {
    for (answer, expected) in [
        (&b""[..], "it closed the connection without an answer"),
        (
            b"<html>HTTP of 1991</html>",
            "it answered with something that is not HTTP/1: `<html>HTTP of 1991</html>`",
        ),
        (
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
            r"it answered with something that is not HTTP/1: `\x00\x00\x12\x04\x00\x00\x00\x00\x00`",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            r"it answered with something that is not HTTP/1: `PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a`",
        ),
        (
            b"220 smtp.example.org ESMTP\r\n",
            r"it answered with something that is not HTTP/1: `220 smtp.example.org ESMTP\x0d\x0a`",
        ),
        (
            b"\x1b]0;owned\x07",
            r"it answered with something that is not HTTP/1: `\x1b]0;owned\x07`",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x16",
            "it answers with TLS, not with plain HTTP; write https:// in its URL",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX",
            "it closed the connection in the middle of its answer",
        ),
        (
            b"HTTP",
            "it closed the connection in the middle of its answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX\x00Y: 1\r\n\r\n",
            "it answered with a broken head: invalid header name",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: a\x01b\r\n\r\n",
            "it answered with a broken head: invalid header value",
        ),
        (
            b"HTTP/1.1 099 Odd\r\n\r\n",
            "it answered with a broken head: invalid status code: 099",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            "it answered with a broken head: content-length header not a number",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "it answered with a broken head: ",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "it answered 200 OK, and closed the connection before the body was whole: 5 of 10 bytes came",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
            "it answered 200 OK, and closed the connection before the body was whole: 5 bytes of it came",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "it answered 200 OK, with a body that is not framed right: chunk length cannot be read as a number",
        ),
    ] {
        let request = get(&format!("http://{}/", closing(answer)));
        let said = told(ask_one(request, LONG));
        assert!(
            said.starts_with(expected),
            "{said}\nfor {:?}",
            answer.escape_ascii().to_string()
        );
    }
}

#[test]
fn bytes_that_were_not_asked_for_are_taken_as_they_are() {
    let gzip = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-Latin: \xe9\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08";
    let answered = ask_one(get(&format!("http://{}/", closing(&gzip[..]))), LONG).unwrap();
    assert_eq!(answered.answer.body, b"\x1f\x8b\x08");
    assert_eq!(answered.answer.headers["content-encoding"], "gzip");
}

#[test]
fn redirects_are_followed_where_that_is_asked_and_five_at_the_most() {
    let moving = |count: usize| {
        serve(move |head, mut stream| {
            let at: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap_or(0);
            let answer = if at < count {
                format!(
                    "HTTP/1.1 302 Found\r\nLocation: /{}\r\nContent-Length: 5\r\n\r\nmoved",
                    at + 1
                )
            } else {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{at}")
            };
            stream.write_all(answer.as_bytes()).unwrap();
        })
    };
    let following = |address: &str, redirects| Request {
        redirects,
        ..get(&format!("http://{address}/0"))
    };
    let five = moving(5);
    let answered = ask_one(following(&five, 5), LONG).unwrap();
    assert_eq!(answered.answer.body, b"5");
    assert_eq!(answered.url.to_string(), format!("http://{five}/5"));
    let answered = ask_one(following(&five, 0), LONG).unwrap().answer;
    assert_eq!(answered.status, StatusCode::FOUND);
    assert_eq!(answered.body, b"moved");
    assert_eq!(redirects_to(&answered.headers, &[]).unwrap(), "/1");
    let looping = moving(usize::MAX);
    for redirects in [5, 1000] {
        assert_eq!(
            told(ask_one(following(&looping, redirects), LONG)),
            format!(
                "it redirects to http://{looping}/5, which redirected for the 6. time; it may be a loop"
            )
        );
    }
}

#[test]
fn a_redirect_leads_to_no_other_scheme_and_tells_another_host_nothing() {
    let (say, heard) = channel();
    let say = std::sync::Mutex::new(say);
    let other = serve(move |head, mut stream| {
        say.lock().unwrap().send(head.to_owned()).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let to = |location: &str, status: &str| {
        let location = location.to_owned();
        let status = status.to_owned();
        serve(move |head, mut stream| {
            let answer = if head.contains(" /there ") {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                )
            } else {
                format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
            };
            stream.write_all(answer.as_bytes()).unwrap();
        })
    };
    let secret = |address: &str, method: Method| Request {
        redirects: 5,
        headers: vec![(
            HeaderName::from_static("x-api-key"),
            HeaderValue::from_static("canary"),
        )],
        body: (method == Method::POST).then(|| b"canary".to_vec()),
        ..Request::new(method, url(&format!("http://me:canary@{address}/")))
    };
    // to another port
    let away = to(&format!("http://{other}/x?token=1"), "302 Found");
    let answered = ask_one(secret(&away, Method::GET), LONG).unwrap();
    assert_eq!(answered.url.to_string(), format!("http://{other}/***"));
    let request = heard.recv().unwrap();
    assert!(
        request.starts_with("GET /x?token=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        !request.contains("canary") && !request.contains("authorization"),
        "{request}"
    );
    // within the host
    let home = to("/there", "302 Found");
    let answered = ask_one(secret(&home, Method::GET), LONG).unwrap();
    let request = String::from_utf8(answered.answer.body).unwrap();
    assert!(
        request.contains("x-api-key: canary") && request.contains("authorization: Basic "),
        "{request}"
    );
    // what was sent is not sent again
    let posted = ask_one(secret(&to("/there", "303 See Other"), Method::POST), LONG).unwrap();
    let request = String::from_utf8(posted.answer.body).unwrap();
    assert!(
        request.starts_with("GET /there") && !request.contains("content-length"),
        "{request}"
    );
    assert_eq!(
        told(ask_one(
            secret(&to("/there", "307 Temporary Redirect"), Method::POST),
            LONG
        )),
        "it answered 307 Temporary Redirect, and a POST is not sent twice"
    );
    for (location, ending) in [
        // no URL of any kind, so it is a path
        ("file:///etc/passwd", "it may be a loop"),
        ("http://[::1", "it may be a loop"),
        (
            "ftp://a.example/x",
            "redirects to `ftp://a.example/x`, which cannot be asked: only http and https can",
        ),
        (
            "\u{e9}",
            "answered 302 Found, and does not say where to: location header is malformed: \u{e9}",
        ),
    ] {
        let to = to(location, "302 Found");
        let said = told(ask_one(secret(&to, Method::GET), LONG));
        assert!(said.ends_with(ending), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
    // nothing listens there
    let nowhere = to("http://127.0.0.1:1/x", "302 Found");
    assert_eq!(
        told(ask_one(secret(&nowhere, Method::GET), LONG)),
        "it redirects to http://127.0.0.1:1/x, which refused the connection: nothing listens there"
    );
    // a redirect that says nothing is an answer
    let mute = answering("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
    let answered = ask_one(secret(&mute, Method::GET), LONG).unwrap();
    assert_eq!(answered.answer.status, StatusCode::FOUND);
}

#[test]
fn a_unix_socket_is_asked_and_its_redirects_stay_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = head_of(&mut stream);
            let answer = if head.starts_with("GET /health ") {
                "HTTP/1.1 301 Moved\r\nLocation: http://localhost/there\r\nContent-Length: 0\r\n\r\n".to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                )
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let at = |socket: &Path| Request {
        redirects: 1,
        ..get(&format!("unix:{}:/health", socket.display()))
    };
    let answered = ask_one(at(&path), LONG).unwrap();
    let head = String::from_utf8(answered.answer.body).unwrap();
    assert!(head.starts_with("GET /there HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: localhost\r\n"), "{head}");
    assert_eq!(
        answered.url.to_string(),
        format!("unix:{}:/there", path.display())
    );
    assert_eq!(
        told(ask_one(at(&directory.path().join("none")), LONG)),
        "it is closed: there is no such socket"
    );
}

#[test]
fn many_requests_go_side_by_side_and_only_what_is_made_of_answers_is_kept() {
    let well = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = frozen.local_addr().unwrap();
    let mut requests: Vec<_> = (0..40)
        .map(|n| (get(&format!("http://{silent}/{n}")), SHORT))
        .collect();
    requests.extend((0..40).map(|n| (get(&format!("http://{well}/{n}")), LONG)));
    let began = Instant::now();
    let results = ask(requests, far(), &|number, response| {
        (number, response.body_length)
    });
    assert!(began.elapsed() < LONG);
    for (number, result) in results.into_iter().enumerate() {
        if number < 40 {
            assert!(matches!(result.unwrap_err().cause, Cause::Failed(_)));
        } else {
            assert_eq!(result.unwrap().answer, (number, 2));
        }
    }
    assert!(send(Vec::new(), far()).is_empty());
    // what the run has no time for says nothing
    let soon = Instant::now() + Duration::from_millis(50);
    let result = send(vec![(get(&format!("http://{silent}/")), LONG)], soon).remove(0);
    assert!(matches!(result.unwrap_err().cause, Cause::NotAsked(_)));
}

#[test]
fn what_cannot_be_sent_is_said() {
    let well = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let odd_host = Request {
        host: Some("a\nb".to_owned()),
        ..get(&format!("http://{well}/"))
    };
    let said = told(ask_one(odd_host, LONG));
    assert!(said.starts_with("it cannot be asked: "), "{said}");
}

#[test]
fn urls_are_read_and_what_may_be_secret_is_never_shown() {
    for (text, shown) in [
        (
            "http://127.0.0.1:8080/health",
            "http://127.0.0.1:8080/health",
        ),
        ("http://127.0.0.1", "http://127.0.0.1/"),
        (
            "HTTPS://api.example.org/a%20b",
            "https://api.example.org/a%20b",
        ),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://api.example.org:/x", "http://api.example.org:/x"),
        (
            "https://me:canary@api.example.org:8443/health",
            "https://api.example.org:8443/***",
        ),
        (
            "https://canary@api.example.org",
            "https://api.example.org/***",
        ),
        ("http://127.0.0.1/x?token=canary", "http://127.0.0.1/***"),
        ("unix:/run/app.sock:/health", "unix:/run/app.sock:/health"),
        ("unix:/run/app.sock", "unix:/run/app.sock:/"),
        ("unix:/run/app.sock:/x?canary", "unix:/run/app.sock:/***"),
        ("unix:/run/a b.sock:/x:/y", "unix:/run/a b.sock:/x:/y"),
    ] {
        let url = Url::parse(text).unwrap();
        assert_eq!(url.to_string(), shown);
        assert_eq!(format!("{url:?}"), format!("Url({shown})"));
        assert_eq!(url.has_password(), text.contains('@'));
        if !text.contains("canary") {
            assert_eq!(Url::parse(shown).unwrap(), url);
        }
    }
    for (text, address, is_tls) in [
        ("http://127.0.0.1/x", "127.0.0.1:80", false),
        ("https://127.0.0.1/x", "127.0.0.1:443", true),
        ("https://me@[::1]:8443", "[::1]:8443", true),
        ("http://db.example:81", "db.example:81", false),
        ("unix:/run/x:/y", "unix:/run/x", false),
    ] {
        let url = Url::parse(text).unwrap();
        assert_eq!(url.address().to_string(), address);
        assert_eq!(url.is_tls(), is_tls);
    }
    for (text, part) in [
        ("", "there is no scheme"),
        (
            "localhost:8080/health",
            "there is no scheme; write \"http://…\"",
        ),
        ("/run/app.sock", "a unix socket is written with its kind"),
        (
            "ftp://canary:x@host/",
            "`ftp` cannot be asked; only http, https and unix can",
        ),
        ("http://", ""),
        ("http:///x", ""),
        ("http://host:0/", "`0` is not a port"),
        ("http://host:x/", ""),
        ("http://a..b/", "a part of it is empty"),
        ("http://300.1.1.1/", "is not an IPv4 address"),
        ("http://bücher.example/", "characters that no URL has"),
        ("http://host/a b", "a blank in it; write %20"),
        ("http://host/x#y", "behind `#` is never sent"),
        ("http://me:50%@host/", "a `%` that is no %XX; write %25"),
        ("unix:", "no path behind `unix:`"),
        (
            "unix://run/app.sock:/x",
            "the path of a unix socket follows `unix:`",
        ),
        ("unix:run/app.sock:/x", "begins with `/`"),
        ("unix:/run/app.sock:", "there is no path behind the socket"),
    ] {
        let error = Url::parse(text).unwrap_err();
        assert!(!error.is_empty() && error.contains(part), "{text}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_url_is_too_odd(text in "\\PC{0,40}|(http|https|unix)(://|:)[a-z0-9:./@%\\[\\]?#]{0,30}") {
        if let Ok(url) = Url::parse(&text) {
            let shown = url.to_string();
            prop_assert!(!shown.contains(['\r', '\n', '\x1b']));
            if !shown.ends_with("***") {
                prop_assert_eq!(Url::parse(&shown).unwrap().to_string(), shown);
            }
        }
    }

    #[test]
    fn no_answer_is_too_odd(
        begin in prop_oneof![
            Just(&b""[..]),
            Just(&b"HTTP/1.1 200 OK\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..]),
            Just(&b"HTTP/1.1 302 Found\r\nLocation: "[..]),
        ],
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n:;0123456789abcHTP/1. "[..])], 0..200),
        cut in 0_usize..200,
    ) {
        // as it may arrive: in two parts
        let whole = [begin, &bytes].concat();
        let cut = cut.min(whole.len());
        let (first, second) = whole.split_at(cut);
        let then: &dyn Fn(usize, Response) -> usize = &|_, response| response.body.len();
        let request = Request { redirects: 2, ..get("http://127.0.0.1:1/") };
        let mut asking = Errand::new(request, 0, then).begin();
        let now = Instant::now();
        let is_over = !matches!(asking.hear(first, false, now), Heard::Waiting)
            || !matches!(asking.hear(second, false, now), Heard::Waiting);
        if !is_over {
            prop_assert!(!matches!(asking.hear(&[], true, now), Heard::Waiting));
        }
    }
}

#[test]
fn what_is_sent_once_goes_to_no_second_address() {
    use crate::client::rounds::{Descriptors, Rounds};
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let addresses = [&first, &second].map(|it| it.local_addr().unwrap());
    // the first takes the connection and is silent
    thread::spawn(move || {
        for stream in second.incoming() {
            let mut stream = stream.unwrap();
            head_of(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for (is_sent_once, is_answered) in [(false, true), (true, false)] {
        let request = Request {
            body: Some(b"x".to_vec()),
            is_sent_once,
            ..Request::new(Method::POST, url(&format!("http://name.test:{port}/")))
        };
        let then = |_, response: Response| response;
        let errand = Errand::new(request, 0, &then);
        let was_sent = std::rc::Rc::clone(&errand.was_sent);
        let descriptors = Descriptors::new(8);
        let mut rounds = Rounds::new(vec![(errand, SHORT)], far(), &descriptors);
        rounds.helpers = None;
        for known in rounds.names.values_mut() {
            *known = Some(Ok(addresses.to_vec()));
        }
        let (_, outcome) = rounds.run().remove(0);
        let was_answered = matches!(outcome, Outcome::Passed { .. });
        assert_eq!(was_answered, is_answered, "once: {is_sent_once}");
        assert!(was_sent.get(), "it may have been taken");
    }
}

#[test]
fn a_failure_says_whether_the_request_was_sent() {
    let request = |address: &str| Request {
        body: Some(vec![b'x'; 1 << 20]),
        ..Request::new(Method::POST, url(&format!("http://{address}/")))
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = free.local_addr().unwrap().to_string();
    drop(free);
    // takes all of it, and says nothing
    let silent = serve(|_, mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    for (address, was_sent) in [(refusing, false), (silent, true)] {
        let failure = ask_one(request(&address), SHORT).unwrap_err();
        assert_eq!(failure.was_sent, was_sent, "{}", failure.sentence("it"));
    }
}

#[test]
fn a_refusal_before_all_was_read_is_heard_though_it_breaks_the_connection() {
    // the head is read, and the body is not: the close resets the connection behind the answer
    let server = closing("HTTP/1.0 413 Too Large\r\nConnection: close\r\n\r\ntoo lar");
    let request = |is_sent_once| Request {
        body: Some(vec![b'x'; 100_000]),
        is_sent_once,
        ..Request::new(Method::POST, url(&format!("http://{server}/")))
    };
    let answered = ask_one(request(true), LONG).unwrap();
    assert_eq!(answered.answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    // of a success nobody can tell whether it was all of it
    let server = closing("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhalf of i");
    let cut = Request {
        url: url(&format!("http://{server}/")),
        ..request(true)
    };
    let said = told(ask_one(cut, LONG));
    assert!(said.starts_with("it reset the connection"), "{said}");
}
