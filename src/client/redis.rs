//! Redis, and what speaks as it does: some commands over one connection, within one deadline.
//!
//! The protocol is RESP2: no server needs to be asked for another. A login and the choice of a database come first, each
//! answered before the next is sent: a command must not run as another user, or in another database, than was meant. All
//! commands are then sent at once. Whatever a server answers, it takes no more memory than [`ANSWER_LIMIT`].

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::http::unescaped;
use super::{Address, Exchange, Heard, Outcome, Protection, Talk, Target, converse};
use crate::clock::rough;
use crate::text::printable;

/// So much is read of all answers together, in bytes.
pub const ANSWER_LIMIT: usize = 4 << 20;

/// A line may have so many bytes.
const LINE: usize = 64 << 10;

/// Lists may stand in lists so deep.
const DEPTH: usize = 8;

/// Of what is no answer, so many bytes are shown.
const SHOWN: usize = 100;

/// The port of a URL that names none.
const PORT: &str = "6379";

/// The words of a command.
pub type Command = Vec<Vec<u8>>;

/// A server, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    target: Target,
    login: Vec<Vec<u8>>,
    database: u32,
}

impl Server {
    /// Reads `redis://[user:password@]host[:port][/database]`, the same with `rediss://`, or
    /// `unix://[user:password@]/path[?db=N]`. `ca_file` names authorities to trust in addition to the system's. The error
    /// says what is wrong and how to write it, and holds nothing of what may be a secret.
    pub fn parse(text: &str, ca_file: Option<PathBuf>) -> Result<Self, String> {
        const FORMS: &str = "write redis://, rediss:// or unix://";
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("there is no scheme; {FORMS}"))?;
        // a path may have an `@` in it, and a password may not
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (userinfo, host) = match host.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, host),
        };
        let place = format!("{host}{path}");
        let login = userinfo.map_or(Ok(Vec::new()), login)?;
        let (address, database, is_tls) = match scheme {
            "redis" | "rediss" => {
                let (host, database) = place.split_once('/').unwrap_or((&place, ""));
                let has_port = match host.rsplit_once(']') {
                    Some((_, behind)) => behind.starts_with(':'),
                    None => host.contains(':'),
                };
                let address = if has_port {
                    Address::parse(host)?
                } else {
                    Address::parse(&format!("{host}:{PORT}"))?
                };
                (address, database, scheme == "rediss")
            }
            "unix" => {
                let (path, query) = place.split_once('?').unwrap_or((&place, ""));
                let database = match query.split_once('=') {
                    None if query.is_empty() => "",
                    Some(("db", number)) => number,
                    _ => return Err("behind the path there may be ?db=NUMBER only".to_owned()),
                };
                (Address::parse(&format!("unix:{path}"))?, database, false)
            }
            _ => return Err(format!("this scheme cannot be asked; {FORMS}")),
        };
        let number = match database {
            "" => Ok(0),
            database => database.parse(),
        };
        let database = number.map_err(|_| {
            "behind the host there may be the number of a database only, as in redis://host/0"
                .to_owned()
        })?;
        let tls = is_tls.then(|| Protection {
            name: address.server_name().unwrap_or_default(),
            ca_file,
        });
        Ok(Self {
            target: Target {
                address,
                tunnel: None,
                tls,
            },
            login,
            database,
        })
    }

    /// Where it is, without what may be a secret.
    pub fn origin(&self) -> String {
        match (&self.target.address, &self.target.tls) {
            (Address::Unix(path), _) => format!("unix://{}", path.display()),
            (address, None) => format!("redis://{address}"),
            (address, Some(_)) => format!("rediss://{address}"),
        }
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.target.tls.is_some()
    }

    /// The password.
    pub fn password(&self) -> Option<String> {
        let password = self.login.last()?;
        Some(String::from_utf8_lossy(password).into_owned())
    }

    /// Whether a password is sent to another host as it is.
    pub fn sends_secret_openly(&self) -> bool {
        let is_here = match &self.target.address {
            Address::Ip(address) => address.ip().is_loopback(),
            Address::Name { name, .. } => name == "localhost",
            Address::Unix(_) => true,
        };
        !self.login.is_empty() && !self.is_tls() && !is_here
    }

    /// What is said before all else.
    fn preface(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        if !self.login.is_empty() {
            let auth = std::iter::once(b"AUTH".to_vec());
            commands.push(auth.chain(self.login.iter().cloned()).collect());
        }
        if self.database != 0 {
            let number = self.database.to_string().into_bytes();
            commands.push(vec![b"SELECT".to_vec(), number]);
        }
        commands
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.origin())
    }
}

