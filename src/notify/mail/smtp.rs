//! A mail server: one session, one message, and an answer for each recipient.
//!
//! The session runs in a thread, for looking up a name or reading a password file may hang where no timeout
//! reaches. All that is known so far stands in a [`Progress`] that both share, so that whoever gives up can say
//! where it was and what had been settled. Each read and write gets the time that is left of the whole, replies
//! are bounded, and nothing is sent in clear where TLS was asked for: not after a missing STARTTLS, and not after
//! one that came with more in its wake.
//!
//! What a server says about a recipient or about the message is final where its code is 5xx. What it says about
//! us (no login, wrong sender, no TLS) is not: somebody can mend that, and the alert is kept until then.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::{ClientId, MailParameter};

use super::{Accepted, Envelope, Smtp, Tls};
use crate::clock::rough;
use crate::notify::Outcome;
use crate::text::{cut, plain, visible};

mod connection;
mod timed;
mod tls;

use connection::{Channel, connect};
use timed::is_timeout;

/// How much later than the session itself its caller gives up: the session knows more about what happened.
const SLACK: Duration = Duration::from_millis(500);
/// Bytes of a reply's line, and of a reply. No server needs a tenth of it.
const LINE: usize = 4 * 1024;
const REPLY: usize = 64 * 1024;
/// Characters of a reply that are shown.
const SHOWN: usize = 300;
/// How long the goodbye may take, when all is done.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a session says while it goes on.
enum Message {
    /// A step was made.
    Step(String),
    /// It is over; the error is the reason for those recipients that are undecided.
    End(Result<(), String>),
}

/// One outcome for each address of the envelope. `step` is called with a sentence for each step that was made.
pub(super) fn deliver(
    smtp: &Smtp,
    envelope: Envelope,
    bytes: Vec<u8>,
    step: &mut dyn FnMut(&str),
) -> Accepted {
    let shared = Arc::new(Mutex::new(Progress {
        step: Step::Preparing,
        outcomes: vec![None; envelope.to.len()],
        handed_over: false,
        message_refused: false,
    }));
    let (say, heard) = mpsc::channel();
    let deadline = Instant::now() + smtp.timeout;
    let thread = {
        let smtp = smtp.clone();
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().spawn(move || {
            let end = session(&smtp, &envelope, &bytes, deadline, &shared, &say);
            let _ = say.send(Message::End(end));
        })
    };
    let end = match thread {
        Err(error) => Err(format!(
            "{}: no thread to send mail from: {}",
            at(smtp),
            plain(&error)
        )),
        Ok(_) => loop {
            let left = deadline.saturating_duration_since(Instant::now()) + SLACK;
            match heard.recv_timeout(left) {
                Ok(Message::Step(made)) => step(&made),
                Ok(Message::End(end)) => break end,
                // left behind: it hangs where nothing can wake it, and ends with the process
                Err(_) => break Err(no_answer(smtp, lock(&shared).step)),
            }
        },
    };
    let progress = lock(&shared);
    // a server that hangs up in the middle of one message may take the next
    let transport_failed = end.is_err() && progress.step < Step::Data;
    // a session that comes to its end has decided them all
    let trouble = end.err().unwrap_or_default();
    let decided = progress.outcomes.iter().map(|outcome| {
        outcome.clone().unwrap_or_else(|| Outcome::Deferred {
            why: trouble.clone(),
            maybe_delivered: progress.handed_over,
        })
    });
    Accepted {
        outcomes: decided.collect(),
        transport_failed,
        message_refused: progress.message_refused,
    }
}

/// What is known of a session while it runs.
struct Progress {
    step: Step,
    /// A recipient's, once it is decided.
    outcomes: Vec<Option<Outcome>>,
    /// The end of the message is on its way, and no answer has come.
    handed_over: bool,
    /// The message was refused, and not a recipient.
    message_refused: bool,
}

