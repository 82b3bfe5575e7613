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
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::{ClientId, MailParameter};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Envelope, Handed, Smtp, Tls, plain};
use crate::clock::rough;
use crate::notify::Outcome;
use crate::text::{cut, visible};

/// How much later than the session itself its caller gives up: the session knows more about what happened.
const SLACK: Duration = Duration::from_millis(500);
/// Bytes of a reply's line, and of a reply. No server needs a tenth of it.
const LINE: usize = 4 * 1024;
const REPLY: usize = 64 * 1024;
/// Characters of a reply that are shown.
const SHOWN: usize = 300;
/// How long the goodbye may take, when all is done.
const GOODBYE: Duration = Duration::from_secs(1);

/// Word from a session.
enum Word {
    /// A step was made.
    Step(String),
    /// It is over; the error is the reason for those recipients that are undecided.
    End(Result<(), String>),
}

/// One outcome for each address of the envelope. Each step that was made is told as a sentence.
pub(super) fn deliver(
    smtp: &Smtp,
    envelope: Envelope,
    bytes: Vec<u8>,
    tell: &mut dyn FnMut(&str),
) -> Handed {
    let shared = Arc::new(Mutex::new(Progress {
        step: Step::Preparing,
        outcomes: vec![None; envelope.to.len()],
        handed_over: false,
    }));
    let (say, told) = mpsc::channel();
    let deadline = Instant::now() + smtp.timeout;
    let thread = {
        let smtp = smtp.clone();
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().spawn(move || {
            let end = session(&smtp, &envelope, &bytes, deadline, &shared, &say);
            let _ = say.send(Word::End(end));
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
            match told.recv_timeout(left) {
                Ok(Word::Step(step)) => tell(&step),
                Ok(Word::End(end)) => break end,
                // left behind: it hangs where nothing can wake it, and ends with the process
                Err(_) => break Err(no_answer(smtp, lock(&shared).step)),
            }
        },
    };
    let progress = lock(&shared);
    // a server that hangs up in the middle of one message may take the next
    let in_vain = end.is_err() && progress.step < Step::Data;
    // a session that comes to its end has decided them all
    let trouble = end.err().unwrap_or_default();
    let decided = progress.outcomes.iter().map(|outcome| {
        outcome.clone().unwrap_or_else(|| Outcome::Deferred {
            why: trouble.clone(),
            maybe_delivered: progress.handed_over,
        })
    });
    Handed {
        outcomes: decided.collect(),
        in_vain,
    }
}

/// What is known of a session while it runs.
struct Progress {
    step: Step,
    /// A recipient's, once it is decided.
    outcomes: Vec<Option<Outcome>>,
    /// The end of the message is on its way, and no answer has come.
    handed_over: bool,
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
    Starttls(Arc<ClientConfig>),
    FromTheStart(Arc<ClientConfig>),
}

/// Runs a session to its end. What it decides about recipients goes into `shared`; the error is the reason for
/// those that are undecided.
fn session(
    smtp: &Smtp,
    envelope: &Envelope,
    bytes: &[u8],
    deadline: Instant,
    shared: &Shared,
    say: &mpsc::Sender<Word>,
) -> Result<(), String> {
    let login = login(smtp)?;
    let protection = match smtp.tls {
        Tls::None => Protection::None,
        Tls::Starttls => Protection::Starttls(client(smtp)?),
        Tls::Tls => Protection::FromTheStart(client(smtp)?),
    };
    let stream = connect(smtp, deadline, shared, say)?;
    let mut talk = Talk {
        smtp,
        shared,
        say,
        channel: Channel::Plain(stream),
        received: Vec::new(),
        login,
    };
    if let Protection::FromTheStart(tls) = &protection {
        talk = talk.secure(tls)?;
    }
    talk.step(Step::Greeting);
    let greeting = talk.reply()?;
    talk.expect(2, &greeting, "")?;
    talk.tell(format!("it greets: {greeting}"));
    let mut offers = talk.ehlo()?;
    if let Protection::Starttls(tls) = &protection {
        if !offers.starttls {
            return Err(format!(
                "{}: the server does not offer STARTTLS, and nothing is sent in clear; use tls = \"tls\" (mostly port 465), or tls = \"none\" where the way to it is safe",
                at(smtp)
            ));
        }
        talk.step(Step::Starttls);
        let reply = talk.command(&Starttls)?;
        talk.expect(2, &reply, "; it offers TLS and cannot do it")?;
        talk = talk.secure(tls)?;
        offers = talk.ehlo()?;
    }
    talk.log_in(&offers)?;
    let result = talk.message(envelope, bytes, &offers);
    if result.is_ok() {
        talk.step(Step::Goodbye);
    }
    talk.goodbye();
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
        .read()
        .map_err(|error| format!("{}: no password to log in with: {error}", at(smtp)))?;
    Ok(Some((username.clone(), password)))
}

/// How TLS is spoken: the system's authorities, and those of `ca_file`.
fn client(smtp: &Smtp) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &smtp.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| {
                format!(
                    "{}: a certificate in it cannot be used: {error}; check [mail] ca_file",
                    path.display()
                )
            })?;
        }
    }
    if roots.is_empty() {
        return Err(format!(
            "{}: no certificate authority is known here, so no server can be trusted; install ca-certificates, or set ca_file",
            at(smtp)
        ));
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("{}: {error}", at(smtp)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| {
        format!(
            "{shown}: the certificates cannot be read: {}; check [mail] ca_file",
            plain(&error)
        )
    })?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown}: not a PEM file: {error}; check [mail] ca_file"))?;
    if certificates.is_empty() {
        return Err(format!(
            "{shown}: there is no certificate in it; ca_file wants PEM, -----BEGIN CERTIFICATE-----"
        ));
    }
    Ok(certificates)
}

