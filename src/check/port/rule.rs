//! What a port probe is asked to do: its address, what it sends and expects, and how its failure counts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::Severity;
use crate::check::pattern::Pattern;
use crate::table::{Context, Filled, Form, Part, Positive, Shown, Table, Value, table};
use crate::text::visible;

/// What the kernel takes for the path of a socket, without the zero byte behind it.
const UNIX_PATH_LIMIT: usize = 107;

/// What DNS takes for a name.
const NAME_LIMIT: usize = 253;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A name that has to be resolved, and a port.
    Name {
        /// The host name, or an IPv6 address with the name of a network interface.
        name: String,
        /// The port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port`, `[IPv6]:port` or `unix:/path`. The error says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if text.starts_with('/') {
            return Err(format!(
                "a unix socket is written with its kind: \"unix:{}\"",
                visible(text)
            ));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!(
                "an address is \"host:port\", without `{}://`",
                visible(scheme)
            ));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest
                .split_once(']')
                .ok_or("the bracket of the IPv6 address is not closed; write \"[::1]:4002\"")?;
            let port = port
                .strip_prefix(':')
                .ok_or("there is no port; write \"[::1]:4002\"")?;
            return in_brackets(host, parse_port(port)?);
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("there is no port; write \"host:port\", as in \"127.0.0.1:4002\"")?;
        if host.contains(':') {
            return Err("an IPv6 address is written in brackets: \"[::1]:4002\"".to_owned());
        }
        if host.is_empty() {
            return Err(format!(
                "there is no host before the port; for this machine write \"127.0.0.1:{}\"",
                visible(port)
            ));
        }
        let port = parse_port(port)?;
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(SocketAddr::new(IpAddr::V4(ip), port)));
        }
        check_name(host)?;
        Ok(Self::Name {
            name: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn unix(path: &str) -> Result<Address, String> {
    if path.is_empty() {
        return Err("there is no path behind `unix:`; write \"unix:/run/x.sock\"".to_owned());
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(format!(
            "the path of a unix socket begins with `/`, not `{}`",
            visible(&path.to_string_lossy())
        ));
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return Err("a path has no zero byte in it".to_owned());
    }
    if bytes.len() > UNIX_PATH_LIMIT {
        return Err(format!(
            "the path of a unix socket has at most {UNIX_PATH_LIMIT} bytes, this one has {}",
            bytes.len()
        ));
    }
    Ok(Address::Unix(path.to_owned()))
}

fn in_brackets(host: &str, port: u16) -> Result<Address, String> {
    if let Ok(ip) = host.parse::<Ipv6Addr>() {
        return Ok(Address::Ip(SocketAddr::new(IpAddr::V6(ip), port)));
    }
    // an address of one network segment, `fe80::1%eth0`: which number the interface has is known when it is resolved
    if let Some((ip, interface)) = host.split_once('%')
        && ip.parse::<Ipv6Addr>().is_ok()
        && !interface.is_empty()
        && interface
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'%' && b != b'/')
    {
        return Ok(Address::Name {
            name: host.to_owned(),
            port,
        });
    }
    Err(format!(
        "`{}` is not an IPv6 address; only those stand in brackets",
        visible(host)
    ))
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        _ if text.is_empty() => {
            Err("there is no port behind the colon; write \"host:port\"".to_owned())
        }
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(format!(
            "`{}` is not a port: a number from 1 to 65535",
            visible(text)
        )),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let shown = visible(name);
    if !name.is_ascii() {
        return Err(format!(
            "`{shown}` has characters that no host name has; write its ASCII form (xn--…)"
        ));
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if let Some(b) = name.bytes().find(|&b| !known(b)) {
        return Err(format!(
            "`{shown}` is not a host name: it has a `{}` in it",
            visible(&char::from(b).to_string())
        ));
    }
    // a resolver would make some IPv4 address of `127.1` or `300.1.1.1`, or none
    if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!(
            "`{shown}` is not an IPv4 address: it has four numbers from 0 to 255"
        ));
    }
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    if name.len() > NAME_LIMIT || { labels }.any(|label| label.is_empty() || label.len() > 63) {
        return Err(format!(
            "`{shown}` is not a host name: a part of it is empty or it is too long"
        ));
    }
    Ok(())
}

