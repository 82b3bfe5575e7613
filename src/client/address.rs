//! Where others are: an IP address, a name or a unix socket, as a config says it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::table::absolute;
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
        Self::parse_from(text, None)
    }

    /// The same, where the path of a unix socket may be relative to a directory.
    pub fn parse_from(text: &str, base: Option<&Path>) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path, base);
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

impl Address {
    /// The name that a certificate has to have there; none for a unix socket.
    pub fn server_name(&self) -> Option<String> {
        match self {
            Self::Ip(address) => Some(address.ip().to_string()),
            Self::Name { name, .. } => {
                let name = name.split('%').next().unwrap_or(name);
                Some(name.strip_suffix('.').unwrap_or(name).to_owned())
            }
            Self::Unix(_) => None,
        }
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

fn unix(text: &str, base: Option<&Path>) -> Result<Address, String> {
    if text.is_empty() {
        return Err("there is no path behind `unix:`; write \"unix:/run/x.sock\"".to_owned());
    }
    if text.starts_with('~') {
        return Err("`~` is not expanded; write the path of the socket in full".to_owned());
    }
    let path = match base {
        _ if text.starts_with('/') => PathBuf::from(text),
        Some(base) => absolute(base, text),
        None => {
            return Err(format!(
                "the path of a unix socket begins with `/`, not `{}`",
                visible(text)
            ));
        }
    };
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
    Ok(Address::Unix(path))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn the_path_of_a_socket_may_be_relative_to_a_directory() {
        let base = Path::new("/srv/app");
        for (text, meant) in [
            ("unix:app.sock", Ok("unix:/srv/app/app.sock")),
            (
                "unix:./run/../app.sock",
                Ok("unix:/srv/app/run/../app.sock"),
            ),
            ("unix:/run/x.sock", Ok("unix:/run/x.sock")),
            ("localhost:1", Ok("localhost:1")),
            ("unix:", Err("no path behind `unix:`")),
            ("unix:~/x.sock", Err("`~` is not expanded")),
            ("app.sock", Err("there is no port")),
            (&format!("unix:{}", "x".repeat(99)), Err("this one has 108")),
        ] {
            match (Address::parse_from(text, Some(base)), meant) {
                (Ok(read), Ok(meant)) => assert_eq!(read.to_string(), meant),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
        assert!(Address::parse("unix:~/x").is_err());
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
