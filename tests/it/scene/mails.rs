//! Mails, read back and decoded as their readers see them.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Scene;

impl Scene {
    /// The mails in the directory of a `directory = "mails"` transport, oldest first.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let Ok(entries) = fs::read_dir(self.path("mails")) else {
            return Vec::new();
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.path().extension() == Some(OsStr::new("eml")))
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        files.sort();
        files
            .iter()
            .map(|(_, path)| Mail::parse(&String::from_utf8_lossy(&fs::read(path).unwrap())))
            .collect()
    }
}

/// A message, decoded.
#[derive(Debug)]
pub(crate) struct Mail {
    headers: Vec<(String, String)>,
    /// The body as its reader sees it.
    pub(crate) body: String,
}

impl Mail {
    /// Parses a message of one plain part.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text
            .split_once("\n\n")
            .unwrap_or_else(|| panic!("no end of headers in {text}"));
        let unfolded = head.replace("\n ", " ").replace("\n\t", " ");
        let headers: Vec<(String, String)> = unfolded
            .lines()
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .unwrap_or_else(|| panic!("no header: {line}"));
                (name.to_ascii_lowercase(), decode_words(value.trim()))
            })
            .collect();
        let mut mail = Self {
            headers,
            body: String::new(),
        };
        mail.body = match mail
            .header("Content-Transfer-Encoding")
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "base64" => String::from_utf8_lossy(&base64(body)).into_owned(),
            "quoted-printable" => {
                String::from_utf8_lossy(&quoted(&body.replace("=\n", ""), false)).into_owned()
            }
            _ => body.to_owned(),
        }
        .replace("\r\n", "\n");
        mail
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let found = self.headers.iter().find(|(key, _)| *key == name)?;
        Some(found.1.clone())
    }

    /// The subject.
    pub(crate) fn subject(&self) -> String {
        self.header("Subject").expect("a subject")
    }
}

fn decode_words(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("=?") {
        let mut parts = after.splitn(4, '?');
        let (Some(_), Some(kind), Some(data), Some(tail)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            break;
        };
        // white space between two encoded words is not part of the text
        if !before.trim().is_empty() || text.is_empty() {
            text.push_str(before);
        }
        let bytes = if kind.eq_ignore_ascii_case("b") {
            base64(data)
        } else {
            quoted(data, true)
        };
        text.push_str(&String::from_utf8_lossy(&bytes));
        rest = tail.strip_prefix('=').unwrap_or(tail);
    }
    text.push_str(rest);
    text
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

fn quoted(text: &str, in_header: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'=', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'_', _) if in_header => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

#[test]
fn the_harness_reads_mails() {
    let mail = Mail::parse(
        "Subject: =?utf-8?B?w6Q=?= =?utf-8?Q?b_c?=\r\nX-Long: a\r\n b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=C3=A4 =\r\nb\r\n",
    );
    assert_eq!(mail.subject(), "äb c");
    assert_eq!(mail.header("x-long").unwrap(), "a b");
    assert_eq!(mail.body, "aä b\n");
}