table! {
    /// A port that must accept connections; there may be several such tables.
    pub struct Rule like "[[service.NAME.port]]", check fits_together {
        /// Also an IPv6 address in brackets, or "unix:/run/trader.sock"; a name is tried at each of its addresses.
        address: Address, example r#""127.0.0.1:4002""#;
        /// What is sent once connected; without `expect`, a connection is enough.
        send: Option<Vec<u8>> as Option<Sent>, example r#""PING\r\n""#;
        /// A pattern that the first 64 KiB of the answer must match: a frozen program accepts connections, and answers nothing.
        expect: Option<Pattern>, example r"'^\+PONG'";
        /// True: TLS is spoken, and the certificate verified.
        tls: bool = false;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// The name that the certificate must have, where it is not that of the address.
        host: Option<String> as Option<Filled>, commented r#""gateway.example.org""#;
        /// Or "warning": reported, and never a reason to restart.
        severity: Severity = Severity::Critical;
        /// One limit for the name, the connection, TLS and the answer together; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, example r#""10s""#;
        /// It must have failed in every run for so long.
        for_("for"): Duration = Duration::ZERO;
    }
}

fn fits_together(table: &Table<'_>, part: &mut Part<Rule>) {
    let Some(address) = part.address.clone() else {
        return;
    };
    let rule = Rule {
        tls: part.tls.unwrap_or(false),
        ca_file: part.ca_file.clone().flatten(),
        host: part.host.clone().flatten(),
        ..Rule::new(address)
    };
    if let Some(why) = rule.contradiction() {
        let key = ["ca_file", "host", "tls"]
            .into_iter()
            .find(|key| table.has(key));
        if let Some(value) = key.and_then(|key| table.get(key)) {
            value.misplaced(&why, "`tls = true` goes with `ca_file` and `host`");
        }
    }
}

impl Form for Address {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        match Self::parse(value.text()?) {
            Ok(address) => Some(address),
            Err(why) => {
                value.wrong(
                    &why,
                    "write it like \"127.0.0.1:4002\", \"[::1]:4002\", \"gateway.example.org:4002\" or \"unix:/run/x.sock\"",
                );
                None
            }
        }
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.to_string()))
    }

    fn kind() -> String {
        "an address with a port".to_owned()
    }
}

/// Text that is sent as bytes.
struct Sent;

impl Form<Vec<u8>> for Sent {
    fn read(value: &Value<'_>, _: &Context) -> Option<Vec<u8>> {
        value.text().map(|text| text.as_bytes().to_vec())
    }

    fn show(value: &Vec<u8>) -> Option<Shown> {
        Some(Shown::text(String::from_utf8_lossy(value)))
    }

    fn kind() -> String {
        "a text".to_owned()
    }
}

/// A probe that has to be answered, for tests.
#[cfg(test)]
pub(super) fn expecting(address: &str) -> Rule {
    Rule {
        expect: Some(Pattern::new(r"^\+PONG").unwrap()),
        ..Rule::new(Address::parse(address).unwrap())
    }
}