type Shared = Arc<Mutex<Progress>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Progress> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Step {
    Preparing,
    Lookup,
    Connect,
    Greeting,
    Ehlo,
    Starttls,
    Handshake,
    Auth,
    Mail,
    Rcpt,
    Data,
    Message,
    End,
    Goodbye,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparing => "reading the password and the certificates",
            Self::Lookup => "looking up the host name",
            Self::Connect => "connecting",
            Self::Greeting => "waiting for its greeting",
            Self::Ehlo => "EHLO",
            Self::Starttls => "STARTTLS",
            Self::Handshake => "the TLS handshake",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "sending the message",
            Self::End => "waiting for its answer to the message",
            Self::Goodbye => "QUIT",
        })
    }
}

fn at(smtp: &Smtp) -> String {
    format!("{}:{}", visible(&smtp.host), smtp.port)
}

/// The host without the brackets that an address may stand in.
fn host(smtp: &Smtp) -> &str {
    smtp.host.trim_start_matches('[').trim_end_matches(']')
}

fn no_answer(smtp: &Smtp, step: Step) -> String {
    let timeout = rough(smtp.timeout);
    let hint = match step {
        Step::Preparing => {
            return format!(
                "{}: not even begun within {timeout}: {step} hangs; does the file system answer",
                at(smtp)
            );
        }
        Step::Lookup => "; does the name server answer (/etc/resolv.conf)",
        Step::Connect => "; is there a firewall between",
        Step::Greeting if smtp.tls != Tls::Tls && smtp.port == 465 => {
            "; port 465 wants tls = \"tls\""
        }
        Step::Greeting if smtp.tls != Tls::Tls => {
            "; if that port wants TLS from the start, use tls = \"tls\""
        }
        _ => "",
    };
    format!(
        "no answer within {timeout} from {} (last step: {step}){hint}",
        at(smtp)
    )
}

/// How a session is to be protected.
enum Protection {
    None,
    Starttls(tls::Client),
    FromTheStart(tls::Client),
}

/// Runs a session to its end. What it decides about recipients goes into `shared`; the error is the reason for
/// those that are undecided.
fn session(
    smtp: &Smtp,
    envelope: &Envelope,
    bytes: &[u8],
    deadline: Instant,
    shared: &Shared,
    say: &mpsc::Sender<Message>,
) -> Result<(), String> {
    let login = login(smtp)?;
    let protection = match smtp.tls {
        Tls::None => Protection::None,
        Tls::Starttls => Protection::Starttls(tls::client(smtp)?),
        Tls::Tls => Protection::FromTheStart(tls::client(smtp)?),
    };
    let stream = connect(smtp, deadline, shared, say)?;
    let mut dialogue = Dialogue {
        smtp,
        shared,
        say,
        channel: Channel::Plain(stream),
        received: Vec::new(),
        login,
    };
    if let Protection::FromTheStart(client) = &protection {
        dialogue = dialogue.secure(client)?;
    }
    dialogue.step(Step::Greeting);
    let greeting = dialogue.reply()?;
    dialogue.expect(2, &greeting, "")?;
    dialogue.report(format!("server greeting: {greeting}"));
    let mut offers = dialogue.ehlo()?;
    if let Protection::Starttls(client) = &protection {
        if !offers.starttls {
            return Err(format!(
                "{}: the server does not offer STARTTLS, and nothing is sent in clear; use tls = \"tls\" (mostly port 465), or tls = \"none\" where the way to it is safe",
                at(smtp)
            ));
        }
        dialogue.step(Step::Starttls);
        let reply = dialogue.command(&Starttls)?;
        dialogue.expect(2, &reply, "; it offers TLS and cannot do it")?;
        dialogue = dialogue.secure(client)?;
        offers = dialogue.ehlo()?;
    }
    dialogue.log_in(&offers)?;
    let result = dialogue.message(envelope, bytes, &offers);
    if result.is_ok() {
        dialogue.step(Step::Goodbye);
    }
    dialogue.goodbye();
    result
}

