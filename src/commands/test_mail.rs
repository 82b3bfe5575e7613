//! `watchdog test-mail`: one message through `[mail]` now, each step told as it is made.

use chrono::Utc;

use crate::commands::print;
use crate::config::Config;
use crate::error::Error;
use crate::notify::mail::{self, Settings, Tls, Transport};
use crate::notify::{self, Alert, Event, Outcome, message};
use crate::report::{
    self,
    page::{Page, Style},
};

/// Sends a test to all recipients. Nothing is kept where it fails, and nothing is remembered: 0 where everybody has
/// it, 1 where not, or where there is no mail to try.
pub fn run(config: &Config, style: Style) -> Result<u8, Error> {
    let Some(settings) = &config.mail else {
        ::log::error!(
            "there is no mail to test: {} has no [mail] table, and $ALERT_EMAIL_TO is not set",
            config.path.display()
        );
        return Ok(1);
    };
    let say = |indent: usize, sentence: &str| {
        let mut page = Page::new(style);
        page.line(indent, sentence);
        print(&page.into_text())
    };
    say(
        0,
        &format!(
            "A message from {} to {}, by {}",
            settings.from.as_str(),
            settings.recipients().join(", "),
            method(settings)
        ),
    )?;
    // one alert is always a message
    let message = composed(config).ok_or_else(|| Error::Internal("test-mail".to_owned()))?;
    let mut told = Ok(());
    let report = mail::send_telling(
        settings,
        &settings.recipients(),
        &message,
        settings.transport.timeout(),
        &mut |step| {
            if told.is_ok() {
                told = say(2, step);
            }
        },
    );
    told?;
    let mut all = true;
    for recipient in &report.recipients {
        let address = &recipient.address;
        let came_to = match &recipient.outcome {
            Outcome::Delivered => format!("{address}: sent"),
            Outcome::Refused(why) => format!("{address}: refused, for good: {why}"),
            Outcome::Deferred {
                why,
                maybe_delivered: false,
            } => format!("{address}: not sent: {why}"),
            Outcome::Deferred { why, .. } => format!("{address}: perhaps sent: {why}"),
        };
        all &= recipient.outcome == Outcome::Delivered;
        say(0, &came_to)?;
    }
    say(
        0,
        if all {
            "All of it was taken. Check the inbox and the spam folder."
        } else {
            "Not everybody has it. An alert would be kept and tried again; a test is not."
        },
    )?;
    Ok(u8::from(!all))
}

fn composed(config: &Config) -> Option<notify::Message> {
    let now = Utc::now();
    let alert = Alert {
        id: String::new(),
        time: now,
        service: "watchdog".to_owned(),
        event: Event::Test,
        findings: Vec::new(),
        action: None,
        since: None,
        attempts: 0,
        max_per_hour: 0,
        log_tail: Vec::new(),
        notes: Vec::new(),
        same_finding: None,
        next_attempt: None,
        held: false,
    };
    let context = message::Context {
        config: Some(&config.path),
        held_back: 0,
        threads: &std::collections::BTreeMap::new(),
        nonce: notify::nonce(),
    };
    message::compose(&report::host(), now, &[alert], &context)
}

fn method(settings: &Settings) -> String {
    match &settings.transport {
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
    }
}
