//! Proxies, as the environment names them for curl: `https_proxy`, `HTTPS_PROXY`, `http_proxy`, `all_proxy`, `ALL_PROXY`,
//! and `no_proxy`, `NO_PROXY`.
//!
//! The small letters win, and an empty variable is none. `HTTP_PROXY` in capitals is not looked at: in a CGI program a
//! visitor sets it, by a header `Proxy:`.

use std::fmt;

use super::{HeaderValue, Url, basic, no_proxy, unescaped};
use crate::client::{Address, Tunnel};
use crate::text::visible;

/// The port of a proxy that names none.
const PORT: &str = "1080";

/// A password shorter than this is not looked for in what others say.
const SECRET: usize = 4;

/// A proxy on the way to somebody. Its user and password are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) address: Address,
    authorization: Option<HeaderValue>,
    secrets: Vec<String>,
}

impl Proxy {
    /// The one that the environment names for a URL. The error says what is wrong, and names the variable.
    pub fn of_environment(url: &Url) -> Result<Option<Self>, String> {
        let variable = |name: &str| {
            let value = std::env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        };
        Self::named(&variable, url)
    }

    fn named(variable: &dyn Fn(&str) -> Option<String>, url: &Url) -> Result<Option<Self>, String> {
        let first = |names: &[&'static str]| {
            let mut set = names.iter().map(|&name| (name, variable(name)));
            set.find_map(|(name, value)| Some((name, value.filter(|it| !it.is_empty())?)))
        };
        let is_local = matches!(url.address(), Address::Unix(_));
        let names: &[&str] = if url.is_tls() {
            &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        } else {
            &["http_proxy", "all_proxy", "ALL_PROXY"]
        };
        let Some((name, value)) = first(names).filter(|_| !is_local) else {
            return Ok(None);
        };
        if first(&["no_proxy", "NO_PROXY"])
            .is_some_and(|(_, it)| no_proxy::names(&it, url.address()))
        {
            return Ok(None);
        }
        let read = Self::parse(&value);
        read.map(Some)
            .map_err(|why| format!("the proxy that ${name} names cannot be used: {why}"))
    }

