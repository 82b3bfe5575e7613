//! Mail: SMTP, a sendmail command, or a directory of .eml files.
//!
//! A mail server may be slow, hang, lie or be somebody else, and the one who waits is a run that has services to
//! look after. So each way out has one deadline for all of it, looking up names and reading passwords included;
//! what hangs in the kernel beyond it is left behind in its thread. What comes back has an outcome for each recipient.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox as Parsed;
use nix::unistd::{AccessFlags, access};

use super::kind::Private;
use super::report::{Pause, Paused};
use super::{ChannelKind, DeliveryReport, Notification, Outcome, Recipient, Routing, Thread};
use crate::check::trap::Trap;
use crate::files;
use crate::text::{cut, is_invisible, visible};

mod directory;
mod eml;
mod keys;
mod message;
mod sendmail;
mod smtp;

pub use super::Secret;
pub use eml::eml;
pub use keys::{Settings, Smtp};
pub use message::{Message, id};

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

impl ChannelKind for Settings {
    type Request = Rendered;

    fn routing(&self) -> &Routing {
        &self.routing
    }

    /// The recipients as they were written.
    fn recipients(&self) -> Vec<String> {
        self.to.iter().map(|to| to.written.clone()).collect()
    }

    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or_else(|| self.transport.timeout())
    }

    fn describe(&self) -> String {
        let how = match &self.transport {
            Transport::Smtp(smtp) => {
                let host = &smtp.host;
                let tls = match smtp.tls {
                    Tls::Starttls => "STARTTLS",
                    Tls::Tls => "TLS from the start",
                    Tls::None => "no TLS",
                };
                let login = match &smtp.username {
                    Some(name) => format!("logging in as `{name}`"),
                    None => "without a login".to_owned(),
                };
                format!("{host}, port {}, with {tls}, {login}", smtp.port)
            }
            Transport::Sendmail { command } => format!("the command {}", command.display()),
            Transport::Directory(directory) => format!("a file in {}", directory.display()),
        };
        format!(
            "from {} to {}, by {how}",
            self.from.as_str(),
            self.recipients().join(", ")
        )
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        let Transport::Smtp(smtp) = &self.transport else {
            return Vec::new();
        };
        let password = smtp.password.iter();
        password
            .map(|password| Private::of(&["smtp", "password"], password))
            .collect()
    }

    fn traps(&self) -> Vec<Trap> {
        match &self.transport {
            Transport::Directory(directory) => {
                let there = directory.ancestors().find(|path| path.exists());
                let is_writable = |there: &Path| {
                    there.is_dir() && access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
                };
                if there.is_some_and(is_writable) {
                    return Vec::new();
                }
                vec![Trap::of(
                    "directory",
                    format!(
                        "no mail can be written to {}: it is not a directory that this user can write to",
                        directory.display()
                    ),
                    "make it a directory of the user who runs `watchdog check`",
                )]
            }
            Transport::Sendmail { command } => {
                let why = files::check_executable(command).err();
                let trap = |why| {
                    Trap::of(
                        "sendmail.command",
                        format!("no mail can be sent: {why}"),
                        "install a mailer such as msmtp-mta or postfix, or use `smtp`",
                    )
                };
                why.map(trap).into_iter().collect()
            }
            Transport::Smtp(_) => Vec::new(),
        }
    }

    fn message_id(&self, notification: &Notification) -> Option<String> {
        Some(id(notification))
    }

    fn render(&self, notification: &Notification, thread: &Thread) -> Result<Rendered, String> {
        Rendered::of(self, &Message::of(notification, thread))
    }

    fn send(
        &self,
        message: Rendered,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        let undecided = || Outcome::deferred("");
        let mut report = DeliveryReport::default();
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
                Err(error) => Some(Outcome::Never(format!("[mail] to: {error}"))),
            };
            report.recipients.push(Recipient {
                address: recipient.clone(),
                // replaced below for every address that is one
                outcome: outcome.unwrap_or_else(undecided),
            });
        }
        let handed = hand_over(self, to, message, limit, step);
        report.transport_failed = handed.transport_failed;
        let open = report
            .recipients
            .iter_mut()
            .filter(|recipient| recipient.outcome == undecided());
        for (recipient, outcome) in open.zip(handed.outcomes) {
            recipient.outcome = outcome;
        }
        self.hold_refused(&mut report, handed.message_refused);
        report
    }
}