/// Connects to the first address of the host that answers.
fn connect(
    smtp: &Smtp,
    deadline: Instant,
    shared: &Shared,
    say: &mpsc::Sender<Word>,
) -> Result<Timed, String> {
    lock(shared).step = Step::Lookup;
    let host = smtp.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, smtp.port)
        .to_socket_addrs()
        .map_err(|error| {
            let reason = plain(&error);
            let reason = reason
                .rsplit(": ")
                .next()
                .unwrap_or_default()
                .to_lowercase();
            format!(
                "{}: the host name cannot be looked up: {reason}; check [mail] host",
                at(smtp)
            )
        })?
        .collect();
    let ips: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
    let found = format!("{} is at {}", visible(host), cut(&ips.join(", "), SHOWN));
    let _ = say.send(Word::Step(found));
    lock(shared).step = Step::Connect;
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        // a dead address must not eat the time of those behind it
        let share = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let tried =
            left(deadline).and_then(|left| TcpStream::connect_timeout(address, left / share));
        match tried {
            Ok(stream) => {
                // commands are small and each waits for its answer
                let _ = stream.set_nodelay(true);
                let _ = say.send(Word::Step(format!("connected to {address}")));
                return Ok(Timed { stream, deadline });
            }
            Err(error) => last = Some((*address, error)),
        }
    }
    Err(match last {
        None => format!(
            "{}: the host name cannot be looked up: no address; check [mail] host",
            at(smtp)
        ),
        Some((_, error)) if is_timeout(&error) => no_answer(smtp, Step::Connect),
        Some((address, error)) => {
            let hint = match error.kind() {
                ErrorKind::ConnectionRefused => {
                    "; is a mail server running there, and is the port right"
                }
                ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => "; is the network up",
                _ => "",
            };
            format!(
                "{}: cannot connect to {}: {}{hint}",
                at(smtp),
                address.ip(),
                plain(&error)
            )
        }
    })
}

/// What is left of the time, or the error of a timeout.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    // less than that is no timeout at all for the kernel
    Ok(left.max(Duration::from_millis(1)))
}

/// A socket's own timeout comes as "would block" on Linux.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// A connection of which every read and write ends by one deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

enum Channel {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Channel {
    fn stream(&mut self) -> &mut Timed {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
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
struct Talk<'a> {
    smtp: &'a Smtp,
    shared: &'a Shared,
    say: &'a mpsc::Sender<Word>,
    channel: Channel,
    /// What has arrived and is not read yet.
    received: Vec<u8>,
    /// User name and password.
    login: Option<(String, String)>,
}

impl Talk<'_> {
    fn step(&self, step: Step) {
        lock(self.shared).step = step;
    }

    fn tell(&self, step: String) {
        // whoever has given up no longer listens
        let _ = self.say.send(Word::Step(step));
    }

    /// Wraps the connection into TLS, or ends it.
    fn secure(mut self, tls: &Arc<ClientConfig>) -> Result<Self, String> {
        let at = at(self.smtp);
        // whoever sits between could have sent it, to be believed later as if it had come through TLS
        if !self.received.is_empty() {
            return Err(format!(
                "{at}: the server sent more in clear behind its answer to STARTTLS; somebody between may have put it there"
            ));
        }
        self.step(Step::Handshake);
        let Channel::Plain(mut stream) = self.channel else {
            return Ok(self);
        };
        let host = self.smtp.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            format!(
                "{at}: `{}` is not a host name that a certificate can have",
                visible(host)
            )
        })?;
        let mut connection = ClientConnection::new(Arc::clone(tls), name)
            .map_err(|error| format!("{at}: {error}"))?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut stream)
                .map_err(|error| handshake_trouble(self.smtp, &error))?;
        }
        let _ = self.say.send(Word::Step(protection(&connection)));
        self.channel = Channel::Tls(Box::new(StreamOwned::new(connection, stream)));
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
        self.tell(format!("logged in as `{shown}`"));
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
                    self.tell(format!("recipient {} accepted", visible(to.as_ref())));
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
                self.tell(format!("message taken: {reply}"));
                self.decide(accepted, &Outcome::Delivered);
            }
            500..600 => self.decide(accepted, &Outcome::Refused(said())),
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
        let stream = self.channel.stream();
        stream.deadline = stream.deadline.min(Instant::now() + GOODBYE);
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