    /// `http://user:password@host:port`, of which only the host has to be there. The error holds nothing that may be a
    /// secret.
    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                return Err(format!(
                    "a proxy is spoken to by http://, not by {}://",
                    visible(scheme)
                ));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let has_port = match place.rsplit_once(':') {
            Some((_, port)) => !port.contains(']'),
            None => false,
        };
        let address = if has_port {
            Address::parse(place)
        } else {
            Address::parse(&format!("{place}:{PORT}"))
        };
        // what stands there may be a password that has no host behind it
        let address = address.ok().filter(|it| !matches!(it, Address::Unix(_)));
        let address = address.ok_or("write it like http://proxy.example.org:3128")?;
        let mut secrets = Vec::new();
        let authorization = match userinfo {
            None => None,
            Some(userinfo) => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                let plain = unescaped(password)?;
                let proof = basic(&unescaped(user)?, &plain)
                    .ok_or("its user and password cannot be sent")?;
                let shown = proof.to_str().ok().and_then(|it| it.split(' ').nth(1));
                let plain = String::from_utf8_lossy(&plain).into_owned();
                let both = [userinfo, password, &plain, shown.unwrap_or_default()];
                secrets.extend(both.map(str::to_owned));
                secrets.retain(|secret| secret.len() >= SECRET);
                Some(proof)
            }
        };
        Ok(Self {
            address,
            authorization,
            secrets,
        })
    }

    /// What is never shown, whoever repeats it.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// What proves who asks, where a request is handed to the proxy itself.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// The way through it to where a URL leads, where TLS is spoken with that.
    pub(super) fn tunnel(&self, url: &Url) -> Option<Tunnel> {
        let place = url.address().to_string();
        let proof = self.authorization.as_ref().map(HeaderValue::as_bytes);
        (url.is_tls()).then(|| Tunnel::to(&place, proof, &self.secrets, super::USER_AGENT))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.address)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these variables name for a URL.
    fn named(variables: &[(&str, &str)], url: &str) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = Proxy::named(&variable, &Url::parse(url).unwrap())?;
        Ok(proxy.map(|it| it.to_string()))
    }

    #[test]
    fn the_environment_names_proxies_as_curl_has_them() {
        let (http, https) = ("http://a.test/", "https://a.test/");
        for (variables, url, expected) in [
            (&[][..], https, None),
            (
                &[("https_proxy", "http://p:3128")],
                https,
                Some("http://p:3128"),
            ),
            (
                &[("HTTPS_PROXY", "http://p:3128")],
                https,
                Some("http://p:3128"),
            ),
            (
                &[("https_proxy", "p:1"), ("HTTPS_PROXY", "q:2")],
                https,
                Some("http://p:1"),
            ),
            (
                &[("https_proxy", ""), ("HTTPS_PROXY", "q:2")],
                https,
                Some("http://q:2"),
            ),
            (
                &[("HTTPS_PROXY", "p:1"), ("ALL_PROXY", "q:2")],
                https,
                Some("http://p:1"),
            ),
            (&[("http_proxy", "p:1")], https, None),
            (&[("https_proxy", "p:1")], http, None),
            (&[("http_proxy", "p:1")], http, Some("http://p:1")),
            (&[("HTTP_PROXY", "p:1")], http, None),
            (
                &[("all_proxy", "p:1"), ("ALL_PROXY", "q:2")],
                http,
                Some("http://p:1"),
            ),
            (&[("ALL_PROXY", "q:2")], https, Some("http://q:2")),
            (&[("ALL_PROXY", "q:2")], "unix:/run/x.sock:/", None),
            (&[("ALL_PROXY", "q:2"), ("NO_PROXY", "a.test")], https, None),
            (
                &[
                    ("ALL_PROXY", "q:2"),
                    ("no_proxy", "b.test"),
                    ("NO_PROXY", "a.test"),
                ],
                https,
                Some("http://q:2"),
            ),
            (
                &[
                    ("ALL_PROXY", "q:2"),
                    ("no_proxy", ""),
                    ("NO_PROXY", "a.test"),
                ],
                https,
                None,
            ),
            // who is asked without one does not care that it is wrong
            (
                &[("ALL_PROXY", "socks5://q:2"), ("NO_PROXY", "*")],
                https,
                None,
            ),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(named(variables, url), Ok(expected), "{variables:?} {url}");
        }
    }

    #[test]
    fn a_proxy_is_a_host_and_perhaps_more() {
        for (text, shown) in [
            ("http://proxy.test:3128", "http://proxy.test:3128"),
            ("HTTP://proxy.test:3128/", "http://proxy.test:3128"),
            ("proxy.test", "http://proxy.test:1080"),
            ("http://proxy.test/path?x#y", "http://proxy.test:1080"),
            ("[::1]", "http://[::1]:1080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("http://me:s%40cret@proxy.test:1", "http://proxy.test:1"),
            ("me@proxy.test:1", "http://proxy.test:1"),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            assert!(!format!("{proxy:?}").contains("me"));
        }
        let proof = |text| Proxy::parse(text).unwrap().authorization.unwrap();
        assert_eq!(proof("me:c%61nary@p"), "Basic bWU6Y2FuYXJ5");
        assert!(proof("me:canary@p").is_sensitive());
        assert_eq!(proof("me@p"), "Basic bWU6");
        let hidden = Proxy::parse("http://me:c%61nary@p").unwrap().secrets;
        assert_eq!(
            hidden,
            ["me:c%61nary", "c%61nary", "canary", "bWU6Y2FuYXJ5"]
        );
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_variable_and_without_a_secret() {
        for (value, part) in [
            ("socks5://me:canary@p:1", "by http://, not by socks5://"),
            ("https://me:canary@p:1", "by http://, not by https://"),
            ("http://me:canary@p:port", "write it like http://"),
            ("http://me:canary@", "write it like http://"),
            ("http://me:canary", "write it like http://"),
            ("http://me:ca/canary@p:1", "write it like http://"),
            ("http://me:canary@unix:/x", "write it like http://"),
            ("http://me:canary%zz@p:1", "no %XX"),
            ("http://::1", "write it like http://"),
        ] {
            let error = named(&[("HTTPS_PROXY", value)], "https://a.test/").unwrap_err();
            assert!(
                error.starts_with("the proxy that $HTTPS_PROXY names cannot be used: "),
                "{error}"
            );
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
