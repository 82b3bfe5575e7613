//! The `[mail]` table.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::keys;
use super::read::{Table, Value};
use crate::notify::Event;
use crate::notify::mail::{Mailbox, Secret, Settings, Smtp, Tls, Transport};

/// What is told by a config that does not say.
pub(super) const DEFAULT_EVENTS: [Event; 5] = [
    Event::Restarted,
    Event::RestartFailed,
    Event::Exhausted,
    Event::Down,
    Event::Recovered,
];

/// What may be chosen.
const EVENTS: [Event; 7] = [
    Event::Restarted,
    Event::RestartFailed,
    Event::Exhausted,
    Event::Down,
    Event::Recovered,
    Event::Degraded,
    Event::Unknown,
];

/// How long the same event is not told again.
pub(super) const REMIND_EVERY: Duration = Duration::from_hours(1);

/// How many messages an hour may have.
pub(super) const MAX_PER_HOUR: u32 = 12;

/// For the delivery of a message.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The ways out, of which a config has exactly one.
const TRANSPORTS: [&str; 3] = ["smtp", "sendmail", "directory"];

/// The places of a password, of which a config has one at most.
const PASSWORDS: [&str; 4] = [
    "password_file",
    "password_env",
    "password_credential",
    "password",
];

/// Reads the table; the place of its password is told apart, for that file is looked at later.
pub(super) fn read(
    value: &Value<'_>,
    directory: &Path,
) -> (Option<Settings>, Option<Range<usize>>) {
    let Some(table) = value.table(&keys::MAIL) else {
        return (None, None);
    };
    let from = table
        .require("from", "write from = \"watchdog@example.org\"")
        .and_then(|value| mailbox(&value));
    let to = table
        .require("to", "write to = [\"ops@example.org\"]")
        .and_then(|value| value.filled_list("write to = [\"ops@example.org\"]", mailbox));
    let events = EVENTS.map(|event| (event.name(), event));
    let on = table
        .get("on")
        .and_then(|value| value.list(|event| event.choice(&events)));
    let remind_every = table.get("remind_every").and_then(|value| value.time());
    let max_per_hour = table
        .get("max_per_hour")
        .and_then(|value| value.whole(1..=3600));
    let mut password = None;
    let transport = transport(&table, directory, &mut password);
    let settings = (|| {
        Some(Settings {
            from: from?,
            to: to?,
            on: on.unwrap_or_else(|| DEFAULT_EVENTS.to_vec()),
            remind_every: remind_every.unwrap_or(REMIND_EVERY),
            max_per_hour: max_per_hour.unwrap_or(MAX_PER_HOUR),
            transport: transport?,
        })
    })();
    (settings, password)
}

fn mailbox(value: &Value<'_>) -> Option<Mailbox> {
    let text = value.filled()?;
    if let Ok(mailbox) = Mailbox::parse(&text) {
        return Some(mailbox);
    }
    value.wrong(
        "this is not a mail address",
        "write it like ops@example.org or \"On Call <ops@example.org>\"; for this machine ops@localhost",
    );
    None
}

fn transport(
    table: &Table<'_>,
    directory: &Path,
    password: &mut Option<Range<usize>>,
) -> Option<Transport> {
    const HELP: &str = "mail leaves by exactly one of smtp, sendmail, directory";
    // all are read, for all their faults are wanted
    let smtp = table
        .get("smtp")
        .and_then(|value| smtp(&value, directory, password));
    let sendmail = table
        .get("sendmail")
        .and_then(|value| sendmail(&value, directory));
    let directory = table
        .get("directory")
        .and_then(|value| value.path(directory))
        .map(Transport::Directory);
    table.at_most_one(&TRANSPORTS, HELP);
    if !table.has_any(&TRANSPORTS) {
        table.lacks("`[mail]` has no transport", HELP);
    }
    smtp.or(sendmail).or(directory)
}

fn sendmail(value: &Value<'_>, directory: &Path) -> Option<Transport> {
    let table = value.table(&keys::SENDMAIL)?;
    let command = table.require("command", "write command = \"/usr/sbin/sendmail\"")?;
    let text = command.path_text()?;
    if !text.contains('/') {
        command.wrong(
            "`command` is not looked for in PATH",
            "write its whole path, like /usr/sbin/sendmail",
        );
        return None;
    }
    Some(Transport::Sendmail {
        command: command.path(directory)?,
    })
}

fn smtp(
    value: &Value<'_>,
    directory: &Path,
    place: &mut Option<Range<usize>>,
) -> Option<Transport> {
    let table = value.table(&keys::SMTP)?;
    let host = table
        .require("host", "write host = \"smtp.example.org\"")
        .and_then(|value| host(&value));
    let tls = table
        .get("tls")
        .and_then(|value| {
            value.choice(&[
                ("starttls", Tls::Starttls),
                ("tls", Tls::Tls),
                ("none", Tls::None),
            ])
        })
        .unwrap_or(Tls::Starttls);
    let port = table.get("port").and_then(|value| value.whole(1..=65535));
    let username = table.get("username");
    let secret = table.at_most_one(&PASSWORDS, "a password comes from one place");
    match (&username, &secret) {
        (Some(_), None) if !table.has_any(&PASSWORDS) => table.lacks(
            "`username` without a password",
            "write password_file, password_env or password_credential beside it",
        ),
        (None, Some(secret)) if !table.has_any(&["username"]) => {
            secret.misplaced(
                "a password without `username`",
                "write username beside it, or leave the password out",
            );
        }
        _ => {}
    }
    *place = secret.map(|value| value.span());
    let username = username.and_then(|value| value.filled());
    let password = password(&table, directory);
    let ca_file = table.get("ca_file").and_then(|value| value.path(directory));
    let timeout = table.get("timeout").and_then(|value| value.time());
    Some(Transport::Smtp(Smtp {
        host: host?,
        port: port.unwrap_or(match tls {
            Tls::Starttls => 587,
            Tls::Tls => 465,
            Tls::None => 25,
        }),
        tls,
        username,
        password,
        ca_file,
        timeout: timeout.unwrap_or(TIMEOUT),
    }))
}

fn host(value: &Value<'_>) -> Option<String> {
    let host = value.filled()?;
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let name = host
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if address || name {
        return Some(host);
    }
    value.wrong(
        "`host` is not a host name or an address",
        "write it like smtp.example.org; the port is a key of its own",
    );
    None
}

fn password(table: &Table<'_>, directory: &Path) -> Option<Secret> {
    let file = table
        .get("password_file")
        .and_then(|value| value.path(directory))
        .map(Secret::File);
    let variable = table
        .get("password_env")
        .and_then(|value| {
            value.secret_place(
                |name| !name.contains(['=', ' ']),
                "write the name of a variable, like SMTP_PASSWORD, that holds the password",
            )
        })
        .map(Secret::Env);
    let credential = table
        .get("password_credential")
        .and_then(|value| {
            value.secret_place(
                |name| !name.contains('/') && name != "." && name != "..",
                "write the name that LoadCredential= in the unit gives it, without a path",
            )
        })
        .map(Secret::Credential);
    let inline = table
        .get("password")
        .and_then(|value| value.filled())
        .map(Secret::Inline);
    file.or(variable).or(credential).or(inline)
}
