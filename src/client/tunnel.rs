//! The way through a proxy: what is asked of it before the other side can be spoken to, and what it says.

use std::fmt;
use std::io::{self, ErrorKind};

use super::http::secrets::{masked, masked_where_cut};
use super::{Fault, Step};
use crate::text::{printable, visible};

/// The answer of a proxy is read up to here.
const HEAD_LIMIT: usize = 16 << 10;

/// Of what it says beside its status, so many bytes are shown.
const SHOWN: usize = 120;

/// What is asked of a proxy: all bytes of a `CONNECT`. A password may be in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Tunnel {
    request: Vec<u8>,
    /// What is never shown, whoever repeats it.
    secrets: Vec<String>,
}

impl Tunnel {
    /// To `host:port`, with `Proxy-Authorization` where there is a proof of who asks. Neither has a line end in it.
    pub(super) fn to(
        place: &str,
        authorization: Option<&[u8]>,
        secrets: &[String],
        user_agent: &str,
    ) -> Self {
        let mut request =
            format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: {user_agent}\r\n")
                .into_bytes();
        if let Some(proof) = authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(proof);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        Self {
            request,
            secrets: secrets.to_vec(),
        }
    }

    pub(super) fn begin(&self) -> Opening {
        Opening {
            unsent: self.request.clone(),
            secrets: self.secrets.clone(),
            heard: Vec::new(),
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnel(***)")
    }
}

/// A tunnel that is being opened.
pub(super) struct Opening {
    unsent: Vec<u8>,
    secrets: Vec<String>,
    heard: Vec<u8>,
}

/// How that stands.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// The head is not whole.
    Part,
    /// It was an interim answer of so many bytes.
    Interim(usize),
    /// The head has so many bytes, and this status.
    Whole(usize, u16),
    /// It is no answer by HTTP.
    Other,
}