/// What follows AUTH.
fn login(userinfo: &str) -> Result<Vec<Vec<u8>>, String> {
    let (user, password) = userinfo
        .split_once(':')
        .ok_or("a password stands behind a colon: redis://:PASSWORD@host")?;
    let password = unescaped(password)?;
    Ok(match user {
        "" => vec![password],
        user => vec![unescaped(user)?, password],
    })
}

/// What a server says to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status: `OK`.
    Status(String),
    /// An error: `WRONGTYPE Operation against a key …`.
    Error(String),
    /// A number.
    Number(i64),
    /// Bytes; none where there is nothing.
    Bytes(Option<Vec<u8>>),
    /// Several; none where there is nothing.
    List(Option<Vec<Reply>>),
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is none of this protocol. Its first bytes.
    NotRedis(Vec<u8>),
    /// It is longer than [`ANSWER_LIMIT`].
    TooLong,
    /// The connection was closed before all was answered.
    CutOff,
    /// It was not whole at the end of the timeout.
    Unfinished(Duration),
}

impl fmt::Display for Wrong {
    /// The rest of a sentence that begins with the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRedis(first) => write!(
                f,
                "answered with something that is not Redis: `{}`",
                printable(first, SHOWN)
            ),
            Self::TooLong => f.write_str("answered with more than 4 MiB"),
            Self::CutOff => f.write_str("closed the connection before its answer was whole"),
            Self::Unfinished(after) => write!(
                f,
                "timed out after {}: it began to answer, and did not finish",
                rough(*after)
            ),
        }
    }
}

/// What came of some commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The login or the choice of the database was refused, with this error: none of the commands was sent.
    Refused(String),
    /// A reply to each.
    Replies(Vec<Reply>),
}

/// Commands that were not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, as a whole sentence.
    pub why: String,
    /// All of them may have been sent: the server may have done what they say.
    pub was_sent: bool,
    /// The answer was too long.
    pub is_too_long: bool,
}

/// Sends commands to a server, and waits for the answers, within `limit`.
pub fn ask(server: &Server, commands: &[Command], limit: Duration) -> Result<Answer, Failure> {
    let prefaces: Vec<Vec<u8>> = server.preface().iter().map(written).collect();
    let mut batch = Vec::new();
    for command in commands {
        write(&mut batch, command);
    }
    let talk = Commands {
        target: server.target.clone(),
        prefaces: prefaces.len(),
        stages: prefaces.into_iter().chain([batch]).collect(),
        expected: commands.len(),
        was_sent: Rc::default(),
    };
    // the limit is the caller's own, whatever the run has left
    let run_ends = Instant::now() + limit + Duration::from_secs(1);
    let Some((talk, outcome)) = converse(vec![(talk, limit)], run_ends).pop() else {
        return Err(Failure {
            why: format!("{} was not asked", server.origin()),
            was_sent: false,
            is_too_long: false,
        });
    };
    let shown = server.origin();
    let failure = |why, is_too_long| Failure {
        why,
        was_sent: talk.was_sent.get(),
        is_too_long,
    };
    match outcome {
        Outcome::Passed { answer, .. } => Ok(answer),
        Outcome::NotAsked(why) => Err(failure(format!("{shown} {why}"), false)),
        Outcome::Failed(failures) => {
            let address = &server.target.address;
            let is_too_long = failures
                .iter()
                .any(|failure| failure.fault == super::Fault::Answer(Wrong::TooLong));
            let why = super::failed(&shown, address, &failures, |fault| {
                super::sentence(address, fault, true, ToString::to_string)
            });
            Err(failure(why, is_too_long))
        }
    }
}

/// A command as it goes over the wire.
fn written(command: &Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, command);
    bytes
}

fn write(bytes: &mut Vec<u8>, command: &Command) {
    bytes.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// Commands on their way.
struct Commands {
    target: Target,
    /// What is sent, the one when the one before it was answered. The last has all commands.
    stages: Rc<[Vec<u8>]>,
    /// How many stages come before the commands.
    prefaces: usize,
    /// How many answers the last has.
    expected: usize,
    /// The last was sent over some connection.
    was_sent: Rc<Cell<bool>>,
}

impl Talk for Commands {
    type Exchange = Asking;

    fn target(&self) -> &Target {
        &self.target
    }

    /// A second address may be the same server.
    fn is_said_once(&self) -> bool {
        true
    }

    fn begin(&self) -> Asking {
        Asking {
            stages: Rc::clone(&self.stages),
            prefaces: self.prefaces,
            expected: self.expected,
            was_sent: Rc::clone(&self.was_sent),
            stage: 0,
            sent: 0,
            raw: Vec::new(),
            read: 0,
            needed: 0,
            replies: Vec::new(),
        }
    }
}

/// Commands over one connection.
struct Asking {
    stages: Rc<[Vec<u8>]>,
    prefaces: usize,
    expected: usize,
    was_sent: Rc<Cell<bool>>,
    stage: usize,
    /// How much of the stage was sent.
    sent: usize,
    /// What arrived and was not taken yet.
    raw: Vec<u8>,
    /// How much was taken.
    read: usize,
    /// Nothing is whole with less than so much.
    needed: usize,
    replies: Vec<Reply>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking(stage {})", self.stage)
    }
}

