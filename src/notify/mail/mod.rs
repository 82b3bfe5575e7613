//! Mail: SMTP, a sendmail command, or a directory of .eml files.
//!
//! A mail server may be slow, hang, lie or be somebody else, and the one who waits is a run that has services to
//! look after. So each way out has one deadline for all of it, looking up names and reading passwords included;
//! what hangs in the kernel beyond it is left behind in its thread. What comes back tells the recipients apart.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox as Parsed;

use super::{Message, Outcome, Recipient, Report};
use crate::text::{cut, is_unseen, visible};

mod directory;
mod eml;
mod keys;
mod secret;
mod sendmail;
mod smtp;

pub use eml::eml;
pub use keys::{Settings, Smtp};
pub use secret::Secret;

/// The way that mail leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A mail server.
    Smtp(Smtp),
    /// A program that takes a message on its standard input, as sendmail does.
    Sendmail {
        /// Its path.
        command: PathBuf,
    },
    /// A directory that .eml files are written into, absolute.
    Directory(PathBuf),
}

impl Transport {
    /// How long a delivery may take, a second or two for ending it aside.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Smtp(smtp) => smtp.timeout,
            Self::Sendmail { .. } | Self::Directory(_) => TIMEOUT,
        }
    }
}

/// How an SMTP connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain at first, then STARTTLS, which must succeed.
    Starttls,
    /// TLS from the start.
    Tls,
    /// None.
    None,
}

impl Settings {
    /// The recipients as they were written.
    pub fn recipients(&self) -> Vec<String> {
        self.to.iter().map(|to| to.written.clone()).collect()
    }
}

/// How long the ways without a timeout of their own may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// From and to whom a message goes, whatever its headers say.
struct Envelope {
    from: Address,
    to: Vec<Address>,
}

/// One outcome for each address of an envelope.
struct Handed {
    outcomes: Vec<Outcome>,
    /// The way itself failed: another message would fare no better now.
    in_vain: bool,
}

/// Sends one message to all recipients, within the transport's timeout and a little more, whatever the other side
/// does.
pub fn send(settings: &Settings, message: &Message) -> Report {
    send_to(
        settings,
        &settings.recipients(),
        message,
        settings.transport.timeout(),
    )
}

/// The same to some recipients only, those that an earlier attempt still owes, within `limit` where that is less
/// than the transport's timeout. The headers name all.
pub fn send_to(
    settings: &Settings,
    recipients: &[String],
    message: &Message,
    limit: Duration,
) -> Report {
    send_telling(settings, recipients, message, limit, &mut |_| {})
}

/// The same, and every step that was made is told as a sentence, as soon as it was made.
pub fn send_telling(
    settings: &Settings,
    recipients: &[String],
    message: &Message,
    limit: Duration,
    tell: &mut dyn FnMut(&str),
) -> Report {
    let undecided = || Outcome::deferred("");
    let mut report = Report::default();
    let mut to = Vec::new();
    for recipient in recipients {
        if report
            .recipients
            .iter()
            .any(|known| known.address == *recipient)
        {
            continue;
        }
        let outcome = match Mailbox::parse(recipient) {
            Ok(mailbox) => {
                to.push(mailbox.parsed.email);
                None
            }
            Err(error) => Some(Outcome::Refused(format!("[mail] to: {error}"))),
        };
        report.recipients.push(Recipient {
            address: recipient.clone(),
            // replaced below for every address that is one
            outcome: outcome.unwrap_or_else(undecided),
        });
    }
    let handed = hand_over(settings, to, message, limit, tell);
    report.in_vain = handed.in_vain;
    let open = report
        .recipients
        .iter_mut()
        .filter(|recipient| recipient.outcome == undecided());
    for (recipient, outcome) in open.zip(handed.outcomes) {
        recipient.outcome = outcome;
    }
    report
}