impl Settings {
    /// What was refused is not tried by every run: where everybody was, no other message is, either.
    fn hold_refused(&self, report: &mut DeliveryReport, message_refused: bool) {
        if !report.is_refused() {
            return;
        }
        let pending = report.pending();
        let all = self.recipients().iter().all(|to| pending.contains(to));
        let whom = if all && !message_refused {
            report.transport_failed = true;
            Paused::Channel
        } else {
            Paused::Message
        };
        report.pause = Some(Pause {
            whom,
            ..Pause::REFUSED
        });
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
struct Accepted {
    outcomes: Vec<Outcome>,
    /// The transport itself failed: another message would fail as well now.
    transport_failed: bool,
    /// It was the message that was refused, and no recipient of it.
    message_refused: bool,
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub struct Rendered {
    /// What a file of it is called.
    file_name: String,
    /// As it goes over the wire.
    bytes: Vec<u8>,
}

impl Rendered {
    fn of(settings: &Settings, message: &Message) -> Result<Self, String> {
        Ok(Self {
            file_name: directory::file_name(message),
            bytes: eml(settings, message)?,
        })
    }
}

/// Sends one message to all recipients, within the transport's timeout and a little more, whatever the other side
/// does.
pub fn send(settings: &Settings, message: &Message) -> DeliveryReport {
    let limit = settings.transport.timeout();
    send_to(settings, &settings.recipients(), message, limit)
}

/// The same to some recipients only, those that an earlier attempt did not reach, within `limit` where that is less
/// than the transport's timeout. The headers name all.
pub fn send_to(
    settings: &Settings,
    recipients: &[String],
    message: &Message,
    limit: Duration,
) -> DeliveryReport {
    match Rendered::of(settings, message) {
        Ok(rendered) => settings.send(rendered, recipients, limit, &mut |_| {}),
        Err(why) => DeliveryReport::all(recipients, &Outcome::deferred(why)),
    }
}

fn hand_over(
    settings: &Settings,
    to: Vec<Address>,
    message: Rendered,
    limit: Duration,
    step: &mut dyn FnMut(&str),
) -> Accepted {
    let count = to.len();
    let all = |outcome: Outcome| Accepted {
        transport_failed: matches!(outcome, Outcome::Deferred { .. }),
        outcomes: vec![outcome; count],
        message_refused: false,
    };
    if to.is_empty() {
        return all(Outcome::Delivered);
    }
    let limit = limit.min(settings.transport.timeout());
    let from = settings.from.parsed.email.clone();
    let envelope = Envelope { from, to };
    let Rendered { file_name, bytes } = message;
    match &settings.transport {
        Transport::Smtp(smtp) => {
            let smtp = Smtp {
                timeout: limit,
                ..smtp.clone()
            };
            smtp::deliver(&smtp, envelope, bytes, step)
        }
        Transport::Sendmail { command } => {
            let handed = sendmail::deliver(command, &envelope, &bytes, limit);
            if handed.outcomes.contains(&Outcome::Delivered) {
                step(&format!("{} took the message", command.display()));
            }
            handed
        }
        Transport::Directory(directory) => {
            let path = directory.join(&file_name);
            let (send, written) = mpsc::channel();
            let target = directory.clone();
            let thread = std::thread::Builder::new().spawn(move || {
                let _ = send.send(directory::deliver(&target, &file_name, &bytes));
            });
            let answer = match thread {
                Ok(_) => written.recv_timeout(limit),
                Err(error) => Ok(Err(format!("no thread to write mail from: {error}"))),
            };
            all(match answer {
                Ok(Ok(())) => {
                    step(&format!("written to {}", path.display()));
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
            Ok(parsed) if !written.chars().any(is_invisible) => Ok(Self {
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

#[cfg(test)]
mod tests {
    use super::super::{Event, Severity};
    use super::*;

    pub(super) fn notification() -> Notification {
        Notification {
            id: "20261122T010203Z.trader.1".to_owned(),
            time: "2026-11-22T01:02:03Z".parse().unwrap(),
            host: "box1".to_owned(),
            event: Event::Restarted,
            severity: Severity::Warning,
            subject: "[watchdog] box1: trader restarted".to_owned(),
            body: "trader was restarted and is up again.\n".to_owned(),
            services: vec!["trader".to_owned(), "feed".to_owned()],
            alerts: Vec::new(),
        }
    }

    pub(super) fn message() -> Message {
        Message::of(&notification(), &Thread::default())
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
            routing: crate::fixtures::routing(&[]),
            timeout: None,
            transport,
        }
    }

    #[test]
    fn all_mail_of_a_run_may_take_what_one_message_may_or_what_the_config_says() {
        let mut settings = settings(Transport::Directory("/nonexistent".into()));
        assert_eq!(ChannelKind::timeout(&settings), TIMEOUT);
        settings.timeout = Some(Duration::from_secs(3));
        assert_eq!(ChannelKind::timeout(&settings), Duration::from_secs(3));
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
            Outcome::Never(
                "[mail] to: `no body` is not a mail address; write it like ops@example.org"
                    .to_owned()
            )
        );
        assert_eq!(report.recipients[1].outcome, Outcome::Delivered);
    }
}
