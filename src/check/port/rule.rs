//! What a port probe is asked to do: its address, what it sends and expects, and how its failure counts.

use std::path::PathBuf;
use std::time::Duration;

use crate::check::Severity;
use crate::check::pattern::Pattern;
use crate::client::{Address, Protection, Target};
use crate::table::{Context, Filled, Form, Part, Positive, Shown, Table, Value, table};
use crate::text::visible;

table! {
    /// A port that must accept connections; there may be several such tables.
    pub struct Rule like "[[service.NAME.port]]", check fits_together {
        /// Also an IPv6 address in brackets, or "unix:/run/trader.sock" (or "unix:trader.sock", in working_dir); a name is
        /// tried at each of its addresses.
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
    fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
        match Self::parse_from(value.text()?, Some(&*context.base)) {
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

    /// Whom it connects to.
    pub(super) fn target(&self) -> Target {
        Target {
            address: self.address.clone(),
            tunnel: None,
            tls: self.tls.then(|| Protection {
                name: self.server_name().unwrap_or_default(),
                ca_file: self.ca_file.clone(),
            }),
        }
    }

    /// The name that the certificate must have; none for a unix socket without `host`.
    pub fn server_name(&self) -> Option<String> {
        self.host.clone().or_else(|| self.address.server_name())
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

    #[test]
    fn the_manual_says_what_an_address_is() {
        assert_eq!(<Address as Form>::kind(), "an address with a port");
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
}
