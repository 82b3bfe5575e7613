//! What an HTTP probe is asked to do: whom it asks, how, what it expects, and how its failure counts.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::KEPT;
use crate::check::Severity;
use crate::check::pattern::Pattern;
use crate::client::http::secrets::of_request;
use crate::client::http::{
    HeaderName, HeaderValue, MOST_REDIRECTS, Method, Request, StatusCode, Url, header,
    is_name_of_host,
};
use crate::secret::{Kept, Secret, first_line};
use crate::table::fault::is_secret;
use crate::table::{
    Context, Filled, Form, MASK, Part, Positive, Shown, Table, Value, choice, quoted, table,
};

/// So much of a body is read.
const BODY_LIMIT: usize = 1 << 20;

/// What the client says itself.
const RESERVED: [HeaderName; 8] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

table! {
    /// An endpoint that must answer over HTTP; there may be several such tables.
    pub struct Rule like "[[service.NAME.http]]", check fits_together {
        /// Also https, or a unix socket: "unix:/run/app.sock:/health" (or "unix:app.sock:/health", in working_dir). With a
        /// user and password in it nobody else may read this file. Of a URL with those, or with a query, only scheme and
        /// host are ever shown.
        url: Url, example r#""http://127.0.0.1:8080/health""#;
        /// Or "HEAD", or "POST" with a body.
        method: Verb = Verb::Get;
        /// What a POST sends.
        body: Option<String>, commented r#"'{"ping":true}'"#;
        /// What is sent beside; where one is a secret, as Authorization, nobody else may read this file.
        headers: Vec<(HeaderName, HeaderValue)> as Headers = Vec::new(), example r#"{ Accept = "application/json" }"#;
        /// The same from files, each of mode 0600, whose first line is the value.
        header_files: Vec<(HeaderName, Secret)> as HeaderFiles = Vec::new(), commented r#"{ Authorization = "/etc/watchdog/api.auth" }"#;
        /// Numbers, and classes such as "2xx", one of which must be answered.
        status: Vec<Status> as Filled<Vec<Status>> = vec![Status::Class(2)], example r#"["2xx"]"#;
        /// Patterns, each of which the body (its first MiB) must match.
        expect: Vec<Pattern> = Vec::new(), example r#"['"status":\s*"(ok|UP)"']"#;
        /// Patterns, none of which the body may match.
        forbid: Vec<Pattern> = Vec::new(), example r#"['"degraded"']"#;
        /// An answer that takes longer is a warning.
        max_time: Option<Duration> as Option<Positive>, example r#""2s""#;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// What is said in Host, and the name that the certificate must have, where it is not that in the URL.
        host: Option<String> as Option<Filled>, commented r#""api.example.org""#;
        /// True: redirects are followed, five at most. No header goes to another host, or from https to http.
        follow_redirects: bool = false;
        /// Or "warning": reported, and never a reason to restart.
        severity: Severity = Severity::Critical;
        /// One limit for the name, the connection, TLS and the answer together; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, example r#""10s""#;
        /// It must have failed in every run for so long.
        for_("for"): Duration = Duration::ZERO;
    }
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// For the body.
    Get,
    /// For the head alone.
    Head,
    /// With a body.
    Post,
}

choice! { Verb: "GET" = Get, "HEAD" = Head, "POST" = Post }

impl Verb {
    /// As it is sent.
    pub(super) fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
        }
    }
}

/// What may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Number(u16),
    /// All of a hundred.
    Class(u16),
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        match bytes {
            [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                Some(Self::Class(u16::from(class - b'0')))
            }
            [_, _, _] if bytes.iter().all(u8::is_ascii_digit) => Self::of(text.parse().ok()?),
            _ => None,
        }
    }

    fn of(number: i64) -> Option<Self> {
        let number = u16::try_from(number).ok();
        number
            .filter(|number| (100..=599).contains(number))
            .map(Self::Number)
    }

    fn is(self, status: StatusCode) -> bool {
        match self {
            Self::Number(number) => status.as_u16() == number,
            Self::Class(class) => status.as_u16() / 100 == class,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl Form for Status {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        const HELP: &str =
            "write numbers from 100 to 599 and classes, like [200, 204] or [\"2xx\"]";
        let (found, shown) = match (value.raw_text(), value.raw_number()) {
            (Some(text), _) => (Self::parse(text), quoted(text)),
            (None, Some(number)) => (Self::of(number), format!("`{number}`")),
            // says what type it is of
            (None, None) => {
                value.text_or(HELP);
                return None;
            }
        };
        if found.is_none() {
            value.wrong(&format!("{shown} is not a status of HTTP"), HELP);
        }
        found
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(match value {
            Self::Number(number) => Shown::Whole(i64::from(*number)),
            Self::Class(_) => Shown::text(value.to_string()),
        })
    }

    fn kind() -> String {
        "a number or a class".to_owned()
    }
}

impl Form for Url {
    fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
        match Self::parse_from(value.text()?, Some(&*context.base)) {
            Ok(url) => Some(url),
            Err(why) => {
                value.wrong(
                    &why,
                    "write it like \"http://127.0.0.1:8080/health\", \"https://api.example.org/health\" or \"unix:/run/app.sock:/health\"",
                );
                None
            }
        }
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.to_string()))
    }

    fn kind() -> String {
        "a URL".to_owned()
    }
}

