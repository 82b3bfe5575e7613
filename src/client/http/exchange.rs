//! One request over one connection: the protocol is driven with what arrives, within the limits of the request.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ureq_proto::BodyMode;
use ureq_proto::client::state::{Prepare, RecvBody, RecvResponse, Redirect};
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult, SendRequestResult};
use ureq_proto::http;

use super::secrets::{masked, masked_where_cut};
use super::{
    HEAD_LIMIT, HeaderMap, HeaderValue, Method, Proxy, Request, Response, SHOWN, StatusCode,
    USER_AGENT, Url, Wrong, header,
};
use crate::client::{Exchange, Heard, Protection, Talk, Target};

/// What of a body is not its content (the sizes of chunks, say) may be so long, and so many times the content.
const FRAMING_LIMIT: usize = 64 << 10;
const FRAMING_TIMES: usize = 8;

/// So much of the body of a redirect is read.
const REDIRECT_BODY_LIMIT: usize = 64 << 10;

/// The size of one step through a body.
const STEP: usize = 16 << 10;

/// A request on its way, perhaps redirected.
pub(super) struct Errand<'a, A> {
    pub(super) request: Rc<Request>,
    pub(super) number: usize,
    /// Whom it is sent to now.
    pub(super) url: Url,
    pub(super) method: Method,
    /// It is sent with the headers and the body that belong to the host that was meant.
    pub(super) is_trusted: bool,
    pub(super) has_body: bool,
    /// How many redirects led to here.
    pub(super) redirected: u32,
    pub(super) then: &'a dyn Fn(usize, Response) -> A,
    pub(super) target: Target,
    /// All of it was sent over some connection.
    pub(super) was_sent: Rc<Cell<bool>>,
}

impl<A> Clone for Errand<'_, A> {
    fn clone(&self) -> Self {
        Self {
            request: Rc::clone(&self.request),
            number: self.number,
            url: self.url.clone(),
            method: self.method.clone(),
            is_trusted: self.is_trusted,
            has_body: self.has_body,
            redirected: self.redirected,
            then: self.then,
            target: self.target.clone(),
            was_sent: Rc::clone(&self.was_sent),
        }
    }
}

/// How to connect to where a request is sent.
pub(super) fn target(request: &Request, url: &Url, is_trusted: bool) -> Target {
    let host = request.host.as_deref().filter(|_| is_trusted);
    let name = || match host {
        Some(host) => bare(host).to_owned(),
        None => url.address().server_name().unwrap_or_default(),
    };
    let proxy = request.proxy.as_ref();
    Target {
        address: proxy.map_or_else(|| url.address().clone(), |it| it.address.clone()),
        tunnel: proxy.and_then(|proxy| proxy.tunnel(url)),
        tls: url.is_tls().then(|| Protection {
            name: name(),
            ca_file: request.ca_file.clone(),
        }),
    }
}

/// A host without its port.
pub(super) fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') => {
            name
        }
        _ => host,
    }
}

impl<'a, A> Errand<'a, A> {
    pub(super) fn new(
        request: Request,
        number: usize,
        then: &'a dyn Fn(usize, Response) -> A,
    ) -> Self {
        Self {
            number,
            url: request.url.clone(),
            method: request.method.clone(),
            is_trusted: true,
            has_body: request.body.is_some(),
            redirected: 0,
            target: target(&request, &request.url, true),
            was_sent: Rc::default(),
            request: Rc::new(request),
            then,
        }
    }