impl Exchange for Asking {
    type Answer = Answer;
    type Wrong = Wrong;
    type Next = Commands;

    fn unsent(&self) -> &[u8] {
        let stage = self.stages.get(self.stage).map_or(&[][..], Vec::as_slice);
        &stage[self.sent.min(stage.len())..]
    }

    fn sent(&mut self, length: usize) {
        self.sent += length;
        if self.stage == self.prefaces && self.unsent().is_empty() {
            self.was_sent.set(true);
        }
    }

    fn capacity(&self) -> usize {
        ANSWER_LIMIT.saturating_sub(self.read + self.raw.len())
    }

    fn hear(&mut self, bytes: &[u8], is_last: bool, _: Instant) -> Heard<Self> {
        self.raw.extend_from_slice(bytes);
        while self.raw.len() >= self.needed.max(1) {
            match parse(&self.raw, 0) {
                Ok((reply, length)) => {
                    self.raw.drain(..length);
                    self.read += length;
                    self.needed = 0;
                    if let Some(heard) = self.take(reply) {
                        return heard;
                    }
                }
                Err(Unparsed::Short(needed)) => {
                    self.needed = needed;
                    break;
                }
                Err(Unparsed::Wrong) => {
                    let first = self.raw[..self.raw.len().min(SHOWN + 1)].to_vec();
                    return Heard::Wrong(Wrong::NotRedis(first));
                }
            }
        }
        if self.capacity() == 0 || self.needed > ANSWER_LIMIT {
            return Heard::Wrong(Wrong::TooLong);
        }
        if is_last && self.was_answered() {
            return Heard::Wrong(Wrong::CutOff);
        }
        Heard::Waiting
    }

    fn time_out(&mut self, limit: Duration) -> Option<Heard<Self>> {
        self.was_answered()
            .then_some(Heard::Wrong(Wrong::Unfinished(limit)))
    }
}

impl Asking {
    fn was_answered(&self) -> bool {
        self.read > 0 || !self.raw.is_empty()
    }

    /// Takes note of a reply; what it came to where it was the last.
    fn take(&mut self, reply: Reply) -> Option<Heard<Self>> {
        if self.stage < self.prefaces {
            if let Reply::Error(error) = reply {
                return Some(Heard::Passed(Answer::Refused(error)));
            }
            self.stage += 1;
            self.sent = 0;
            return None;
        }
        self.replies.push(reply);
        // a server that has too many clients says so at once, and once for all commands
        let is_over = matches!(&self.replies[..], [Reply::Error(_)]) && !self.was_sent.get();
        if self.replies.len() < self.expected && !is_over {
            return None;
        }
        let replies = std::mem::take(&mut self.replies);
        Some(Heard::Passed(match <[Reply; 1]>::try_from(replies) {
            Ok([Reply::Error(error)]) if is_over => Answer::Refused(error),
            Ok(one) => Answer::Replies(one.into()),
            Err(replies) => Answer::Replies(replies),
        }))
    }
}

/// Why there is no reply.
#[derive(Debug, PartialEq, Eq)]
enum Unparsed {
    /// There have to be so many bytes at least.
    Short(usize),
    /// It is none of the protocol.
    Wrong,
}