/// Headers with their values.
pub(crate) struct Headers;

impl Form<Vec<(HeaderName, HeaderValue)>> for Headers {
    fn read(value: &Value<'_>, _: &Context) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let entries = value.entries("headers = { Accept = \"application/json\" }")?;
        let read = |(name, value): (&str, Value<'_>)| {
            let name = named(name, &value)?;
            let text = value.text()?;
            let Some(sent) = sendable(&name, text) else {
                value.wrong(
                    &format!("{} has characters that no header has", value.name()),
                    "a header is one line of printable characters",
                );
                return None;
            };
            Some((name, sent))
        };
        Some(entries.into_iter().filter_map(read).collect())
    }

    fn show(headers: &Vec<(HeaderName, HeaderValue)>) -> Option<Shown> {
        let shown = headers.iter().map(|(name, value)| {
            let value = if value.is_sensitive() {
                MASK.to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), Shown::Text(value))
        });
        (!headers.is_empty()).then(|| Shown::Table(shown.collect()))
    }

    fn kind() -> String {
        "a table of texts".to_owned()
    }
}

/// Headers with the files that their values are in.
pub(crate) struct HeaderFiles;

impl Form<Vec<(HeaderName, Secret)>> for HeaderFiles {
    fn read(value: &Value<'_>, context: &Context) -> Option<Vec<(HeaderName, Secret)>> {
        let entries =
            value.entries("header_files = { Authorization = \"/etc/watchdog/api.auth\" }")?;
        let read = |(name, value): (&str, Value<'_>)| {
            let name = named(name, &value)?;
            Some((name, Secret::File(value.path(&context.directory)?)))
        };
        Some(entries.into_iter().filter_map(read).collect())
    }

    fn show(files: &Vec<(HeaderName, Secret)>) -> Option<Shown> {
        let shown = files.iter().filter_map(|(name, secret)| match secret {
            Secret::File(path) => {
                let path = path.to_string_lossy().into_owned();
                Some((name.as_str().to_owned(), Shown::Text(path)))
            }
            _ => None,
        });
        (!files.is_empty()).then(|| Shown::Table(shown.collect()))
    }

    fn kind() -> String {
        "a table of paths".to_owned()
    }
}

/// The name of a header that may be given.
fn named(name: &str, value: &Value<'_>) -> Option<HeaderName> {
    let Ok(known) = HeaderName::from_bytes(name.as_bytes()) else {
        value.misplaced(
            &format!("{} cannot be the name of a header", quoted(name)),
            "a name is of letters, digits and '-'",
        );
        return None;
    };
    if RESERVED.contains(&known) {
        let help = if known == header::HOST {
            "write host = \"…\" beside url"
        } else {
            "leave it out"
        };
        value.misplaced(
            &format!("the header {} is set by the program itself", quoted(name)),
            help,
        );
        return None;
    }
    Some(known)
}

/// A value as it is sent; marked, where it is a secret by its name.
fn sendable(name: &HeaderName, text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(is_secret(name.as_str()));
    Some(value)
}