impl Opening {
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends and hears as much as there is. Whether the tunnel is open.
    pub(super) fn drive<W>(
        &mut self,
        mut send: impl FnMut(&[u8]) -> io::Result<usize>,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
        broken: impl Fn(&io::Error) -> Fault<W>,
    ) -> Result<bool, Fault<W>> {
        while !self.unsent.is_empty() {
            match send(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                // it may have answered before it closed
                Err(error) if !is_nothing(&error) => self.unsent.clear(),
                Err(_) => break,
            }
        }
        let mut bytes = [0; 4096];
        match read(&mut bytes) {
            Ok(0) if self.heard.is_empty() => Err(Fault::HungUp(Step::Tunnel)),
            Ok(0) => Err(Fault::Unreadable(
                "closed the connection in the middle of its answer to CONNECT".to_owned(),
            )),
            Ok(length) => {
                self.heard.extend_from_slice(&bytes[..length]);
                self.judge().map_err(Fault::Unreadable)
            }
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Whether the tunnel is open, by what was heard. The error continues a sentence that begins with the proxy.
    fn judge(&mut self) -> Result<bool, String> {
        loop {
            match said(&self.heard) {
                Said::Interim(length) => drop(self.heard.drain(..length)),
                Said::Whole(length, 200..=299) if length == self.heard.len() => return Ok(true),
                // who is asked by TLS says nothing before it is asked
                Said::Whole(length, 200..=299) => {
                    let more = self.shown(&self.heard[length..]);
                    return Err(format!(
                        "opened the way, and sent something of its own: `{more}`"
                    ));
                }
                Said::Whole(length, status) => return Err(self.refused(length, status)),
                Said::Other => {
                    let first = self.shown(&self.heard);
                    return Err(format!(
                        "answered CONNECT with something that is not HTTP/1: `{first}`"
                    ));
                }
                Said::Part if self.heard.len() >= HEAD_LIMIT => {
                    return Err("answered CONNECT with a head without end".to_owned());
                }
                Said::Part => return Ok(false),
            }
        }
    }

    fn refused(&self, length: usize, status: u16) -> String {
        let head = String::from_utf8_lossy(&self.heard[..length]);
        let head = masked(&head, &self.secrets);
        let line = head.lines().next().unwrap_or_default();
        let reason = line.splitn(3, ' ').nth(2).unwrap_or_default();
        let said = visible(format!("{status} {reason}").trim());
        let advice = match status {
            401 | 407 => "; check the user and password of the proxy",
            _ => "",
        };
        let body = self.heard[length..].trim_ascii();
        if body.is_empty() || body.starts_with(b"<") {
            return format!("answered {said} to CONNECT{advice}");
        }
        format!("answered {said} to CONNECT{advice}: {}", self.shown(body))
    }

    /// What it said, for people.
    fn shown(&self, bytes: &[u8]) -> String {
        // what is no text is shown byte by byte
        match std::str::from_utf8(bytes) {
            Ok(text) => printable(masked_where_cut(text, &self.secrets).as_bytes(), SHOWN),
            Err(_) if self.secrets.is_empty() => printable(bytes, SHOWN),
            Err(_) => {
                let text = String::from_utf8_lossy(bytes);
                printable(masked_where_cut(&text, &self.secrets).as_bytes(), SHOWN)
            }
        }
    }
}

/// What the beginning of an answer is.
fn said(heard: &[u8]) -> Said {
    const START: &[u8] = b"HTTP/1.";
    let first = &heard[..heard.len().min(START.len())];
    if !START.starts_with(first) {
        return Said::Other;
    }
    // the end of the head: a blank line, however lines end
    let mut line_began = 0;
    for (at, _) in heard.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let line = &heard[line_began..at];
        if line_began > 0 && line.strip_suffix(b"\r").unwrap_or(line).is_empty() {
            let status = (heard.get(8..12))
                .filter(|text| text[0] == b' ')
                .and_then(|text| std::str::from_utf8(&text[1..]).ok())
                .and_then(|text| text.parse().ok());
            return match status {
                Some(100..=199) => Said::Interim(at + 1),
                Some(status) => Said::Whole(at + 1, status),
                None => Said::Other,
            };
        }
        line_began = at + 1;
    }
    Said::Part
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opening() -> Opening {
        Tunnel::to("a.example:443", None, &[], "x").begin()
    }

    /// What comes of these pieces, one after the other.
    fn judged(pieces: &[&[u8]]) -> Result<bool, String> {
        let mut opening = opening();
        let mut is_open = false;
        for piece in pieces {
            opening.heard.extend_from_slice(piece);
            is_open = opening.judge()?;
        }
        Ok(is_open)
    }

    #[test]
    fn what_is_asked_is_a_connect_with_the_proof_of_who_asks() {
        let tunnel = Tunnel::to(
            "a.example:443",
            Some(b"Basic bWU6Y2FuYXJ5"),
            &[],
            "watchdog/1",
        );
        assert_eq!(
            String::from_utf8(tunnel.request.clone()).unwrap(),
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nUser-Agent: watchdog/1\r\n\
             Proxy-Authorization: Basic bWU6Y2FuYXJ5\r\n\r\n"
        );
        assert!(!format!("{tunnel:?}").contains("bWU6"));
    }

    #[test]
    fn only_a_success_opens_the_way() {
        for (pieces, expected) in [
            (&[&b"HTTP/1.1 200 Connection established\r\n\r\n"[..]][..], Ok(true)),
            (&[b"HTTP/1.0 204 x\n\n"], Ok(true)),
            (&[b"HTTP/1.1 200\r\nVia: x\r\nContent-Length: 9\r\n\r\n"], Ok(true)),
            (&[b"HTT", b"P/1.1 2", b"00 OK\r\n\r", b"\n"], Ok(true)),
            (&[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"], Ok(true)),
            (&[b""], Ok(false)),
            (&[b"HTTP/1.1 200 OK\r\n"], Ok(false)),
            (&[b"HTTP/1.1 102 x\r\n\r\n"], Ok(false)),
            (
                &[b"HTTP/1.1 200 OK\r\n\r\nhello"],
                Err("opened the way, and sent something of its own: `hello`"),
            ),
            (
                &[b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"],
                Err("answered 407 Proxy Authentication Required to CONNECT; check the user and password of the proxy"),
            ),
            (
                &[b"HTTP/1.1 502 Bad Gateway\r\n\r\nno such\r\nhost"],
                Err("answered 502 Bad Gateway to CONNECT: no such\\x0d\\x0ahost"),
            ),
            (
                &[b"HTTP/1.1 403\r\n\r\n<html>a page</html>"],
                Err("answered 403 to CONNECT"),
            ),
            (&[b"HTTP/1.1 301 Moved\r\n\r\n"], Err("answered 301 Moved to CONNECT")),
            (
                &[b"\x15\x03\x01"],
                Err("answered CONNECT with something that is not HTTP/1: `\\x15\\x03\\x01`"),
            ),
            (
                &[b"SSH-2.0-x\r\n"],
                Err("answered CONNECT with something that is not HTTP/1: `SSH-2.0-x\\x0d\\x0a`"),
            ),
            (
                &[b"HTTP/1.1 abc\r\n\r\n"],
                Err("answered CONNECT with something that is not HTTP/1: `HTTP/1.1 abc\\x0d\\x0a\\x0d\\x0a`"),
            ),
        ] {
            assert_eq!(judged(pieces), expected.map_err(str::to_owned), "{pieces:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\n", &b"a: b\r\n".repeat(4000)[..]].concat();
        assert_eq!(
            judged(&[&endless]),
            Err("answered CONNECT with a head without end".to_owned())
        );
    }

    proptest! {
        #[test]
        fn however_it_comes_in_pieces_it_says_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            begins in any::<bool>(),
            at in 0_usize..60,
        ) {
            let head = if begins { &b"HTTP/1.1 200 OK\r\n"[..] } else { b"" };
            let all = [head, &bytes].concat();
            let at = at.min(all.len());
            let (whole, parts) = (judged(&[&all]), judged(&[&all[..at], &all[at..]]));
            // what is decided early is decided the same way, but for how much of it is shown
            prop_assert_eq!(whole.is_ok(), parts.is_ok() || parts != whole && whole.is_ok());
            if let (Ok(whole), Ok(parts)) = (whole, parts) {
                prop_assert_eq!(whole, parts);
            }
        }
    }
}
