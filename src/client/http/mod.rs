//! HTTP/1.1 requests, as many side by side as there are, in one thread and each within one deadline.
//!
//! Parsing and framing are those of `ureq-proto`, the protocol of ureq without its sockets: bodies in chunks, of a known
//! length or until the connection closes, interim answers, and what has no body. Whatever a server sends, a request ends in
//! time with an answer or a [`Failure`], and takes no more memory than its limits: [`HEAD_LIMIT`] and what the request
//! says of the body.
//!
//! Each request has a connection of its own. A [`Proxy`] is used only where the request names one, whatever the environment
//! says: what a check finds is the same in a run by cron and in one from a shell.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
pub use ureq_proto::http::header;
pub use ureq_proto::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Address, Outcome, Step, converse};
use crate::clock::rough;
use crate::text::{cut, printable, visible};

mod exchange;
mod no_proxy;
mod proxy;
mod redirect;
pub mod secrets;
#[cfg(test)]
mod tests;
mod url;

use self::exchange::Errand;
pub use self::proxy::Proxy;
use self::secrets::masked_where_cut;
pub use self::url::Url;
pub(super) use self::url::unescaped;

/// So much of an answer may come before its body, interim answers included.
pub const HEAD_LIMIT: usize = 64 << 10;

/// Redirects that are followed at most.
pub const MOST_REDIRECTS: u32 = 5;

/// Who asks.
const USER_AGENT: &str = concat!("watchdog/", env!("CARGO_PKG_VERSION"));

/// Of what is not HTTP, so many bytes are shown.
const SHOWN: usize = 100;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Whom.
    pub url: Url,
    /// Headers beside `Host`, `Connection`, `Accept-Encoding` and those of the body.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent behind them.
    pub body: Option<Vec<u8>>,
    /// What is said in `Host`, and what the certificate has to show, where that is not the name in the URL.
    pub host: Option<String>,
    /// Authorities to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy on the way.
    pub proxy: Option<Proxy>,
    /// So many redirects are followed, [`MOST_REDIRECTS`] at most. They carry no headers to another host, nor from https
    /// to http.
    pub redirects: u32,
    /// What is never shown, whoever repeats it.
    pub secrets: Vec<String>,
    /// The body of an answer, and where it redirects to, are handed on without them.
    pub is_masked: bool,
    /// So much of the body is read. What is beyond is not, and is no failure.
    pub body_limit: usize,
    /// So much of that is kept.
    pub body_kept: usize,
    /// It is sent once at most: where one address has taken the connection, no other one is tried.
    pub is_sent_once: bool,
}

impl Request {
    /// A request that sends nothing beside.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: None,
            host: None,
            ca_file: None,
            proxy: None,
            redirects: 0,
            secrets: Vec::new(),
            is_masked: false,
            body_limit: 1 << 20,
            body_kept: 1 << 20,
            is_sent_once: false,
        }
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// `200 OK`.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it was kept.
    pub body: Vec<u8>,
    /// How much of the body was read.
    pub body_length: usize,
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Answered<A = Response> {
    /// What was made of the answer.
    pub answer: A,
    /// Who answered, after redirects.
    pub url: Url,
    /// When the certificate ends, where that is [soon](super::EXPIRY_WARNING).
    pub certificate_ends: Option<SystemTime>,
    /// How long it took from the first connection on.
    pub took: Duration,
}

