//! The `[mail]` table.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Routing;
use super::{Mailbox, Secret, Tls, Transport};
use crate::table::{
    Checked, Context, Filled, Flat, Meant, Part, Positive, Table, Value, Via, Within, choice, table,
};
use crate::table::{Form, Shown};

table! {
    /// Whom to alert by mail; without this table: nobody, or $ALERT_EMAIL_TO, which needs
    /// $SMTP_SERVER and $ALERT_EMAIL_FROM beside it.
    pub struct Settings like "mail = { from = \"watchdog@example.org\", to = [\"ops@example.org\"], directory = \"outbox\" }" {
        /// The sender.
        from: Mailbox, example r#""watchdog@example.org""#;
        /// The recipients.
        to: Vec<Mailbox> as Filled<Vec<Mailbox>>, example r#"["ops@example.org"]"#;
        /// What is reported, and how often.
        routing: Routing => Flat;
        /// For all mail of a run; without it, what one message may take.
        timeout: Option<Duration> as Option<Positive>, commented r#""20s""#;
        /// The transport.
        transport: Transport => Via<TransportKeys>;
    }
}

table! {
    /// The ways that mail leaves by, of which a config has exactly one.
    struct TransportKeys like "directory = \"outbox\"", check has_one {
        /// A mail server.
        smtp: Option<Smtp>;
        /// A program that takes a message on its standard input.
        sendmail: Option<Sendmail>;
        /// One of the three transports: a directory of .eml files, for trying out.
        directory: Option<PathBuf>, example r#""outbox""#;
    }
}

table! {
    /// The second transport: a mail server.
    pub struct Smtp like "smtp = { host = \"smtp.example.org\" }", check has_login {
        /// A name or an address.
        host: String as Host, commented r#""smtp.example.org""#;
        /// Default: 587 for starttls, 465 for tls, 25 for none.
        port: u16 as Within<1, 65535> = 587;
        /// "starttls": plain at first, then TLS, always; "tls": from the start; "none": never.
        tls: Tls = Tls::Starttls;
        /// The name to log in with, where the server asks for a login.
        username: Option<String> as Option<Filled>, commented r#""watchdog""#;
        /// The password that goes with it.
        password: Option<Secret> => Secret, commented r#""correct horse battery staple""#;
        /// Certificates to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// For the delivery of one message.
        timeout: Duration as Positive = Duration::from_secs(10);
    }
}

table! {
    /// The third transport: a program that takes a message on its standard input.
    struct Sendmail like "sendmail = { command = \"/usr/sbin/sendmail\" }" {
        /// Its whole path.
        command: PathBuf as WholePath, example r#""/usr/sbin/sendmail""#;
    }
}

choice! { Tls: "starttls" = Starttls, "tls" = Tls, "none" = None }

impl Meant<Transport> for TransportKeys {
    fn meant(self) -> Option<Transport> {
        let sendmail = |Sendmail { command }| Transport::Sendmail { command };
        (self.smtp.map(Transport::Smtp))
            .or_else(|| self.sendmail.map(sendmail))
            .or_else(|| self.directory.map(Transport::Directory))
    }

    fn written(transport: &Transport) -> Self {
        let mut keys = Self {
            smtp: None,
            sendmail: None,
            directory: None,
        };
        match transport {
            Transport::Smtp(smtp) => keys.smtp = Some(smtp.clone()),
            Transport::Sendmail { command } => {
                keys.sendmail = Some(Sendmail {
                    command: command.clone(),
                });
            }
            Transport::Directory(path) => keys.directory = Some(path.clone()),
        }
        keys
    }
}

fn has_one(table: &Table<'_>, _: &mut Part<TransportKeys>) {
    const HELP: &str = "mail leaves by exactly one of smtp, sendmail, directory";
    const TRANSPORTS: [&str; 3] = ["smtp", "sendmail", "directory"];
    table.at_most_one(&TRANSPORTS, HELP);
    if !table.has_any(&TRANSPORTS) {
        table.lacks("`[mail]` has no transport", HELP);
    }
}

fn has_login(table: &Table<'_>, part: &mut Part<Smtp>) {
    let secret = Secret::first(table, "password");
    match (table.get("username"), &secret) {
        (Some(_), None) if !Secret::is_there(table, "password") => table.lacks(
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
    part.port = part.port.or_else(|| {
        Some(match part.tls? {
            Tls::Starttls => 587,
            Tls::Tls => 465,
            Tls::None => 25,
        })
    });
}

impl Form for Mailbox {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        if let Ok(mailbox) = Self::parse(&value.filled()?) {
            return Some(mailbox);
        }
        value.wrong(
            "this is not a mail address",
            "write it like ops@example.org or \"On Call <ops@example.org>\"; for this machine ops@localhost",
        );
        None
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(&value.written))
    }

    fn kind() -> String {
        "a mail address".to_owned()
    }
}

/// A host name or an address.
struct Host;

impl Checked for Host {
    type Of = String;
    const KIND: &'static str = "a host name or an address";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
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
}

/// A path that is not looked for.
struct WholePath;

impl Checked for WholePath {
    type Of = PathBuf;
    const KIND: &'static str = "a path";

    fn read(value: &Value<'_>, context: &Context) -> Option<PathBuf> {
        let text = value.path_text()?;
        if !text.contains('/') {
            value.wrong(
                "`command` is not looked for in PATH",
                "write its whole path, like /usr/sbin/sendmail",
            );
            return None;
        }
        value.path(&context.base)
    }
}