/// How a connection is protected, and whose certificate it was that was found good.
fn protection(connection: &ClientConnection) -> String {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let names: Vec<String> = connection
        .peer_certificates()
        .and_then(|certificates| webpki::EndEntityCert::try_from(certificates.first()?).ok())
        .map(|certificate| certificate.valid_dns_names().map(visible).collect())
        .unwrap_or_default();
    if names.is_empty() {
        return format!("{version}, the certificate is good");
    }
    format!(
        "{version}, the certificate is good; it is for {}",
        cut(&names.join(", "), SHOWN)
    )
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

/// What went wrong in a handshake, for somebody who has to mend it.
fn handshake_trouble(smtp: &Smtp, error: &io::Error) -> String {
    let at = at(smtp);
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(cause) = cause else {
        return match error.kind() {
            _ if is_timeout(error) => no_answer(smtp, Step::Handshake),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                format!("{at}: the server hung up (last step: {})", Step::Handshake)
            }
            _ => format!("{at}: {}: {}", Step::Handshake, plain(error)),
        };
    };
    match cause {
        rustls::Error::InvalidCertificate(reason) => {
            let reason = match reason {
                CertificateError::NotValidForName => format!(
                    "is not valid for the name `{}`; set [mail] host to a name that it has",
                    visible(&smtp.host)
                ),
                CertificateError::NotValidForNameContext { presented, .. } => {
                    let names: Vec<String> = presented.iter().map(|name| bare_name(name)).collect();
                    let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
                    format!(
                        "is not valid for the name `{}` (it is for {}); set [mail] host to a name that it has",
                        visible(&smtp.host),
                        cut(&names, SHOWN)
                    )
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "has expired; its owner must renew it (or is this host's clock wrong)".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "is not valid yet; is this host's clock right".to_owned()
                }
                // besides: an authority of that name is known, and it is another one that signed
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                    "comes from an authority that is not trusted here; set ca_file to the certificate of that authority".to_owned()
                }
                other => format!("cannot be trusted: {}", cut(&visible(&other.to_string()), SHOWN)),
            };
            format!("{at}: the server's certificate {reason}")
        }
        rustls::Error::InvalidMessage(_) => {
            let hint = match smtp.tls {
                Tls::Tls => "; use tls = \"starttls\" (mostly port 587)",
                Tls::Starttls | Tls::None => "",
            };
            format!("{at}: the server does not speak TLS there{hint}")
        }
        other => format!(
            "{at}: {}: {}",
            Step::Handshake,
            cut(&visible(&other.to_string()), SHOWN)
        ),
    }
}