/// A request that was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who was asked last, after redirects.
    pub url: Box<Url>,
    /// Whether there were any.
    pub was_redirected: bool,
    /// The proxy that was on the way.
    pub proxy: Option<Box<Proxy>>,
    /// All of the request may have been sent: the other side may have done what it asks for.
    pub was_sent: bool,
    /// Why there is no answer.
    pub cause: Cause,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It could not be asked, which says nothing about the other side. The text continues a sentence that begins with the
    /// URL.
    NotAsked(String),
    /// What failed, at each address that was tried.
    Failed(Vec<super::Failure<Wrong>>),
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The connection was closed without one.
    None,
    /// It is not HTTP.
    NotHttp {
        /// Its first bytes.
        first: Vec<u8>,
    },
    /// It is TLS, and plain HTTP was spoken.
    Tls,
    /// The head is longer than [`HEAD_LIMIT`].
    HeadTooLong,
    /// The head is no right one; the text says why.
    Head(String),
    /// The connection was closed within the head.
    HeadCutOff,
    /// The connection was closed within the body.
    BodyCutOff {
        /// The status.
        status: StatusCode,
        /// How much of the body had come.
        received: usize,
        /// How long it should have been, where that was said.
        length: Option<u64>,
    },
    /// The body is not framed as it has to be; the text says why.
    Body {
        /// The status.
        status: StatusCode,
        /// What is wrong.
        why: String,
    },
    /// It was not whole at the end of the timeout.
    Unfinished {
        /// The timeout.
        after: Duration,
        /// The status, where it had come.
        status: Option<StatusCode>,
        /// How much of the body had come.
        received: usize,
    },
    /// It redirects more often than is followed.
    Redirects(u32),
    /// It redirects to where it cannot be followed; the text says why.
    Redirect(String),
    /// The request cannot be sent; the text says why.
    Unsendable(String),
}

/// Sends all requests, each within its own timeout, and returns what each came to, in their order. Those that are not over
/// when the run has to end say nothing about the other side.
pub fn send(
    requests: Vec<(Request, Duration)>,
    run_ends: Instant,
) -> Vec<Result<Answered, Failure>> {
    ask(requests, run_ends, &|_, response| response)
}

/// As [`send`], but only what `then` makes of each answer is kept: the bodies of a thousand are large.
pub fn ask<A>(
    requests: Vec<(Request, Duration)>,
    run_ends: Instant,
    then: &dyn Fn(usize, Response) -> A,
) -> Vec<Result<Answered<A>, Failure>> {
    let errands = requests.into_iter().enumerate();
    let errands = errands
        .map(|(number, (request, timeout))| (Errand::new(request, number, then), timeout))
        .collect();
    let ended = converse(errands, run_ends);
    ended
        .into_iter()
        .map(|(errand, outcome)| {
            let was_redirected = errand.redirected > 0;
            let was_sent = errand.was_sent.get();
            let proxy = errand.request.proxy.clone().map(Box::new);
            let failure = |url, cause| Failure {
                url: Box::new(url),
                was_redirected,
                proxy,
                was_sent,
                cause,
            };
            match outcome {
                Outcome::Passed {
                    answer,
                    certificate_ends,
                    took,
                } => Ok(Answered {
                    answer,
                    url: errand.url,
                    certificate_ends,
                    took,
                }),
                Outcome::NotAsked(why) => Err(failure(errand.url, Cause::NotAsked(why))),
                Outcome::Failed(failures) => Err(failure(errand.url, Cause::Failed(failures))),
            }
        })
        .collect()
}

impl fmt::Display for Wrong {
    /// The rest of a sentence that begins with the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("closed the connection without an answer"),
            Self::NotHttp { first } => write!(
                f,
                "answered with something that is not HTTP/1: `{}`",
                printable(first, SHOWN)
            ),
            Self::Tls => {
                f.write_str("answers with TLS, not with plain HTTP; write https:// in its URL")
            }
            Self::HeadTooLong => {
                f.write_str("sends a head without end: more than 64 KiB before the body")
            }
            Self::Head(why) => write!(f, "answered with a broken head: {}", visible(why)),
            Self::HeadCutOff => f.write_str("closed the connection in the middle of its answer"),
            Self::BodyCutOff {
                status,
                received,
                length,
            } => {
                write!(
                    f,
                    "answered {}, and closed the connection before the body was whole: {received} ",
                    shown(*status)
                )?;
                match length {
                    Some(length) => write!(f, "of {length} bytes came"),
                    None => f.write_str("bytes of it came"),
                }
            }
            Self::Body { status, why } => write!(
                f,
                "answered {}, with a body that is not framed right: {}",
                shown(*status),
                visible(why)
            ),
            Self::Unfinished {
                after,
                status,
                received,
            } => {
                let after = rough(*after);
                match status {
                    None => write!(
                        f,
                        "timed out after {after}: it began to answer, and did not finish the head"
                    ),
                    Some(status) => write!(
                        f,
                        "timed out after {after}: it answered {}, and did not finish the body ({received} bytes came)",
                        shown(*status)
                    ),
                }
            }
            Self::Redirects(count) => {
                write!(f, "redirected for the {count}. time; it may be a loop")
            }
            Self::Redirect(why) => f.write_str(why),
            Self::Unsendable(why) => write!(f, "cannot be asked: {}", visible(why)),
        }
    }
}

