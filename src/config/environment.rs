//! What a config takes from the process environment, as plain data.
//!
//! Collected once, so that parsing is a function of its arguments and can be tested as one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::notify::mail::{Mailbox, Secret, Settings, Smtp, Tls};
use crate::table::{Fault, Fields, Part};

/// The part of the process environment that a config depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The effective user; 0 is root.
    pub uid: u32,
    /// `$STATE_DIRECTORY`, as systemd sets it: one path, or several with colons between.
    pub state_directory: Option<OsString>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<OsString>,
    /// `$HOME`.
    pub home: Option<OsString>,
    /// `$ALERT_EMAIL_TO`, addresses with commas between.
    pub alert_email_to: Option<String>,
    /// `$ALERT_EMAIL_FROM`.
    pub alert_email_from: Option<String>,
    /// `$SMTP_SERVER`.
    pub smtp_server: Option<String>,
    /// `$SMTP_PORT`.
    pub smtp_port: Option<String>,
    /// `$SMTP_USERNAME`.
    pub smtp_username: Option<String>,
    /// Whether `$SMTP_PASSWORD` is set; it is read when it is needed.
    pub smtp_password: bool,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let raw = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| raw(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            state_directory: raw("STATE_DIRECTORY"),
            xdg_state_home: raw("XDG_STATE_HOME"),
            home: raw("HOME"),
            alert_email_to: text("ALERT_EMAIL_TO"),
            alert_email_from: text("ALERT_EMAIL_FROM"),
            smtp_server: text("SMTP_SERVER"),
            smtp_port: text("SMTP_PORT"),
            smtp_username: text("SMTP_USERNAME"),
            smtp_password: raw("SMTP_PASSWORD").is_some(),
        }
    }

    /// Where state is kept by a config that does not say; `None` where nothing tells.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        // a relative path in these variables has no meaning, by the rules of those who set them
        let absolute =
            |value: &std::ffi::OsStr| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
        let first = self.state_directory.as_ref().and_then(|list| {
            let first = list.as_bytes().split(|byte| *byte == b':').next()?;
            absolute(std::ffi::OsStr::from_bytes(first))
        });
        if first.is_some() {
            return first;
        }
        if self.uid == 0 {
            return Some(PathBuf::from("/var/lib/watchdog"));
        }
        let state_home = self.xdg_state_home.as_deref().and_then(absolute);
        let home = || Some(absolute(self.home.as_deref()?)?.join(".local/state"));
        Some(state_home.or_else(home)?.join("watchdog"))
    }

    /// Mail as the variables have it; `None` where nobody is to be mailed.
    pub(super) fn mail(&self) -> Result<Option<Settings>, Vec<Fault>> {
        let Some(to) = &self.alert_email_to else {
            return Ok(None);
        };
        let mut faults = Vec::new();
        let mut fault = |variable: &str, message: &str, help: &str| {
            faults.push(Fault::of_environment(
                &format!("${variable} {message}"),
                Some(help),
            ));
        };
        let to = to.split(',').filter(|address| !address.trim().is_empty());
        let to: Vec<Mailbox> = to
            .map(Mailbox::parse)
            .collect::<Result<_, _>>()
            .unwrap_or_default();
        if to.is_empty() {
            fault(
                "ALERT_EMAIL_TO",
                "is not a list of mail addresses",
                "write addresses like ops@example.org, with commas between",
            );
        }
        let sender = self
            .alert_email_from
            .as_ref()
            .map(|from| Mailbox::parse(from))
            .or_else(|| Some(Ok(Mailbox::parse(self.smtp_username.as_ref()?).ok()?)));
        if sender.is_none() {
            fault(
                "ALERT_EMAIL_FROM",
                "is not set, though $ALERT_EMAIL_TO is",
                "set it to the address that mail is sent from",
            );
        }
        if matches!(sender, Some(Err(_))) {
            fault(
                "ALERT_EMAIL_FROM",
                "is not a mail address",
                "write it like watchdog@example.org",
            );
        }
        if self.smtp_server.is_none() {
            fault(
                "SMTP_SERVER",
                "is not set, though $ALERT_EMAIL_TO is",
                "set it to the mail server, or write a [mail] table",
            );
        }
        let port = match &self.smtp_port {
            None => Some(587),
            Some(port) => port.trim().parse().ok().filter(|port| *port > 0),
        };
        if port.is_none() {
            fault(
                "SMTP_PORT",
                "is not a port",
                "write a number from 1 to 65535",
            );
        }
        match (&self.smtp_username, self.smtp_password) {
            (Some(_), false) => fault(
                "SMTP_PASSWORD",
                "is not set, though $SMTP_USERNAME is",
                "set both or none",
            ),
            (None, true) => fault(
                "SMTP_USERNAME",
                "is not set, though $SMTP_PASSWORD is",
                "set both or none",
            ),
            _ => {}
        }
        match (faults.is_empty(), sender, &self.smtp_server, port) {
            (true, Some(Ok(from)), Some(host), Some(port)) => {
                Ok(self.settings(from, to, host.trim().to_owned(), port))
            }
            _ => Err(faults),
        }
    }

    /// What a `[mail]` table of these values would be.
    fn settings(
        &self,
        from: Mailbox,
        to: Vec<Mailbox>,
        host: String,
        port: u16,
    ) -> Option<Settings> {
        let mut mail = Part::<Settings>::default();
        (mail.from, mail.to) = (Some(from), Some(to));
        let mut smtp = Part::<Smtp>::default();
        (smtp.host, smtp.port) = (Some(host), Some(port));
        smtp.tls = (port == 465).then_some(Tls::Tls);
        smtp.username = Some(self.smtp_username.clone());
        let password = || Secret::Env("SMTP_PASSWORD".to_owned());
        smtp.password = self.smtp_password.then(password);
        mail.transport.smtp = Some(Smtp::whole(smtp));
        Settings::whole(mail)
    }
}

/// Where a config is looked for, in the order of preference.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// Named on the command line.
    pub(super) explicit: Option<PathBuf>,
    /// `$WATCHDOG_CONFIG`.
    pub(super) variable: Option<PathBuf>,
    /// The present directory, where there still is one.
    pub(super) here: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`, or `.config` at home.
    pub(super) config_home: Option<PathBuf>,
}

impl Search {
    /// That of this process.
    pub(super) fn of_process(explicit: Option<&Path>) -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let absolute = |name| path(name).filter(|path| path.is_absolute());
        Self {
            explicit: explicit.map(Path::to_owned),
            variable: path("WATCHDOG_CONFIG"),
            here: std::env::current_dir().ok(),
            config_home: absolute("XDG_CONFIG_HOME")
                .or_else(|| Some(absolute("HOME")?.join(".config"))),
        }
    }
}