/// `DnsName("x")` as the library has it, as a name.
fn bare_name(presented: &str) -> String {
    let inner = presented.split('"').nth(1);
    visible(inner.unwrap_or(presented))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::super::tests::{message, settings};
    use super::super::{Secret, Transport, send};
    use super::*;
    use crate::notify::Report;

    /// What a server does when it is connected to (`""`), is sent a command, or a whole message (`"."`).
    enum Do {
        Say(&'static str),
        /// Says something and then nothing more.
        Hang(&'static str),
        HangUp,
        /// Resets the connection at the first line of the message.
        ResetInMessage,
        /// The same line for ever.
        Flood(&'static str),
        /// A byte every half second.
        Drip(&'static str),
    }

    /// A server for one connection, and what it was told.
    struct Server {
        port: u16,
        thread: JoinHandle<Vec<String>>,
    }

    impl Server {
        fn start(script: impl Fn(&str) -> Do + Send + 'static) -> Self {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let thread = std::thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let mut heard = Vec::new();
                // the client hangs up as it likes
                let _ = converse(&stream, &script, &mut heard);
                heard
            });
            Self { port, thread }
        }

        /// What it was told: to be asked when the client is done.
        fn heard(self) -> Vec<String> {
            self.thread.join().unwrap()
        }
    }

    fn converse(
        mut stream: &TcpStream,
        script: &impl Fn(&str) -> Do,
        heard: &mut Vec<String>,
    ) -> io::Result<()> {
        let mut lines = BufReader::new(stream);
        let mut command = String::new();
        let mut in_message = false;
        loop {
            let whole = !in_message || command == ".";
            if whole {
                in_message = false;
                match script(&command) {
                    Do::Say(text) => {
                        in_message = text.starts_with("354");
                        stream.write_all(format!("{text}\r\n").as_bytes())?;
                    }
                    Do::Hang(text) => {
                        stream.write_all(text.as_bytes())?;
                        return io::copy(&mut lines, &mut io::sink()).map(|_| ());
                    }
                    Do::HangUp => return Ok(()),
                    Do::ResetInMessage => {
                        stream.write_all(b"354 go on\r\n")?;
                        lines.read_line(&mut command)?;
                        // with the rest of the message unread, closing is a reset
                        return Ok(());
                    }
                    Do::Flood(line) => loop {
                        stream.write_all(line.as_bytes())?;
                    },
                    Do::Drip(text) => {
                        for byte in format!("{text}\r\n").bytes() {
                            stream.write_all(&[byte])?;
                            std::thread::sleep(Duration::from_millis(500));
                        }
                    }
                }
            }
            command.clear();
            if lines.read_line(&mut command)? == 0 {
                return Ok(());
            }
            command.truncate(command.trim_end_matches(['\r', '\n']).len());
            heard.push(command.clone());
        }
    }

    /// A server without a fault.
    fn good(command: &str) -> Do {
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        Do::Say(match verb {
            "" => "220-hello\r\n220 there",
            "EHLO" => "250-fault\r\n250-auth PLAIN login\r\n250 8BITMIME",
            "AUTH" => "235 2.7.0 welcome",
            "MAIL" | "RCPT" | "." => "250 2.0.0 Ok",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "502 what",
        })
    }

    fn smtp(port: u16) -> Smtp {
        Smtp {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Tls::None,
            username: None,
            password: None,
            ca_file: None,
            timeout: Duration::from_secs(10),
        }
    }

    fn try_it(smtp: Smtp) -> Report {
        let mut settings = settings(Transport::Smtp(smtp));
        settings.to = ["ops@example.org", "gone@example.org", "full@example.org"]
            .map(str::to_owned)
            .to_vec();
        send(&settings, &message())
    }

    /// The one trouble that all recipients share, with the port as PORT, and whether they may have got it.
    fn shared_trouble(report: &Report, port: u16) -> (String, bool) {
        let first = &report.recipients[0].outcome;
        assert!(
            report.recipients.iter().all(|r| r.outcome == *first),
            "{report:?}"
        );
        let Outcome::Deferred {
            why,
            maybe_delivered,
        } = first
        else {
            panic!("{report:?}");
        };
        (why.replace(&format!(":{port}"), ":PORT"), *maybe_delivered)
    }

    /// Runs one session against a server that is good but for what `fault` says.
    fn against(
        timeout_ms: u64,
        fault: impl Fn(&str) -> Option<Do> + Send + 'static,
    ) -> (String, bool) {
        let server = Server::start(move |command| fault(command).unwrap_or_else(|| good(command)));
        let port = server.port;
        let began = Instant::now();
        let report = try_it(Smtp {
            timeout: Duration::from_millis(timeout_ms),
            ..smtp(port)
        });
        assert!(began.elapsed() < Duration::from_mins(1), "no deadline held");
        server.heard();
        shared_trouble(&report, port)
    }

    #[test]
    fn silence_is_told_with_the_step_and_what_may_be_behind_it() {
        let on = |port, tls| Smtp {
            tls,
            timeout: Duration::from_secs(9),
            ..smtp(port)
        };
        let hung = "127.0.0.1:25: not even begun within 9s: reading the password and the certificates hangs; does the \
                    file system answer";
        assert_eq!(no_answer(&on(25, Tls::None), Step::Preparing), hung);
        for (port, tls, step, said) in [
            (
                25,
                Tls::None,
                Step::Lookup,
                "looking up the host name); does the name server answer (/etc/resolv.conf)",
            ),
            (
                25,
                Tls::None,
                Step::Connect,
                "connecting); is there a firewall between",
            ),
            (
                465,
                Tls::Starttls,
                Step::Greeting,
                "waiting for its greeting); port 465 wants tls = \"tls\"",
            ),
            (
                25,
                Tls::Starttls,
                Step::Greeting,
                "waiting for its greeting); if that port wants TLS from the start, use tls = \"tls\"",
            ),
            (465, Tls::Tls, Step::Greeting, "waiting for its greeting)"),
            (465, Tls::Tls, Step::Handshake, "the TLS handshake)"),
            (25, Tls::None, Step::Ehlo, "EHLO)"),
            (25, Tls::None, Step::Starttls, "STARTTLS)"),
            (25, Tls::None, Step::Auth, "AUTH)"),
            (25, Tls::None, Step::Mail, "MAIL FROM)"),
            (25, Tls::None, Step::Rcpt, "RCPT TO)"),
            (25, Tls::None, Step::Data, "DATA)"),
            (25, Tls::None, Step::Message, "sending the message)"),
            (
                25,
                Tls::None,
                Step::End,
                "waiting for its answer to the message)",
            ),
            (25, Tls::None, Step::Goodbye, "QUIT)"),
        ] {
            assert_eq!(
                no_answer(&on(port, tls), step),
                format!("no answer within 9s from 127.0.0.1:{port} (last step: {said}")
            );
        }
    }

    #[test]
    fn a_host_that_no_certificate_can_name_is_said() {
        // this host's, by an old way to write it: it is found, and is no name
        let server = Server::start(good);
        let port = server.port;
        let report = try_it(Smtp {
            host: "127.1".to_owned(),
            tls: Tls::Tls,
            ..smtp(port)
        });
        assert_eq!(
            shared_trouble(&report, port).0,
            "127.1:PORT: `127.1` is not a host name that a certificate can have"
        );
    }

    #[test]
    fn a_server_that_is_silent_or_hangs_up_in_a_handshake_is_told_so() {
        let against_tls = |fault: fn() -> Do| {
            let server = Server::start(move |_| fault());
            let port = server.port;
            let report = try_it(Smtp {
                tls: Tls::Tls,
                timeout: Duration::from_secs(2),
                ..smtp(port)
            });
            server.heard();
            shared_trouble(&report, port)
        };
        assert_eq!(
            against_tls(|| Do::Hang("")),
            (
                "no answer within 2s from 127.0.0.1:PORT (last step: the TLS handshake)".to_owned(),
                false
            )
        );
        assert_eq!(
            against_tls(|| Do::HangUp),
            (
                "127.0.0.1:PORT: the server hung up (last step: the TLS handshake)".to_owned(),
                false
            )
        );
    }

    #[test]
    fn what_is_wrong_in_a_handshake_says_what_to_change() {
        use rustls::Error::{InvalidCertificate, InvalidMessage};
        let smtp = |tls| Smtp { tls, ..smtp(587) };
        let said = |tls, error: rustls::Error| {
            handshake_trouble(&smtp(tls), &io::Error::new(ErrorKind::InvalidData, error))
        };
        let expected = ServerName::try_from("mail.example.org").unwrap();
        for (reason, ending) in [
            (
                CertificateError::NotValidForName,
                "is not valid for the name `127.0.0.1`; set [mail] host to a name that it has",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: expected.clone(),
                    presented: Vec::new(),
                },
                "is not valid for the name `127.0.0.1` (it is for no name at all); set [mail] host to a name that it has",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected,
                    presented: vec!["DnsName(\"a.example\")".to_owned(), "odd".to_owned()],
                },
                "is not valid for the name `127.0.0.1` (it is for a.example, odd); set [mail] host to a name that it has",
            ),
            (
                CertificateError::Expired,
                "has expired; its owner must renew it (or is this host's clock wrong)",
            ),
            (
                CertificateError::NotValidYet,
                "is not valid yet; is this host's clock right",
            ),
            (
                CertificateError::BadSignature,
                "comes from an authority that is not trusted here; set ca_file to the certificate of that authority",
            ),
            (CertificateError::Revoked, "cannot be trusted: Revoked"),
        ] {
            assert_eq!(
                said(Tls::Tls, InvalidCertificate(reason)),
                format!("127.0.0.1:587: the server's certificate {ending}")
            );
        }
        let no_tls = || InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(
            said(Tls::Tls, no_tls()),
            "127.0.0.1:587: the server does not speak TLS there; use tls = \"starttls\" (mostly port 587)"
        );
        assert_eq!(
            said(Tls::Starttls, no_tls()),
            "127.0.0.1:587: the server does not speak TLS there"
        );
        assert_eq!(
            said(Tls::Tls, rustls::Error::DecryptError),
            "127.0.0.1:587: the TLS handshake: cannot decrypt peer's message"
        );
        let broken = io::Error::from_raw_os_error(libc::ENOTCONN);
        assert_eq!(
            handshake_trouble(&smtp(Tls::Tls), &broken),
            "127.0.0.1:587: the TLS handshake: transport endpoint is not connected"
        );
    }

    #[test]
    fn a_message_goes_to_all_in_one_session() {
        let server = Server::start(good);
        let report = try_it(smtp(server.port));
        assert!(
            report
                .recipients
                .iter()
                .all(|r| r.outcome == Outcome::Delivered),
            "{report:?}"
        );
        let heard = server.heard();
        assert!(heard[0].starts_with("EHLO "), "{heard:?}");
        assert_eq!(
            heard[1..6],
            [
                "MAIL FROM:<watchdog@example.org>",
                "RCPT TO:<ops@example.org>",
                "RCPT TO:<gone@example.org>",
                "RCPT TO:<full@example.org>",
                "DATA",
            ]
        );
        assert_eq!(heard[heard.len() - 2..], [".", "QUIT"]);
    }

    #[test]
    fn f72_a_refused_recipient_costs_the_others_nothing() {
        let server = Server::start(|command| match command {
            "RCPT TO:<gone@example.org>" => Do::Say("550-5.1.1 no such\r\n550 5.1.1 user\x1b[2J"),
            "RCPT TO:<full@example.org>" => Do::Say("452 4.2.2 mailbox full"),
            command => good(command),
        });
        let at = format!("127.0.0.1:{}", server.port);
        let report = try_it(smtp(server.port));
        let outcomes: Vec<&Outcome> = report.recipients.iter().map(|r| &r.outcome).collect();
        assert_eq!(
            outcomes,
            [
                &Outcome::Delivered,
                &Outcome::Refused(format!("{at}: 550 5.1.1 no such / 5.1.1 user\\x1b[2J")),
                &Outcome::deferred(format!("{at}: 452 4.2.2 mailbox full")),
            ]
        );
        assert_eq!(report.owed(), ["full@example.org"]);
        assert!(server.heard().contains(&".".to_owned()));
    }

    #[test]
    fn f72_what_is_refused_for_all_is_told_for_each() {
        for (fault, reply) in [("DATA", "554 5.5.1 no"), (".", "552 5.3.4 too big")] {
            let server = Server::start(move |command| match command {
                "RCPT TO:<full@example.org>" => Do::Say("450 4.2.0 greylisted"),
                command if command == fault => Do::Say(reply),
                command => good(command),
            });
            let report = try_it(smtp(server.port));
            let Outcome::Refused(why) = &report.recipients[0].outcome else {
                panic!("{report:?}");
            };
            assert!(why.ends_with(reply), "{why}");
            assert_eq!(report.owed(), ["full@example.org"], "4xx is tried again");
        }
        for (fault, reply) in [("DATA", "451 4.3.0 later"), (".", "451 4.3.0 later")] {
            let (why, maybe) = against(10_000, move |command| {
                (command == fault).then_some(Do::Say(reply))
            });
            assert!(why.ends_with(reply) && !maybe, "{why}");
        }
    }

    #[test]
    fn too_many_recipients_and_missing_logins_are_not_the_recipients_fault() {
        for reply in ["552 too many", "530 5.7.0 authenticate first", "503 what"] {
            let (why, maybe) = against(10_000, move |command| {
                command.starts_with("RCPT").then_some(Do::Say(reply))
            });
            assert_eq!(why, format!("127.0.0.1:PORT: {reply}"));
            assert!(!maybe);
        }
    }

    #[test]
    fn a_server_that_refuses_us_is_a_config_to_mend() {
        for (fault, reply, told) in [
            ("", "554 go away", "waiting for its greeting: 554 go away"),
            (
                "",
                "421 4.3.2 shutting down",
                "waiting for its greeting: 421 4.3.2 shutting down",
            ),
            ("EHLO", "502 what", "EHLO: 502 what"),
            (
                "MAIL",
                "553 5.1.8 who",
                "MAIL FROM: 553 5.1.8 who; check [mail] from",
            ),
            (
                "MAIL",
                "530 5.7.0 who",
                "MAIL FROM: 530 5.7.0 who; the server wants a login: set username and password_file",
            ),
            ("MAIL", "451 4.3.0 not now", "MAIL FROM: 451 4.3.0 not now"),
            ("MAIL", "421 bye", "MAIL FROM: 421 bye"),
            ("RCPT", "421 bye", "421 bye"),
        ] {
            let (why, maybe) = against(10_000, move |command| {
                (command.split(' ').next() == Some(fault)).then_some(Do::Say(reply))
            });
            assert_eq!(why, format!("127.0.0.1:PORT: {told}"));
            assert!(!maybe);
        }
    }

    #[test]
    fn f70_a_server_that_says_nothing_is_left_at_the_deadline() {
        let cases = [
            ("", "waiting for its greeting", false),
            ("EHLO", "EHLO", false),
            ("MAIL", "MAIL FROM", false),
            ("RCPT", "RCPT TO", false),
            ("DATA", "DATA", false),
            (".", "waiting for its answer to the message", true),
        ];
        // side by side, so that each can have the time that a busy machine takes to come so far
        std::thread::scope(|scope| {
            for (fault, step, after) in cases {
                scope.spawn(move || {
                    let (why, maybe) = against(3000, move |command| {
                        (command.split(' ').next() == Some(fault)).then_some(Do::Hang(""))
                    });
                    let told =
                        format!("no answer within 3s from 127.0.0.1:PORT (last step: {step})");
                    assert!(why.starts_with(&told), "{why}");
                    assert_eq!(
                        maybe, after,
                        "only a message whose end was sent may have arrived"
                    );
                });
            }
        });
    }

    #[test]
    fn f70_what_was_settled_before_a_hang_stays_settled() {
        let server = Server::start(|command| match command {
            "RCPT TO:<gone@example.org>" => Do::Say("550 no"),
            "DATA" => Do::Hang(""),
            command => good(command),
        });
        let report = try_it(Smtp {
            timeout: Duration::from_secs(3),
            ..smtp(server.port)
        });
        assert_eq!(report.owed(), ["ops@example.org", "full@example.org"]);
        assert!(
            matches!(report.recipients[1].outcome, Outcome::Refused(_)),
            "{report:?}"
        );
    }

    #[test]
    fn answers_without_end_are_left() {
        let (why, _) = against(10_000, |command| {
            command
                .starts_with("EHLO")
                .then_some(Do::Flood("250-X-ENDLESS xxxxxxxxxxxxxxxxxxx\r\n"))
        });
        assert_eq!(
            why,
            "127.0.0.1:PORT: the server's answer has no end (last step: EHLO)"
        );
        let (why, _) = against(10_000, |command| {
            command
                .starts_with("EHLO")
                .then_some(Do::Flood("250-xxxxxxxxxxxxxxxxxxxxxxxx"))
        });
        assert_eq!(
            why,
            "127.0.0.1:PORT: the server's answer has no end (last step: EHLO)"
        );
        let (why, _) = against(1200, |command| {
            command
                .is_empty()
                .then_some(Do::Drip("220 a very slow server indeed"))
        });
        assert_eq!(
            why,
            "no answer within 1.2s from 127.0.0.1:PORT (last step: waiting for its greeting); if that port wants TLS from the start, use tls = \"tls\""
        );
    }

    #[test]
    fn a_server_that_hangs_up_is_told_with_the_step() {
        for (fault, step, after) in [
            ("", "waiting for its greeting", false),
            ("MAIL", "MAIL FROM", false),
            (".", "waiting for its answer to the message", true),
        ] {
            let (why, maybe) = against(10_000, move |command| {
                (command.split(' ').next() == Some(fault)).then_some(Do::HangUp)
            });
            assert_eq!(
                why,
                format!("127.0.0.1:PORT: the server hung up (last step: {step})")
            );
            assert_eq!(maybe, after);
        }
    }

    #[test]
    fn a_reset_in_the_midst_of_the_message_is_no_delivery() {
        let server = Server::start(|command| match command {
            "DATA" => Do::ResetInMessage,
            command => good(command),
        });
        let mut settings = settings(Transport::Smtp(smtp(server.port)));
        settings.to.truncate(1);
        let mut big = message();
        // more than both sides' buffers hold
        big.body = "0123456789abcdef\n".repeat(2_000_000);
        let report = send(&settings, &big);
        let (why, maybe) = shared_trouble(&report, server.port);
        assert_eq!(
            why,
            "127.0.0.1:PORT: the server hung up (last step: sending the message)"
        );
        assert!(!maybe, "its end was never sent");
    }

    #[test]
    fn what_is_no_mail_server_is_said() {
        let (why, _) = against(10_000, |command| {
            command.is_empty().then_some(Do::Say(
                "HTTP/1.1 400 Bad Request\r\nServer: nginx\x1b[2J\r\n",
            ))
        });
        assert_eq!(
            why,
            "127.0.0.1:PORT: this is no mail server: it says `HTTP/1.1 400 Bad Request`; check [mail] host and port"
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let (why, _) = shared_trouble(&try_it(smtp(port)), port);
        assert_eq!(
            why,
            "127.0.0.1:PORT: cannot connect to 127.0.0.1: connection refused; is a mail server running there, and is the port right"
        );
        let report = try_it(Smtp {
            host: "not a name".to_owned(),
            ..smtp(25)
        });
        let (why, _) = shared_trouble(&report, 25);
        assert!(
            why.starts_with("not a name:PORT: the host name cannot be looked up: ")
                && why.ends_with("; check [mail] host"),
            "{why}"
        );
    }

    #[test]
    fn nothing_is_sent_in_clear_where_tls_is_asked_for() {
        let talk_tls = |script: fn(&str) -> Do| {
            let server = Server::start(script);
            let port = server.port;
            let report = try_it(Smtp {
                tls: Tls::Starttls,
                username: Some("watch".to_owned()),
                password: Some(Secret::Inline("canary".to_owned())),
                timeout: Duration::from_secs(5),
                ..smtp(port)
            });
            let heard = server.heard();
            assert!(
                heard.iter().all(|line| line.starts_with("EHLO")
                    || line == "STARTTLS"
                    || !line.is_ascii()
                    || line.contains(|c: char| c.is_control())),
                "{heard:?}"
            );
            shared_trouble(&report, port).0
        };
        assert_eq!(
            talk_tls(good),
            "127.0.0.1:PORT: the server does not offer STARTTLS, and nothing is sent in clear; use tls = \"tls\" (mostly port 465), or tls = \"none\" where the way to it is safe"
        );
        assert_eq!(
            talk_tls(|command| match command {
                "STARTTLS" => Do::Say("454 4.7.0 not now"),
                "" => good(""),
                _ => Do::Say("250-fault\r\n250 STARTTLS"),
            }),
            "127.0.0.1:PORT: STARTTLS: 454 4.7.0 not now; it offers TLS and cannot do it"
        );
        // one that puts an answer to EHLO behind that to STARTTLS, to be believed under TLS
        assert_eq!(
            talk_tls(|command| match command {
                "STARTTLS" => Do::Hang("220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n"),
                "" => good(""),
                _ => Do::Say("250-fault\r\n250 STARTTLS"),
            }),
            "127.0.0.1:PORT: the server sent more in clear behind its answer to STARTTLS; somebody between may have put it there"
        );
    }

    #[test]
    fn plain_text_instead_of_tls_is_said() {
        let server = Server::start(good);
        let port = server.port;
        let report = try_it(Smtp {
            tls: Tls::Tls,
            ..smtp(port)
        });
        assert_eq!(
            shared_trouble(&report, port).0,
            "127.0.0.1:PORT: the server does not speak TLS there; use tls = \"starttls\" (mostly port 587)"
        );
    }

    #[test]
    fn f76_the_password_goes_to_the_server_and_nowhere_else() {
        let with_login = |port| Smtp {
            username: Some("watch".to_owned()),
            password: Some(Secret::Inline("canary".to_owned())),
            ..smtp(port)
        };
        let server = Server::start(good);
        let report = try_it(with_login(server.port));
        assert!(report.owed().is_empty(), "{report:?}");
        assert_eq!(server.heard()[1], "AUTH PLAIN AHdhdGNoAGNhbmFyeQ==");
        // one that repeats what it is sent
        let server = Server::start(|command| match command.split(' ').next() {
            Some("AUTH") => {
                Do::Say("535 5.7.8 bad: AUTH PLAIN AHdhdGNoAGNhbmFyeQ== canary Y2FuYXJ5")
            }
            _ => good(command),
        });
        let settings_shown = format!("{:?}", with_login(1));
        let port = server.port;
        let report = try_it(with_login(port));
        let (why, _) = shared_trouble(&report, port);
        assert_eq!(
            why,
            "127.0.0.1:PORT: the server refused the user name `watch` or its password: 535 5.7.8 bad: AUTH PLAIN *** *** ***; check [mail] username and its password"
        );
        for shown in [format!("{report:?}"), settings_shown] {
            assert!(
                !shown.contains("canary") && !shown.contains("Y2FuYXJ5"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_login_in_two_questions_works_too() {
        let server = Server::start(|command| match command {
            "" => good(""),
            "AUTH LOGIN" => Do::Say("334 VXNlcm5hbWU6"),
            "d2F0Y2g=" => Do::Say("334 UGFzc3dvcmQ6"),
            "Y2FuYXJ5" => Do::Say("235 welcome"),
            command if command.starts_with("EHLO") => Do::Say("250-fault\r\n250 AUTH=LOGIN"),
            command => good(command),
        });
        let report = try_it(Smtp {
            username: Some("watch".to_owned()),
            password: Some(Secret::Inline("canary".to_owned())),
            ..smtp(server.port)
        });
        assert!(report.owed().is_empty(), "{report:?}");
        server.heard();
    }

    #[test]
    fn a_missing_password_is_said_before_anybody_is_asked() {
        for (password, told) in [
            (
                None,
                "127.0.0.1:PORT: a username without a password; set password_file, password_env or password_credential",
            ),
            (
                Some(Secret::File("/nonexistent/pass".into())),
                "127.0.0.1:PORT: no password to log in with: /nonexistent/pass: the password cannot be read: no such file or directory",
            ),
        ] {
            let report = try_it(Smtp {
                username: Some("watch".to_owned()),
                password,
                ..smtp(9)
            });
            assert_eq!(shared_trouble(&report, 9).0, told);
        }
    }

    #[test]
    fn a_ca_file_that_is_none_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let shown = path.display().to_string();
        let told = || {
            let report = try_it(Smtp {
                tls: Tls::Tls,
                ca_file: Some(path.clone()),
                ..smtp(9)
            });
            shared_trouble(&report, 9).0
        };
        assert_eq!(
            told(),
            format!(
                "{shown}: the certificates cannot be read: no such file or directory; check [mail] ca_file"
            )
        );
        std::fs::write(&path, "what").unwrap();
        assert_eq!(
            told(),
            format!(
                "{shown}: there is no certificate in it; ca_file wants PEM, -----BEGIN CERTIFICATE-----"
            )
        );
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
        let said = told();
        assert!(
            said.starts_with(&format!("{shown}: not a PEM file: "))
                && said.ends_with("; check [mail] ca_file"),
            "{said}"
        );
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, empty).unwrap();
        let said = told();
        assert!(
            said.starts_with(&format!("{shown}: a certificate in it cannot be used: "))
                && said.ends_with("; check [mail] ca_file"),
            "{said}"
        );
    }

    #[test]
    fn addresses_beyond_ascii_need_a_server_that_takes_them() {
        let mut settings = settings(Transport::Smtp(smtp(0)));
        settings.to = vec!["größe@example.org".to_owned(), "ops@example.org".to_owned()];
        let server = Server::start(good);
        settings.transport = Transport::Smtp(smtp(server.port));
        let plain_letters = format!(
            "127.0.0.1:{}: the server takes only plain letters in addresses",
            server.port
        );
        let report = send(&settings, &message());
        assert_eq!(
            report.recipients[0].outcome,
            Outcome::Refused(plain_letters)
        );
        assert_eq!(report.recipients[1].outcome, Outcome::Delivered);
        server.heard();
        // what is wrong about the sender is no recipient's fault
        let server = Server::start(good);
        settings.transport = Transport::Smtp(smtp(server.port));
        let sender = settings.from.clone();
        settings.from = "wächter@example.org".to_owned();
        let report = send(&settings, &message());
        assert_eq!(
            shared_trouble(&report, server.port).0,
            "127.0.0.1:PORT: the server takes only plain letters in addresses; change [mail] from"
        );
        settings.from = sender;
        server.heard();
        let server = Server::start(|command| match command.split(' ').next() {
            Some("EHLO") => Do::Say("250-fault\r\n250 SMTPUTF8"),
            _ => good(command),
        });
        settings.transport = Transport::Smtp(smtp(server.port));
        let report = send(&settings, &message());
        assert!(
            report.owed().is_empty() && report.reached_somebody(),
            "{report:?}"
        );
        assert!(server.heard()[1].ends_with(" SMTPUTF8"));
    }

    #[test]
    fn f74_dots_are_doubled_and_the_end_is_a_line_of_its_own() {
        assert_eq!(stuffed(b".\r\na.b\r\n..x"), b"..\r\na.b\r\n...x\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n");
        assert_eq!(stuffed(b""), b"\r\n");
    }
}