    /// All that is sent, and what waits for the answer.
    fn prepared(&self) -> Result<(Vec<u8>, Call<RecvResponse>), String> {
        let request = &self.request;
        let mut builder = http::Request::builder()
            .method(self.method.clone())
            .uri(self.url.uri().clone());
        let headers = builder.headers_mut().ok_or("it is no right request")?;
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if self.is_trusted {
            if let Some(host) = &request.host {
                let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
                headers.insert(header::HOST, host);
            }
            if let Some(proof) = request.url.authorization() {
                headers.insert(header::AUTHORIZATION, proof.clone());
            }
            // the first of a name takes the place of ours, and others of that name stand beside it
            for (number, (name, value)) in request.headers.iter().enumerate() {
                let is_first = !request.headers[..number]
                    .iter()
                    .any(|(other, _)| other == name);
                if is_first {
                    headers.insert(name.clone(), value.clone());
                } else {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        let body = request.body.as_deref().filter(|_| self.has_body);
        let takes_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if takes_body || body.is_some() {
            let length = body.map_or(0, <[u8]>::len);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // what is handed to the proxy itself, and not through it
        let proxy = (request.proxy.as_ref()).filter(|_| !self.url.is_tls());
        if let Some(proof) = proxy.and_then(Proxy::authorization) {
            headers.insert(header::PROXY_AUTHORIZATION, proof.clone());
        }
        let whole = builder.body(()).map_err(|error| error.to_string())?;
        let call = Call::new(whole).map_err(|error| error.to_string())?;
        let (mut out, call) = written(call, body.unwrap_or_default())?;
        if proxy.is_some() {
            name_whole_url(&mut out, &self.method, &self.url);
        }
        Ok((out, call))
    }
}

/// Asks for the whole URL in place of its path, as a proxy wants it.
fn name_whole_url(out: &mut Vec<u8>, method: &Method, url: &Url) {
    let begin = method.as_str().len() + 1;
    let path = out.iter().skip(begin).take_while(|byte| **byte != b' ');
    let end = begin + path.count();
    out.splice(begin..end, url.uri().to_string().into_bytes());
}

/// Writes the whole of a request.
fn written(call: Call<Prepare>, body: &[u8]) -> Result<(Vec<u8>, Call<RecvResponse>), String> {
    let mut out = Vec::new();
    let mut buffer = vec![0; STEP];
    let mut call = call.proceed();
    while !call.can_proceed() {
        match call.write(&mut buffer) {
            Ok(length) => out.extend_from_slice(&buffer[..length]),
            // a header may be longer than the buffer
            Err(ureq_proto::Error::OutputOverflow) if buffer.len() < 1 << 20 => {
                buffer.resize(2 * buffer.len(), 0);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let mut call = match call.proceed().map_err(|error| error.to_string())? {
        Some(SendRequestResult::RecvResponse(call)) => return Ok((out, call)),
        Some(SendRequestResult::SendBody(call)) => call,
        _ => return Err("it waits for leave to send its body".to_owned()),
    };
    let mut rest = body;
    while !rest.is_empty() {
        let (taken, length) = call
            .write(rest, &mut buffer)
            .map_err(|error| error.to_string())?;
        if taken == 0 {
            break;
        }
        out.extend_from_slice(&buffer[..length]);
        rest = &rest[taken..];
    }
    let call = call.proceed().ok_or("its body is not as long as it says")?;
    Ok((out, call))
}

impl<'a, A> Talk for Errand<'a, A> {
    type Exchange = Asking<'a, A>;

    fn target(&self) -> &Target {
        &self.target
    }

    fn is_said_once(&self) -> bool {
        self.request.is_sent_once
    }

    fn begin(&self) -> Asking<'a, A> {
        let (unsent, phase) = match self.prepared() {
            Ok((unsent, call)) => (unsent, Phase::Head(call)),
            Err(why) => (Vec::new(), Phase::Broken(why)),
        };
        Asking {
            errand: self.clone(),
            unsent,
            sent: 0,
            phase,
            raw: Vec::new(),
            head_length: 0,
            framing: 0,
            response: None,
            body: Vec::new(),
            body_length: 0,
        }
    }
}

/// One request over one connection.
pub(super) struct Asking<'a, A> {
    errand: Errand<'a, A>,
    unsent: Vec<u8>,
    sent: usize,
    phase: Phase,
    /// What arrived and was not taken yet.
    raw: Vec<u8>,
    /// How much of the head was taken.
    head_length: usize,
    /// How much of the body was no content.
    framing: usize,
    response: Option<http::Response<()>>,
    body: Vec<u8>,
    body_length: usize,
}

enum Phase {
    /// It was not even sent.
    Broken(String),
    Head(Call<RecvResponse>),
    Body(Call<RecvBody>),
    /// Nothing more is heard.
    Over,
}

impl<A> fmt::Debug for Asking<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({})", self.errand.url)
    }
}

impl<'a, A> Exchange for Asking<'a, A> {
    type Answer = A;
    type Wrong = Wrong;
    type Next = Errand<'a, A>;

    fn unsent(&self) -> &[u8] {
        &self.unsent[self.sent..]
    }

    fn sent(&mut self, length: usize) {
        self.sent += length;
        if self.sent == self.unsent.len() {
            self.errand.was_sent.set(true);
        }
    }

    fn flushed(&mut self) -> Heard<Self> {
        match &self.phase {
            Phase::Broken(why) => Heard::Wrong(Wrong::Unsendable(why.clone())),
            _ => Heard::Waiting,
        }
    }

    fn capacity(&self) -> usize {
        match self.phase {
            Phase::Head(_) => HEAD_LIMIT.saturating_sub(self.head_length + self.raw.len()),
            _ => FRAMING_LIMIT.saturating_sub(self.raw.len()),
        }
    }

    fn hear(&mut self, bytes: &[u8], is_last: bool, _: Instant) -> Heard<Self> {
        let had_little = self.raw.len() < 16;
        self.raw.extend_from_slice(bytes);
        if let Phase::Head(_) = self.phase {
            // a head is looked at when a line of it ends; and soon, for what is none
            let is_worth_it = had_little || bytes.contains(&b'\n');
            if let Some(heard) = self.hear_head(is_worth_it || is_last, is_last) {
                return heard;
            }
        }
        match self.phase {
            Phase::Body(_) => self.hear_body(is_last),
            _ => Heard::Waiting,
        }
    }

    fn cut_off(&mut self, _: Instant) -> Heard<Self> {
        // who takes no request may close before all of it was read, and that breaks the connection behind the answer
        let is_refusal =
            (self.status()).is_some_and(|it| it.is_client_error() || it.is_server_error());
        if is_refusal && self.errand.request.is_sent_once {
            return self.over(None);
        }
        // the end of an answer that ends with its connection cannot be told from a connection that broke
        Heard::Waiting
    }

    fn time_out(&mut self, limit: Duration) -> Option<Heard<Self>> {
        let status = self.status();
        let is_silent = status.is_none() && self.head_length == 0 && self.raw.is_empty();
        (!is_silent).then(|| {
            Heard::Wrong(Wrong::Unfinished {
                after: limit,
                status,
                received: self.body_length,
            })
        })
    }
}

impl<A> Asking<'_, A> {
    fn status(&self) -> Option<StatusCode> {
        self.response.as_ref().map(http::Response::status)
    }

    /// Goes through the head as far as it came; none where the body follows.
    fn hear_head(&mut self, is_worth_it: bool, is_last: bool) -> Option<Heard<Self>> {
        let Phase::Head(mut call) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Some(Heard::Waiting);
        };
        while is_worth_it && !self.raw.is_empty() {
            // each blank line before a head would be read again with each next one
            let blank = self
                .raw
                .iter()
                .take_while(|b| matches!(b, b'\r' | b'\n'))
                .count();
            if blank == self.raw.len() {
                self.head_length += blank;
                self.raw.clear();
                break;
            }
            match call.try_response(&self.raw, false) {
                Ok((0, None)) => break,
                // an interim answer
                Ok((length, None)) => {
                    self.head_length += length;
                    self.raw.drain(..length);
                }
                Ok((length, Some(response))) => {
                    self.raw.drain(..length);
                    self.response = Some(response);
                    return self.begin_body(call);
                }
                Err(error) => return Some(Heard::Wrong(self.no_head(&error))),
            }
        }
        if is_last {
            let is_silent = self.head_length == 0 && self.raw.is_empty();
            return Some(Heard::Wrong(if is_silent {
                Wrong::None
            } else if b"HTTP/1.".starts_with(&self.raw[..self.raw.len().min(7)])
                || self.raw.starts_with(b"HTTP/1.")
            {
                Wrong::HeadCutOff
            } else {
                self.not_http()
            }));
        }
        if self.head_length + self.raw.len() >= HEAD_LIMIT {
            return Some(Heard::Wrong(Wrong::HeadTooLong));
        }
        self.phase = Phase::Head(call);
        Some(Heard::Waiting)
    }

    fn not_http(&self) -> Wrong {
        // an alert, or another record of TLS
        if matches!(self.raw.as_slice(), [20..=23, 3, ..]) {
            return Wrong::Tls;
        }
        let secrets = &self.errand.request.secrets;
        let first = if secrets.is_empty() {
            self.raw[..self.raw.len().min(SHOWN + 1)].to_vec()
        } else {
            // one that repeats what it was asked
            let mut first =
                masked_where_cut(&String::from_utf8_lossy(&self.raw), secrets).into_bytes();
            first.truncate(SHOWN + 1);
            first
        };
        Wrong::NotHttp { first }
    }

    fn no_head(&self, error: &ureq_proto::Error) -> Wrong {
        if !self.raw.starts_with(b"HTTP/1.") {
            return self.not_http();
        }
        Wrong::Head(match error {
            ureq_proto::Error::HttpParseTooManyHeaders => "more than 128 headers".to_owned(),
            error => why(error),
        })
    }

    /// The head is whole: goes on with the body, or is over; none where the body follows.
    fn begin_body(&mut self, call: Call<RecvResponse>) -> Option<Heard<Self>> {
        Some(match call.proceed() {
            Some(RecvResponseResult::RecvBody(call)) => {
                self.phase = Phase::Body(call);
                return None;
            }
            Some(RecvResponseResult::Redirect(call)) => self.over(Some(call)),
            Some(RecvResponseResult::Cleanup(_)) | None => self.over(None),
        })
    }

    fn hear_body(&mut self, is_last: bool) -> Heard<Self> {
        let Phase::Body(mut call) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Heard::Waiting;
        };
        let status = self.status().unwrap_or_default();
        let is_followed = self.errand.request.redirects > 0
            && status.is_redirection()
            && status != StatusCode::NOT_MODIFIED;
        let (limit, kept) = if is_followed {
            (REDIRECT_BODY_LIMIT, 0)
        } else {
            (
                self.errand.request.body_limit,
                self.errand.request.body_kept,
            )
        };
        let mut step = [0; STEP];
        let mut taken = 0;
        while self.body_length < limit {
            let wanted = STEP.min(limit - self.body_length);
            let (read, content) = match call.read(&self.raw[taken..], &mut step[..wanted]) {
                Ok(lengths) => lengths,
                Err(error) => {
                    let why = why(&error);
                    return Heard::Wrong(Wrong::Body { status, why });
                }
            };
            taken += read;
            let keep = content.min(kept.saturating_sub(self.body.len()));
            self.body.extend_from_slice(&step[..keep]);
            self.body_length += content;
            self.framing += read - content;
            if read == 0 && content == 0 {
                break;
            }
        }
        self.raw.drain(..taken);
        let length = match call.body_mode() {
            BodyMode::LengthDelimited(left) => Some(self.body_length as u64 + left),
            _ => None,
        };
        let ends_with_connection = call.body_mode() == BodyMode::CloseDelimited;
        let is_whole = if ends_with_connection {
            is_last
        } else {
            call.can_proceed() || is_last && call.is_ended_chunked()
        };
        if is_whole && call.can_proceed() {
            return match call.proceed() {
                Some(RecvBodyResult::Redirect(call)) => self.over(Some(call)),
                Some(RecvBodyResult::Cleanup(_)) | None => self.over(None),
            };
        }
        if is_whole || self.body_length >= limit {
            return if is_followed {
                Heard::Wrong(Wrong::Redirect(format!(
                    "answered {}, with more of a body than a redirect has",
                    super::shown(status)
                )))
            } else {
                self.over(None)
            };
        }
        if is_last {
            let received = self.body_length;
            return Heard::Wrong(Wrong::BodyCutOff {
                status,
                received,
                length,
            });
        }
        let is_stuck = self.raw.len() >= FRAMING_LIMIT;
        if is_stuck || self.framing > FRAMING_LIMIT + FRAMING_TIMES * self.body_length {
            let why = "there is more of the frame than of the content".to_owned();
            return Heard::Wrong(Wrong::Body { status, why });
        }
        self.phase = Phase::Body(call);
        Heard::Waiting
    }