fn hand_over(
    settings: &Settings,
    to: Vec<Address>,
    message: &Message,
    limit: Duration,
    tell: &mut dyn FnMut(&str),
) -> Handed {
    let count = to.len();
    let all = |outcome: Outcome| Handed {
        in_vain: matches!(outcome, Outcome::Deferred { .. }),
        outcomes: vec![outcome; count],
    };
    if to.is_empty() {
        return all(Outcome::Delivered);
    }
    let limit = limit.min(settings.transport.timeout());
    let from = settings.from.parsed.email.clone();
    let bytes = match eml(settings, message) {
        Ok(bytes) => bytes,
        Err(error) => return all(Outcome::deferred(error)),
    };
    let envelope = Envelope { from, to };
    match &settings.transport {
        Transport::Smtp(smtp) => {
            let smtp = Smtp {
                timeout: limit,
                ..smtp.clone()
            };
            smtp::deliver(&smtp, envelope, bytes, tell)
        }
        Transport::Sendmail { command } => {
            let handed = sendmail::deliver(command, &envelope, &bytes, limit);
            if handed.outcomes.contains(&Outcome::Delivered) {
                tell(&format!("{} took the message", command.display()));
            }
            handed
        }
        Transport::Directory(directory) => {
            let name = directory::file_name(message);
            let path = directory.join(&name);
            let (send, told) = mpsc::channel();
            let target = directory.clone();
            let thread = std::thread::Builder::new().spawn(move || {
                let _ = send.send(directory::deliver(&target, &name, &bytes));
            });
            let answer = match thread {
                Ok(_) => told.recv_timeout(limit),
                Err(error) => Ok(Err(format!("no thread to write mail from: {error}"))),
            };
            all(match answer {
                Ok(Ok(())) => {
                    tell(&format!("written to {}", path.display()));
                    Outcome::Delivered
                }
                Ok(Err(error)) => Outcome::deferred(error),
                Err(_) => Outcome::Deferred {
                    why: format!(
                        "{}: not written within {}; does its file system answer",
                        directory.display(),
                        crate::clock::rough(limit)
                    ),
                    maybe_delivered: true,
                },
            })
        }
    }
}

/// An address of mail: `ops@example.org` or `Ops <ops@example.org>`. There is no other way to one than [`Mailbox::parse`],
/// so what a config has is what can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    written: String,
    parsed: Parsed,
}

impl Mailbox {
    /// Reads an address. The error is a sentence about the address alone; its place is the caller's to add.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written = text.trim();
        let parsed = written.parse::<Parsed>();
        match parsed {
            Ok(parsed) if !written.chars().any(is_unseen) => Ok(Self {
                written: written.to_owned(),
                parsed,
            }),
            _ => Err(format!(
                "`{}` is not a mail address; write it like ops@example.org",
                cut(&visible(text), 100)
            )),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

/// An I/O error without its number, in our case of letters.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    pub(super) fn message() -> Message {
        Message {
            subject: "[watchdog] box1: trader restarted".to_owned(),
            body: "trader was restarted and is up again.\n".to_owned(),
            services: vec!["trader".to_owned(), "feed".to_owned()],
            event: Event::Restarted,
            time: "2026-11-22T01:02:03Z".parse().unwrap(),
            message_id: "<20261122T010203Z.trader.1@box1>".to_owned(),
            in_reply_to: None,
            references: Vec::new(),
        }
    }

    pub(super) fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    pub(super) fn settings(transport: Transport) -> Settings {
        Settings {
            from: mailbox("watchdog@example.org"),
            to: vec![
                mailbox("ops@example.org"),
                mailbox("Boss <boss@example.org>"),
            ],
            on: Vec::new(),
            remind_every: Duration::from_hours(1),
            max_per_hour: 12,
            transport,
        }
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, email) in [
            ("ops@example.org", "ops@example.org"),
            (" Ops Team <ops@example.org> ", "ops@example.org"),
        ] {
            let read = Mailbox::parse(text).unwrap();
            assert_eq!(read.parsed.email.to_string(), email, "{text}");
            assert_eq!(read.as_str(), text.trim());
        }
        for text in [
            "",
            "a b",
            "@",
            "a@",
            "x@y\r\nBcc: z@y",
            "a@b@c",
            "a\u{0}@b",
            "root",
            "A\u{202e} <a@b>",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(
            Mailbox::parse("two words").unwrap_err(),
            "`two words` is not a mail address; write it like ops@example.org"
        );
    }

    #[test]
    fn a_bad_address_costs_the_others_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(Transport::Directory(directory.path().join("out")));
        // as an outbox may have them
        let to = ["no body", "ops@example.org", "ops@example.org"].map(str::to_owned);
        let report = send_to(&settings, &to, &message(), Duration::from_secs(10));
        assert_eq!(report.recipients.len(), 2, "each recipient once");
        assert_eq!(
            report.recipients[0].outcome,
            Outcome::Refused(
                "[mail] to: `no body` is not a mail address; write it like ops@example.org"
                    .to_owned()
            )
        );
        assert_eq!(report.recipients[1].outcome, Outcome::Delivered);
    }
}