/// A status as people know it: `503 Service Unavailable`.
pub fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Where somebody redirects to, for people: others wrote it, and a secret may be in it. It is masked before it is cut: a
/// part of a secret would not be known again.
fn location(text: &str, secrets: &[String]) -> String {
    let without_user = |rest: &str| {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{host}{path}")
    };
    let bare = text.split(['?', '#']).next().unwrap_or_default();
    let bare = match bare.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", without_user(rest)),
        None => match bare.strip_prefix("//") {
            Some(rest) => format!("//{}", without_user(rest)),
            None => bare.to_owned(),
        },
    };
    cut(&visible(&masked_where_cut(&bare, secrets)), SHOWN)
}

/// Where a response redirects to, for people, without these secrets.
pub fn redirects_to(headers: &HeaderMap, secrets: &[String]) -> Option<String> {
    let text = headers.get(header::LOCATION)?;
    let text = String::from_utf8_lossy(text.as_bytes());
    Some(location(&text, secrets))
}

/// Whether a text can stand in `Host`, and where TLS is spoken, be the name of a certificate.
pub fn is_name_of_host(text: &str, is_tls: bool) -> bool {
    let name = exchange::bare(text);
    let is_host = Address::parse(&format!("{name}:1")).is_ok();
    is_host && (!is_tls || super::tls::is_name(name))
}

/// What proves who a user is, as a header has it.
pub fn basic(user: &[u8], password: &[u8]) -> Option<HeaderValue> {
    let both = [user, b":", password].concat();
    let text = format!("Basic {}", BASE64_STANDARD.encode(both));
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Failure {
    /// What happened, as a whole sentence that begins with whom `shown` names.
    pub fn sentence(&self, shown: &str) -> String {
        let who = if self.was_redirected {
            format!("{shown} redirects to {}, which", self.url)
        } else {
            shown.to_owned()
        };
        let (who, address) = match &self.proxy {
            None => (who, self.url.address()),
            Some(proxy) if self.is_of_proxy() => {
                (format!("{who}: the proxy {proxy}"), &proxy.address)
            }
            Some(proxy) => (
                format!("{who}, asked through the proxy {proxy},"),
                &proxy.address,
            ),
        };
        match &self.cause {
            Cause::NotAsked(why) => format!("{who} {why}"),
            Cause::Failed(failures) => {
                super::failed(&who, address, failures, |fault| sentence(address, fault))
            }
        }
    }

    /// Whether the proxy failed, and nobody behind it was asked.
    fn is_of_proxy(&self) -> bool {
        let is_of_proxy = |fault: &super::Fault<Wrong>| match fault {
            super::Fault::Reset(step)
            | super::Fault::HungUp(step)
            | super::Fault::TimedOut { step, .. } => matches!(step, Step::Connect | Step::Tunnel),
            super::Fault::Answer(_) | super::Fault::NoTls(_) | super::Fault::Certificate(_) => {
                false
            }
            _ => true,
        };
        match &self.cause {
            Cause::NotAsked(_) => true,
            Cause::Failed(failures) => failures.iter().all(|it| is_of_proxy(&it.fault)),
        }
    }
}

fn sentence(address: &Address, fault: &super::Fault<Wrong>) -> String {
    let said = super::sentence(address, fault, true, ToString::to_string);
    match fault {
        super::Fault::NoTls(why) if why == super::tls::NOT_TLS => {
            format!("{said}; write http:// in its URL if that is meant")
        }
        _ => said,
    }
}