/// What the config says about logging in, with the password that it names.
fn login(smtp: &Smtp) -> Result<Option<(String, String)>, String> {
    let Some(username) = &smtp.username else {
        return Ok(None);
    };
    let Some(password) = &smtp.password else {
        return Err(format!(
            "{}: a username without a password; set password_file, password_env or password_credential",
            at(smtp)
        ));
    };
    let password = password
        .read("password")
        .map_err(|error| format!("{}: no password to log in with: {error}", at(smtp)))?;
    Ok(Some((username.clone(), password)))
}

/// What a server says, line by line.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = cut(self.lines.join(" / ").trim(), SHOWN);
        write!(f, "{:03}", self.code)?;
        if text.is_empty() {
            Ok(())
        } else {
            write!(f, " {text}")
        }
    }
}

/// What a server offers in its answer to EHLO.
#[derive(Default)]
struct Offers {
    starttls: bool,
    utf8: bool,
    plain: bool,
    login: bool,
}

impl Offers {
    fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines.iter().skip(1) {
            // `AUTH=` is what servers wrote before there was a standard
            let line = line.to_ascii_uppercase().replacen("AUTH=", "AUTH ", 1);
            let mut words = line.split_whitespace();
            match words.next() {
                Some("STARTTLS") => offers.starttls = true,
                Some("SMTPUTF8") => offers.utf8 = true,
                Some("AUTH") => {
                    for mechanism in words {
                        offers.plain |= mechanism == "PLAIN";
                        offers.login |= mechanism == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        offers
    }
}

/// A conversation with a server.
struct Dialogue<'a> {
    smtp: &'a Smtp,
    shared: &'a Shared,
    say: &'a mpsc::Sender<Message>,
    channel: Channel,
    /// What has arrived and is not read yet.
    received: Vec<u8>,
    /// User name and password.
    login: Option<(String, String)>,
}

impl Dialogue<'_> {
    fn step(&self, step: Step) {
        lock(self.shared).step = step;
    }

    fn report(&self, step: String) {
        // whoever has given up no longer listens
        let _ = self.say.send(Message::Step(step));
    }

    /// Wraps the connection into TLS, or ends it.
    fn secure(mut self, client: &tls::Client) -> Result<Self, String> {
        let at = at(self.smtp);
        // whoever sits between could have sent it, to be believed later as if it had come through TLS
        if !self.received.is_empty() {
            return Err(format!(
                "{at}: the server sent more in clear behind its answer to STARTTLS; somebody between may have put it there"
            ));
        }
        self.step(Step::Handshake);
        let Channel::Plain(stream) = self.channel else {
            return Ok(self);
        };
        let stream = tls::handshake(self.smtp, client, stream)?;
        let protection = tls::protection(&stream);
        self.channel = Channel::Tls(Box::new(stream));
        self.report(protection);
        Ok(self)
    }

    /// Sends a command and takes its answer.
    fn command(&mut self, command: &impl fmt::Display) -> Result<Reply, String> {
        self.send(command.to_string().as_bytes())?;
        self.reply()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.channel
            .send(bytes)
            .map_err(|error| self.trouble(&error))
    }

    fn trouble(&self, error: &io::Error) -> String {
        let step = lock(self.shared).step;
        let at = at(self.smtp);
        match error.kind() {
            _ if is_timeout(error) => no_answer(self.smtp, step),
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe => {
                format!("{at}: the server hung up (last step: {step})")
            }
            _ => format!("{at}: {} (last step: {step})", plain(error)),
        }
    }

    /// One line without its end.
    fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let mut line: Vec<u8> = self.received.drain(..=searched + end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.received.len();
            if searched > LINE {
                return Err(self.endless());
            }
            let mut buffer = [0; 2048];
            match self.channel.read(&mut buffer) {
                Ok(0) => return Err(self.trouble(&ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(&error)),
            }
        }
    }

    fn endless(&self) -> String {
        let step = lock(self.shared).step;
        format!(
            "{}: the server's answer has no end (last step: {step})",
            at(self.smtp)
        )
    }

    fn reply(&mut self) -> Result<Reply, String> {
        let mut lines = Vec::new();
        let mut size = 0;
        loop {
            let line = self.line()?;
            size += line.len() + 2;
            if size > REPLY {
                return Err(self.endless());
            }
            let digits = line
                .get(..3)
                .filter(|digits| digits.iter().all(u8::is_ascii_digit));
            let code = digits
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse::<u16>().ok());
            let separator = line.get(3).copied();
            let (Some(code @ 200..600), None | Some(b' ' | b'-')) = (code, separator) else {
                return Err(format!(
                    "{}: this is no mail server: it says `{}`; check [mail] host and port",
                    at(self.smtp),
                    self.fit(&line)
                ));
            };
            lines.push(self.fit(line.get(4..).unwrap_or_default()));
            if separator != Some(b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// What a server said, fit to be shown: a server may well repeat what it was sent.
    fn fit(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        for secret in self.secrets() {
            text = text.replace(&secret, "***");
        }
        cut(&visible(&text), SHOWN)
    }

    /// The password in all forms in which it is sent.
    fn secrets(&self) -> Vec<String> {
        let Some((username, password)) = &self.login else {
            return Vec::new();
        };
        let credentials = Credentials::new(username.clone(), password.clone());
        let sent = [
            (Mechanism::Plain, None),
            (Mechanism::Login, Some("Password:")),
        ];
        let encoded = sent.into_iter().filter_map(|(mechanism, challenge)| {
            let challenge = challenge.map(str::to_owned);
            let auth = Auth::new(mechanism, credentials.clone(), challenge)
                .ok()?
                .to_string();
            auth.split_whitespace().last().map(str::to_owned)
        });
        encoded.chain([password.clone()]).collect()
    }

    /// Nothing, if the reply's code begins with `class`.
    fn expect(&self, class: u16, reply: &Reply, hint: &str) -> Result<(), String> {
        if reply.code / 100 == class {
            return Ok(());
        }
        let step = lock(self.shared).step;
        let hint = if reply.code == 421 { "" } else { hint };
        Err(format!("{}: {step}: {reply}{hint}", at(self.smtp)))
    }

    fn ehlo(&mut self) -> Result<Offers, String> {
        self.step(Step::Ehlo);
        let reply = self.command(&Ehlo::new(own_name()))?;
        self.expect(2, &reply, "")?;
        Ok(Offers::read(&reply))
    }

    fn log_in(&mut self, offers: &Offers) -> Result<(), String> {
        let Some((username, password)) = self.login.clone() else {
            return Ok(());
        };
        self.step(Step::Auth);
        let shown = visible(&username);
        let credentials = Credentials::new(username, password);
        let prepare = |mechanism, challenge: Option<&str>| {
            Auth::new(mechanism, credentials.clone(), challenge.map(str::to_owned))
                .map_err(|error| format!("{}: {error}", at(self.smtp)))
        };
        let reply = if offers.plain {
            self.command(&prepare(Mechanism::Plain, None)?)?
        } else if offers.login {
            // asked for by every server in this order, whatever the words of its questions
            let mut reply = self.command(&prepare(Mechanism::Login, None)?)?;
            for question in ["Username:", "Password:"] {
                if reply.code == 334 {
                    reply = self.command(&prepare(Mechanism::Login, Some(question))?)?;
                }
            }
            reply
        } else {
            let hint = match self.smtp.tls {
                Tls::None => {
                    "; most offer it only with TLS: use tls = \"starttls\", or leave out username"
                }
                Tls::Starttls | Tls::Tls => "; leave out username where none is needed",
            };
            return Err(format!(
                "{}: the server offers no login that is known here (PLAIN, LOGIN){hint}",
                at(self.smtp)
            ));
        };
        if reply.code == 535 {
            return Err(format!(
                "{}: the server refused the user name `{shown}` or its password: {reply}; check [mail] username and its password",
                at(self.smtp)
            ));
        }
        self.expect(2, &reply, "; check [mail] username and its password")?;
        self.report(format!("logged in as `{shown}`"));
        Ok(())
    }

    /// From MAIL to the answer to the message. Each recipient is decided as soon as it can be.
    fn message(
        &mut self,
        envelope: &Envelope,
        bytes: &[u8],
        offers: &Offers,
    ) -> Result<(), String> {
        self.step(Step::Mail);
        let ascii = |address: &Address| address.to_string().is_ascii();
        let mut parameters = Vec::new();
        if !ascii(&envelope.from) || !envelope.to.iter().all(ascii) {
            if offers.utf8 {
                parameters.push(MailParameter::SmtpUtfEight);
            } else if !ascii(&envelope.from) {
                return Err(format!(
                    "{}: the server takes only plain letters in addresses; change [mail] from",
                    at(self.smtp)
                ));
            }
        }
        let reply = self.command(&Mail::new(Some(envelope.from.clone()), parameters))?;
        self.expect(
            2,
            &reply,
            match reply.code {
                530 if self.login.is_none() => {
                    "; the server wants a login: set username and password_file"
                }
                500..600 => "; check [mail] from",
                _ => "",
            },
        )?;
        let mut accepted = Vec::new();
        for (index, to) in envelope.to.iter().enumerate() {
            self.step(Step::Rcpt);
            if !ascii(to) && !offers.utf8 {
                let why = format!(
                    "{}: the server takes only plain letters in addresses",
                    at(self.smtp)
                );
                self.decide(&[index], &Outcome::Refused(why));
                continue;
            }
            let reply = self.command(&Rcpt::new(to.clone(), Vec::new()))?;
            let said = format!("{}: {reply}", at(self.smtp));
            match reply.code {
                200..300 => {
                    self.report(format!("recipient {} accepted", visible(to.as_ref())));
                    accepted.push(index);
                }
                421 => return Err(said),
                // not about the recipient: a login is missing, there are too many at once
                503 | 530 | 552 => self.decide(&[index], &Outcome::deferred(said)),
                500..600 => self.decide(&[index], &Outcome::Refused(said)),
                _ => self.decide(&[index], &Outcome::deferred(said)),
            }
        }
        if accepted.is_empty() {
            return Ok(());
        }
        self.step(Step::Data);
        let reply = self.command(&Data)?;
        if reply.code / 100 != 3 {
            return self.answer(&accepted, &reply);
        }
        self.step(Step::Message);
        self.send(&stuffed(bytes))?;
        lock(self.shared).handed_over = true;
        self.step(Step::End);
        self.send(b".\r\n")?;
        let reply = self.reply()?;
        lock(self.shared).handed_over = false;
        self.answer(&accepted, &reply)
    }

    /// An answer to the message decides all who were accepted for it.
    fn answer(&self, accepted: &[usize], reply: &Reply) -> Result<(), String> {
        let step = lock(self.shared).step;
        let said = || match step {
            Step::End => format!("{}: {reply}", at(self.smtp)),
            _ => format!("{}: {step}: {reply}", at(self.smtp)),
        };
        match reply.code {
            421 => return Err(said()),
            200..300 if step == Step::End => {
                self.report(format!("message taken: {reply}"));
                self.decide(accepted, &Outcome::Delivered);
            }
            500..600 => {
                self.decide(accepted, &Outcome::Refused(said()));
                lock(self.shared).message_refused = true;
            }
            _ => self.decide(accepted, &Outcome::deferred(said())),
        }
        Ok(())
    }

    fn decide(&self, indices: &[usize], outcome: &Outcome) {
        let mut progress = lock(self.shared);
        for index in indices {
            if let Some(place) = progress.outcomes.get_mut(*index) {
                *place = Some(outcome.clone());
            }
        }
    }

    /// All is decided; that the server hears of the end is good manners and nothing more.
    fn goodbye(&mut self) {
        self.channel.hurry(GOODBYE);
        let _ = self.command(&Quit);
    }
}

/// The message with every leading dot doubled, and a line end at its end.
fn stuffed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The name to greet with: this host's, where it has one that can be said.
fn own_name() -> ClientId {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    let sayable = |name: &String| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    };
    name.filter(sayable).map_or(
        ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
        ClientId::Domain,
    )
}

#[cfg(test)]
mod tests;