impl Rule {
    /// A probe that asks only whether a connection can be made.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            send: None,
            expect: None,
            tls: false,
            ca_file: None,
            host: None,
            severity: Severity::Critical,
            timeout: None,
            for_: Duration::ZERO,
        }
    }

    /// The name of the check in the state and in reports: `port:127.0.0.1:4002`.
    pub fn id(&self) -> String {
        format!("port:{}", self.address)
    }

    /// The name that the certificate must have; none for a unix socket without `host`.
    pub fn server_name(&self) -> Option<String> {
        match (&self.host, &self.address) {
            (Some(host), _) => Some(host.clone()),
            (None, Address::Ip(address)) => Some(address.ip().to_string()),
            (None, Address::Name { name, .. }) => {
                let name = name.split('%').next().unwrap_or(name);
                Some(name.strip_suffix('.').unwrap_or(name).to_owned())
            }
            (None, Address::Unix(_)) => None,
        }
    }

    /// What is wrong with the keys together, though each may be right by itself.
    pub fn contradiction(&self) -> Option<String> {
        if !self.tls {
            let key = match (&self.ca_file, &self.host) {
                (Some(_), _) => "ca_file",
                (None, Some(_)) => "host",
                (None, None) => return None,
            };
            return Some(format!("`{key}` means nothing without `tls = true`"));
        }
        let Some(name) = self.server_name() else {
            return Some(
                "`tls` over a unix socket needs `host`, the name that the certificate must have"
                    .to_owned(),
            );
        };
        rustls::pki_types::ServerName::try_from(name.as_str())
            .is_err()
            .then(|| {
                format!(
                    "`{}` is not a name that a certificate can have; set `host`",
                    visible(&name)
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_manual_says_what_an_address_is() {
        assert_eq!(<Address as Form>::kind(), "an address with a port");
    }

    #[test]
    fn addresses_are_read_and_written_the_same() {
        for text in [
            "127.0.0.1:4002",
            "[::1]:4002",
            "[fe80::1%eth0]:80",
            "localhost:1",
            "db_1.example.org.:65535",
            "1password.example:443",
            "unix:/run/x.sock",
            "unix:/run/with space:and colon",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Address::parse("[0:0:0:0:0:0:0:1]:5").unwrap().to_string(),
            "[::1]:5"
        );
        let longest = format!("unix:/{}", "x".repeat(106));
        assert_eq!(Address::parse(&longest).unwrap().to_string(), longest);
        assert_eq!(
            Rule::new(Address::parse("127.0.0.1:4002").unwrap()).id(),
            "port:127.0.0.1:4002"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        let long = format!("unix:/{}", "x".repeat(107));
        let long_label = format!("{}.org:80", "x".repeat(64));
        for (text, part) in [
            ("", "there is no port; write \"host:port\", as in"),
            ("localhost", "no port; write \"host:port\""),
            ("localhost:", "no port behind the colon"),
            (
                ":4002",
                "no host before the port; for this machine write \"127.0.0.1:4002\"",
            ),
            (
                "localhost:http",
                "`http` is not a port: a number from 1 to 65535",
            ),
            ("localhost:0", "`0` is not a port"),
            ("localhost:+80", "`+80` is not a port"),
            ("localhost:65536", "`65536` is not a port"),
            ("localhost:-1", "`-1` is not a port"),
            ("::1:4002", "an IPv6 address is written in brackets"),
            ("::1", "an IPv6 address is written in brackets"),
            ("[::1]", "no port; write \"[::1]:4002\""),
            ("[::1]4002", "no port; write \"[::1]:4002\""),
            ("[::1:4002", "the bracket of the IPv6 address is not closed"),
            ("[127.0.0.1]:80", "`127.0.0.1` is not an IPv6 address"),
            ("[fe80::1%]:80", "is not an IPv6 address"),
            ("300.1.1.1:80", "`300.1.1.1` is not an IPv4 address"),
            ("127.1:80", "is not an IPv4 address"),
            (
                "bücher.example:80",
                "has characters that no host name has; write its ASCII form",
            ),
            ("a b:80", "has a ` ` in it"),
            ("user@host:80", "has a `@` in it"),
            ("a..b:80", "a part of it is empty"),
            (&long_label, "too long"),
            (
                "http://localhost:80",
                "an address is \"host:port\", without `http://`",
            ),
            (
                "/run/x.sock",
                "a unix socket is written with its kind: \"unix:/run/x.sock\"",
            ),
            ("unix:", "no path behind `unix:`"),
            (
                "unix:x.sock",
                "the path of a unix socket begins with `/`, not `x.sock`",
            ),
            ("unix:/a\0b", "a path has no zero byte in it"),
            (
                &long,
                "the path of a unix socket has at most 107 bytes, this one has 108",
            ),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn keys_that_mean_nothing_together_are_found() {
        let rule = |address: &str| Rule::new(Address::parse(address).unwrap());
        assert_eq!(rule("127.0.0.1:1").contradiction(), None);
        let with_host = Rule {
            host: Some("x.example".to_owned()),
            ..rule("127.0.0.1:1")
        };
        assert!(
            with_host
                .contradiction()
                .unwrap()
                .contains("`host` means nothing without `tls = true`")
        );
        let tls = |rule: Rule| Rule { tls: true, ..rule };
        assert_eq!(tls(with_host.clone()).contradiction(), None);
        assert_eq!(tls(rule("[::1]:1")).server_name().unwrap(), "::1");
        assert_eq!(tls(rule("[::1]:1")).contradiction(), None);
        assert_eq!(
            tls(rule("a.example.:1")).server_name().unwrap(),
            "a.example"
        );
        assert!(
            tls(rule("unix:/x"))
                .contradiction()
                .unwrap()
                .contains("`tls` over a unix socket needs `host`")
        );
        let blank = Rule {
            host: Some("a b".to_owned()),
            ..tls(rule("unix:/x"))
        };
        assert!(
            blank
                .contradiction()
                .unwrap()
                .contains("`a b` is not a name")
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,40}|[a-z0-9:.\\[\\]%/]{0,30}") {
            if let Ok(address) = Address::parse(&text) {
                let written = address.to_string();
                prop_assert_eq!(Address::parse(&written), Ok(address));
            }
        }
    }
}