/// The first reply of some bytes, and its length.
fn parse(bytes: &[u8], depth: usize) -> Result<(Reply, usize), Unparsed> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Err(Unparsed::Short(1));
    };
    if !b"+-:$*".contains(&kind) {
        return Err(Unparsed::Wrong);
    }
    let line = &rest[..rest.len().min(LINE)];
    let Some(length) = line.windows(2).position(|two| two == b"\r\n") else {
        if line.len() == LINE {
            return Err(Unparsed::Wrong);
        }
        return Err(Unparsed::Short(bytes.len() + 1));
    };
    let (line, begin) = (&rest[..length], length + 3);
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || -> Result<i64, Unparsed> {
        let text = std::str::from_utf8(line).map_err(|_| Unparsed::Wrong)?;
        text.parse().map_err(|_| Unparsed::Wrong)
    };
    match kind {
        b'+' => Ok((Reply::Status(text()), begin)),
        b'-' => Ok((Reply::Error(text()), begin)),
        b':' => Ok((Reply::Number(number()?), begin)),
        b'$' => match number()? {
            -1 => Ok((Reply::Bytes(None), begin)),
            length => {
                let length = usize::try_from(length).map_err(|_| Unparsed::Wrong)?;
                let end = begin.saturating_add(length);
                let whole = end.saturating_add(2);
                if bytes.len() < whole {
                    return Err(Unparsed::Short(whole));
                }
                if &bytes[end..whole] != b"\r\n" {
                    return Err(Unparsed::Wrong);
                }
                Ok((Reply::Bytes(Some(bytes[begin..end].to_vec())), whole))
            }
        },
        _ => match number()? {
            -1 => Ok((Reply::List(None), begin)),
            count => {
                let count = usize::try_from(count).map_err(|_| Unparsed::Wrong)?;
                if depth >= DEPTH {
                    return Err(Unparsed::Wrong);
                }
                let mut entries = Vec::new();
                let mut end = begin;
                for left in (0..count).rev() {
                    match parse(&bytes[end..], depth + 1) {
                        Ok((entry, length)) => {
                            entries.push(entry);
                            end += length;
                        }
                        // each of those that follow has four bytes at least
                        Err(Unparsed::Short(needed)) => {
                            let others = left.saturating_mul(3);
                            let all = end.saturating_add(needed).saturating_add(others);
                            return Err(Unparsed::Short(all));
                        }
                        Err(Unparsed::Wrong) => return Err(Unparsed::Wrong),
                    }
                }
                Ok((Reply::List(Some(entries)), end))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(text: &str) -> Server {
        Server::parse(text, None).unwrap()
    }

    fn said(server: &Server) -> Vec<String> {
        let commands = server.preface().into_iter();
        commands
            .map(|words| String::from_utf8(words.join(&b' ')).unwrap())
            .collect()
    }

    #[test]
    fn a_url_names_a_server_and_who_asks() {
        for (text, origin, preface) in [
            ("redis://h", "redis://h:6379", &[][..]),
            ("redis://h/", "redis://h:6379", &[]),
            ("redis://h:1/0", "redis://h:1", &[]),
            ("redis://[::1]/2", "redis://[::1]:6379", &["SELECT 2"]),
            ("redis://[::1]:7", "redis://[::1]:7", &[]),
            ("rediss://:p%40ss@h", "rediss://h:6379", &["AUTH p@ss"]),
            (
                "redis://me:p:q@h:1/3",
                "redis://h:1",
                &["AUTH me p:q", "SELECT 3"],
            ),
            ("unix:///run/r.sock", "unix:///run/r.sock", &[]),
            (
                "unix://:p@/run/a@b.sock?db=4",
                "unix:///run/a@b.sock",
                &["AUTH p", "SELECT 4"],
            ),
        ] {
            let server = server(text);
            assert_eq!(server.origin(), origin, "{text}");
            assert_eq!(said(&server), preface, "{text}");
            assert_eq!(server.is_tls(), text.starts_with("rediss"), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_told_without_what_may_be_a_secret() {
        for (text, why) in [
            (
                "localhost",
                "there is no scheme; write redis://, rediss:// or unix://",
            ),
            (
                "http://:canary@h",
                "this scheme cannot be asked; write redis://, rediss:// or unix://",
            ),
            (
                "redis://canary@h",
                "a password stands behind a colon: redis://:PASSWORD@host",
            ),
            (
                "redis://:canary@h/x",
                "behind the host there may be the number of a database only, as in redis://host/0",
            ),
            (
                "unix://:canary@/x?database=1",
                "behind the path there may be ?db=NUMBER only",
            ),
        ] {
            assert_eq!(Server::parse(text, None).unwrap_err(), why, "{text}");
        }
        for text in [
            "redis://",
            "redis://:canary@:1",
            "unix://x",
            "redis://h:canary",
        ] {
            assert!(Server::parse(text, None).is_err(), "{text}");
        }
        let debug = format!("{:?}", server("redis://me:canary@h"));
        assert!(!debug.contains("canary"), "{debug}");
    }

    /// An exchange of two commands with a server that wants a password, which is given these pieces.
    fn heard(pieces: &[&[u8]]) -> (Vec<u8>, Option<Result<Answer, Wrong>>) {
        let stages = vec![b"<AUTH>".to_vec(), b"<ALL>".to_vec()];
        let talk = Commands {
            target: server("redis://h").target,
            stages: stages.into(),
            prefaces: 1,
            expected: 2,
            was_sent: Rc::default(),
        };
        let mut asking = talk.begin();
        let mut sent = Vec::new();
        for piece in pieces {
            sent.extend_from_slice(asking.unsent());
            asking.sent(asking.unsent().len());
            match asking.hear(piece, piece.is_empty(), Instant::now()) {
                Heard::Passed(answer) => return (sent, Some(Ok(answer))),
                Heard::Wrong(wrong) => return (sent, Some(Err(wrong))),
                _ => {}
            }
        }
        (sent, None)
    }

    #[test]
    fn a_login_is_answered_before_more_is_said() {
        let replies = |replies: Vec<Reply>| Some(Ok(Answer::Replies(replies)));
        let id = |id: &str| Reply::Bytes(Some(id.as_bytes().to_vec()));
        for (pieces, sent, outcome) in [
            (&[&b"+OK\r"[..]][..], "<AUTH>", None),
            (
                &[b"-WRONGPASS no\r\n"],
                "<AUTH>",
                Some(Ok(Answer::Refused("WRONGPASS no".to_owned()))),
            ),
            (
                &[b"+OK\r\n", b"$3\r\n1-0\r\n$3\r\n1-1\r\n"],
                "<AUTH><ALL>",
                replies(vec![id("1-0"), id("1-1")]),
            ),
            (
                &[b"+OK\r\n", b"-OOM x\r\n", b"$3\r\n", b"1-1\r\n"],
                "<AUTH><ALL>",
                replies(vec![Reply::Error("OOM x".to_owned()), id("1-1")]),
            ),
            (
                &[b"+OK\r\n", b"$3\r\n1-0\r\n", b""],
                "<AUTH><ALL>",
                Some(Err(Wrong::CutOff)),
            ),
            (
                &[b"HTTP/1.1 400 x\r\n"],
                "<AUTH>",
                Some(Err(Wrong::NotRedis(b"HTTP/1.1 400 x\r\n".to_vec()))),
            ),
            (
                &[b"+OK\r\n", b"$999999999\r\n"],
                "<AUTH><ALL>",
                Some(Err(Wrong::TooLong)),
            ),
            (
                &[b"+OK\r\n", b"*999999999\r\n"],
                "<AUTH><ALL>",
                Some(Err(Wrong::TooLong)),
            ),
        ] {
            let (said, came) = heard(pieces);
            assert_eq!(String::from_utf8(said).unwrap(), sent);
            assert_eq!(came, outcome);
        }
    }

    #[test]
    fn each_kind_of_reply_is_read() {
        for (text, reply) in [
            ("+OK\r\n", Reply::Status("OK".to_owned())),
            ("-ERR x\r\n", Reply::Error("ERR x".to_owned())),
            (":-5\r\n", Reply::Number(-5)),
            ("$-1\r\n", Reply::Bytes(None)),
            ("$0\r\n\r\n", Reply::Bytes(Some(Vec::new()))),
            ("*-1\r\n", Reply::List(None)),
            ("*0\r\n", Reply::List(Some(Vec::new()))),
            (
                "*2\r\n:1\r\n*1\r\n$2\r\n\r\n\r\n",
                Reply::List(Some(vec![
                    Reply::Number(1),
                    Reply::List(Some(vec![Reply::Bytes(Some(b"\r\n".to_vec()))])),
                ])),
            ),
        ] {
            let bytes = text.as_bytes();
            assert_eq!(parse(bytes, 0), Ok((reply, bytes.len())), "{text:?}");
            for end in 0..bytes.len() {
                match parse(&bytes[..end], 0) {
                    Err(Unparsed::Short(needed)) => {
                        assert!(needed > end && needed <= bytes.len(), "{text:?} {end}");
                    }
                    other => panic!("{text:?} {end}: {other:?}"),
                }
            }
        }
        let deep = "*1\r\n".repeat(20);
        assert_eq!(parse(deep.as_bytes(), 0), Err(Unparsed::Wrong));
    }

    #[test]
    fn a_command_is_written_with_the_lengths_of_its_words() {
        let command = vec![b"XADD".to_vec(), "a\r\né".as_bytes().to_vec()];
        assert_eq!(
            written(&command),
            "*2\r\n$4\r\nXADD\r\n$5\r\na\r\né\r\n".as_bytes()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(
            pieces in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..20),
                    "[-+:$*]{0,2}[0-9-]{0,12}(\r\n)?".prop_map(String::into_bytes),
                ],
                0..40,
            )
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = heard(&pieces);
        }
    }
}