fn fits_together(table: &Table<'_>, part: &mut Part<Rule>) {
    let method = part.method.unwrap_or(Verb::Get);
    match (method, table.get("body")) {
        (Verb::Post, None) => table.lacks(
            "a POST without a `body`",
            "write body = \"…\", be it empty; or leave `method` out",
        ),
        (Verb::Get | Verb::Head, Some(body)) if !table.has("method") || part.method.is_some() => {
            body.misplaced(
                "`body` is sent by a POST only",
                "write method = \"POST\" too",
            );
        }
        _ => {}
    }
    if method == Verb::Head {
        for key in ["expect", "forbid"] {
            if let Some(value) = table.get(key) {
                value.misplaced(
                    &format!("`{key}`, and the answer to a HEAD has no body"),
                    "leave out method = \"HEAD\"",
                );
            }
        }
    }
    let files = part.header_files.as_deref().unwrap_or_default();
    let headers = part.headers.as_deref().unwrap_or_default();
    if let Some((twice, _)) = files
        .iter()
        .find(|(name, _)| headers.iter().any(|(other, _)| other == name))
        && let Some(value) = table.get("header_files")
    {
        value.misplaced(
            &format!(
                "the header {} is in `headers` as well",
                quoted(twice.as_str())
            ),
            "a header comes from one place",
        );
    }
    let Some(url) = &part.url else {
        return;
    };
    let is_authorization = |name: &HeaderName| *name == header::AUTHORIZATION;
    let has_authorization = headers.iter().any(|(name, _)| is_authorization(name))
        || files.iter().any(|(name, _)| is_authorization(name));
    if url.has_password()
        && has_authorization
        && let Some(value) = table.get("url")
    {
        value.misplaced(
            "a user in the URL, and a header `Authorization` as well",
            "what proves who asks comes from one place",
        );
    }
    if let (false, Some(value)) = (url.is_tls(), table.get("ca_file")) {
        value.misplaced(
            "`ca_file` means nothing without https",
            "leave it out, or write https:// in the URL",
        );
    }
    if let (Some(Some(host)), Some(value)) = (&part.host, table.get("host"))
        && !is_name_of_host(host, url.is_tls())
    {
        value.wrong(
            &format!("{} is not the name of a host", quoted(host)),
            "write it like \"api.example.org\", with a port where one is said in Host",
        );
    }
}

impl Rule {
    /// One that only has to answer.
    #[cfg(test)]
    pub(super) fn of(url: &str) -> Self {
        Self {
            url: Url::parse(url).unwrap(),
            method: Verb::Get,
            body: None,
            headers: Vec::new(),
            header_files: Vec::new(),
            status: vec![Status::Class(2)],
            expect: Vec::new(),
            forbid: Vec::new(),
            max_time: None,
            ca_file: None,
            host: None,
            follow_redirects: false,
            severity: Severity::Critical,
            timeout: None,
            for_: Duration::ZERO,
        }
    }

    /// What is sent. It reads the files of headers, and may block; the error continues a sentence that begins with the URL.
    pub(super) fn request(&self) -> Result<Request, String> {
        let mut headers = self.headers.clone();
        for (name, secret) in &self.header_files {
            let unreadable = |why: String| format!("cannot be asked: {why}");
            let what = format!("header {name}");
            let text = match secret {
                Secret::File(path) => first_line(path, &what).map_err(unreadable)?,
                other => other.read(&what).map_err(unreadable)?,
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                unreadable(format!(
                    "the {what} from its file has characters that no header has"
                ))
            })?;
            value.set_sensitive(true);
            headers.push((name.clone(), value));
        }
        let secrets = of_request(&self.url, &headers);
        let has_patterns = !self.expect.is_empty() || !self.forbid.is_empty();
        Ok(Request {
            secrets,
            headers,
            body: self.body.as_ref().map(|body| body.clone().into_bytes()),
            host: self.host.clone(),
            ca_file: self.ca_file.clone(),
            redirects: if self.follow_redirects {
                MOST_REDIRECTS
            } else {
                0
            },
            body_limit: BODY_LIMIT,
            body_kept: if has_patterns { BODY_LIMIT } else { KEPT + 1 },
            ..Request::new(self.method.method(), self.url.clone())
        })
    }

    /// Whether a status is one of those that are expected.
    pub(super) fn takes(&self, status: StatusCode) -> bool {
        self.status.iter().any(|expected| expected.is(status))
    }

    /// Which those are, for people.
    pub(super) fn statuses(&self) -> String {
        let shown: Vec<String> = self.status.iter().map(ToString::to_string).collect();
        match shown.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [many @ .., last] => format!("{} or {last}", many.join(", ")),
        }
    }

    /// What nobody else may read, and under which keys it is.
    pub(super) fn secrets(&self) -> Vec<Kept<'_>> {
        let inline = |key: Vec<String>| Kept { key, file: None };
        let mut kept = Vec::new();
        if self.url.has_password() {
            kept.push(inline(vec!["url".to_owned()]));
        }
        let marked = self
            .headers
            .iter()
            .filter(|(_, value)| value.is_sensitive());
        kept.extend(marked.map(|(name, _)| inline(vec!["headers".to_owned(), name.to_string()])));
        for (name, secret) in &self.header_files {
            if let Secret::File(path) = secret {
                kept.push(Kept {
                    key: vec!["header_files".to_owned(), name.to_string()],
                    file: Some(path),
                });
            }
        }
        kept
    }
}