    /// The answer is there, as far as it is read.
    fn over(&mut self, redirect: Option<Call<Redirect>>) -> Heard<Self> {
        let Some(response) = self.response.take() else {
            return Heard::Wrong(Wrong::None);
        };
        let (mut parts, ()) = response.into_parts();
        if let Some(call) = redirect
            && self.errand.request.redirects > 0
            && parts.headers.contains_key(header::LOCATION)
        {
            return match self.errand.redirected_by(call) {
                Ok(next) => Heard::Moved(next),
                Err(wrong) => Heard::Wrong(wrong),
            };
        }
        let mut body = std::mem::take(&mut self.body);
        if self.errand.request.is_masked && !self.errand.request.secrets.is_empty() {
            let text = String::from_utf8_lossy(&body);
            body = masked(&text, &self.errand.request.secrets).into_bytes();
            mask_location(&mut parts.headers, &self.errand.request.secrets);
        }
        let response = Response {
            status: parts.status,
            headers: parts.headers,
            body,
            body_length: self.body_length,
        };
        Heard::Passed((self.errand.then)(self.errand.number, response))
    }
}

/// Whoever reads the answer shows where it leads to, and does not know the secrets.
fn mask_location(headers: &mut HeaderMap, secrets: &[String]) {
    if let Some(location) = headers.get_mut(header::LOCATION) {
        let text = String::from_utf8_lossy(location.as_bytes());
        match HeaderValue::from_bytes(masked(&text, secrets).as_bytes()) {
            Ok(masked) => *location = masked,
            Err(_) => {
                headers.remove(header::LOCATION);
            }
        }
    }
}

/// The words of the library, for people.
fn why(error: &ureq_proto::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("http parse fail: ")
        .unwrap_or(&text)
        .to_owned()
}
