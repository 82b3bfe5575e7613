//! Whom a request is sent to: `http://…`, `https://…` or `unix:/run/app.sock:/health`.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq_proto::http::uri::{Authority, PathAndQuery, Scheme, Uri};

use super::{HeaderValue, basic};
use crate::client::Address;
use crate::table::MASK;
use crate::text::visible;

/// The host that a unix socket is asked for.
const LOCAL: &str = "localhost";

/// Whom a request is sent to. What may be a secret in it (a user and password, a query) is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Without user and password.
    uri: Uri,
    address: Address,
    /// What proves who asks, from the user and password.
    authorization: Option<HeaderValue>,
}

impl Url {
    /// Reads a URL. The error says what is wrong and how to write it, and holds nothing of what may be a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_from(text, None)
    }

    /// The same, where the path of a unix socket may be relative to a directory.
    pub fn parse_from(text: &str, base: Option<&Path>) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix(rest, base);
        }
        if text.starts_with('/') {
            return Err(
                "a unix socket is written with its kind: \"unix:/run/app.sock:/health\"".to_owned(),
            );
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Err("there is no scheme; write \"http://…\" or \"https://…\"".to_owned());
        };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(format!(
                "`{}` cannot be asked; only http, https and unix can",
                visible(scheme)
            ));
        }
        check(text)?;
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        Self::of(&uri)
    }

    /// One that was put together by a library.
    pub(super) fn of(uri: &Uri) -> Result<Self, String> {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        if !is_tls && uri.scheme() != Some(&Scheme::HTTP) {
            return Err("only http and https can".to_owned());
        }
        let authority = uri.authority().ok_or("there is no host in it")?;
        let (userinfo, bare) = match authority.as_str().rsplit_once('@') {
            Some((userinfo, bare)) => (Some(userinfo), bare),
            None => (None, authority.as_str()),
        };
        let host = authority.host();
        // `http://host:/` has a colon, and no port
        let port = bare
            .get(host.len()..)
            .and_then(|rest| rest.strip_prefix(':'));
        let port = match port {
            None | Some("") if is_tls => "443",
            None | Some("") => "80",
            Some(port) => port,
        };
        let address = Address::parse(&format!("{host}:{port}"))?;
        let authorization = userinfo
            .map(|userinfo| {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                let proof = basic(&unescaped(user)?, &unescaped(password)?);
                proof.ok_or_else(|| "its user and password cannot be sent".to_owned())
            })
            .transpose()?;
        let uri = match userinfo {
            None => uri.clone(),
            Some(_) => with_authority(uri, bare)?,
        };
        Ok(Self {
            uri,
            address,
            authorization,
        })
    }

    /// What a library takes for it.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The same socket, asked for something else.
    pub(super) fn at_same_place(&self, uri: &Uri) -> Self {
        Self {
            uri: uri.clone(),
            ..self.clone()
        }
    }

    /// A path below this one, with a query where it has one: `api/v1/rules?type=alert`.
    pub fn below(&self, path: &str) -> Result<Self, String> {
        let base = self.uri.path().trim_end_matches('/');
        let path: PathAndQuery = (format!("{base}/{path}").parse())
            .map_err(|error| format!("cannot be asked: {error}"))?;
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|error| format!("cannot be asked: {error}"))?;
        Ok(self.at_same_place(&uri))
    }

    /// Whether there is a query in it.
    pub fn has_query(&self) -> bool {
        self.uri.query().is_some()
    }

    /// Where that is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// What proves who asks.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The user and password in it, both and the password alone, as they are meant.
    pub(super) fn user_and_password(&self) -> Vec<String> {
        let text = self.authorization.as_ref().and_then(|it| it.to_str().ok());
        let encoded = text.and_then(|it| it.strip_prefix("Basic "));
        let Some(both) = encoded.and_then(|it| BASE64_STANDARD.decode(it).ok()) else {
            return Vec::new();
        };
        let both = String::from_utf8_lossy(&both).into_owned();
        let password = both.split_once(':').map(|(_, it)| it.to_owned());
        std::iter::once(both).chain(password).collect()
    }

    /// Its scheme and host, for a URL that is a secret itself.
    pub fn origin(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Ip(_) | Address::Name { .. } => {
                let scheme = self.uri.scheme_str().unwrap_or_default();
                let authority = self.uri.authority().map_or("", Authority::as_str);
                format!("{scheme}://{authority}")
            }
        }
    }

    /// Whether a password is in it, which nobody else may read.
    pub fn has_password(&self) -> bool {
        self.authorization.is_some()
    }
}

fn unix(rest: &str, base: Option<&Path>) -> Result<Url, String> {
    const SAMPLE: &str = "write \"unix:/run/app.sock:/health\"";
    if rest.starts_with("//") {
        return Err(format!(
            "the path of a unix socket follows `unix:`; {SAMPLE}"
        ));
    }
    let (socket, path) = match rest.split_once(":/") {
        Some((socket, path)) => (socket, format!("/{path}")),
        None if rest.ends_with(':') => {
            return Err(format!("there is no path behind the socket; {SAMPLE}"));
        }
        None => (rest, "/".to_owned()),
    };
    let address = Address::parse_from(&format!("unix:{socket}"), base)?;
    check(&path)?;
    let path: PathAndQuery = path.parse().map_err(|error| format!("{error}"))?;
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(LOCAL);
    let uri = uri.path_and_query(path).build();
    Ok(Url {
        uri: uri.map_err(|error| error.to_string())?,
        address,
        authorization: None,
    })
}

fn check(text: &str) -> Result<(), String> {
    if !text.is_ascii() {
        return Err(
            "it has characters that no URL has; write them as %XX, and a host as xn--…".to_owned(),
        );
    }
    if text.contains(char::is_whitespace) {
        return Err("there is a blank in it; write %20".to_owned());
    }
    if text.contains('#') {
        return Err("what stands behind `#` is never sent; leave it out".to_owned());
    }
    Ok(())
}

fn with_authority(uri: &Uri, authority: &str) -> Result<Uri, String> {
    let authority: Authority = authority.parse().map_err(|error| format!("{error}"))?;
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

/// The bytes of a text with `%XX` in it.
pub(in crate::client) fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.ok_or("its user and password have a `%` that is no %XX; write %25")?);
        rest = &rest[2..];
    }
    Ok(bytes)
}

impl fmt::Display for Url {
    /// A secret, or what may be one, is shown as scheme and host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_secret = self.authorization.is_some() || self.uri.query().is_some();
        match &self.address {
            Address::Unix(path) => write!(f, "unix:{}:", path.display())?,
            Address::Ip(_) | Address::Name { .. } => {
                let scheme = self.uri.scheme_str().unwrap_or_default();
                let authority = self.uri.authority().map_or("", Authority::as_str);
                write!(f, "{scheme}://{authority}")?;
            }
        }
        if has_secret {
            write!(f, "/{MASK}")
        } else {
            f.write_str(self.uri.path())
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}
