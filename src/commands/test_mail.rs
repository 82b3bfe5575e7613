//! `watchdog test-mail`: one message through `[mail]` now, each step told as it is made.

use chrono::Utc;

use crate::commands::print;
use crate::config::Config;
use crate::error::Error;
use crate::notify::mail::{self, Settings, Tls, Transport};
use crate::notify::{self, Alert, Event, Outcome, message};
use crate::{report, text};

/// Sends a test to all recipients. Nothing is kept where it fails, and nothing is remembered: 0 where everybody has
/// it, 1 where not, or where there is no mail to try.
pub fn run(config: &Config) -> Result<u8, Error> {
    let Some(settings) = &config.mail else {
        ::log::error!(
            "there is no mail to test: {} has no [mail] table, and $ALERT_EMAIL_TO is not set",
            config.path.display()
        );
        return Ok(1);
    };
    print(&format!(
        "A message from {} to {}, by {}\n",
        text::visible(&settings.from),
        text::visible(&settings.to.join(", ")),
        way(settings)
    ))?;
    // one alert is always a message
    let message = composed(config).ok_or_else(|| Error::Internal("test-mail".to_owned()))?;
    let mut told = Ok(());
    let report = mail::send_telling(
        settings,
        &settings.to,
        &message,
        settings.transport.timeout(),
        &mut |step| {
            if told.is_ok() {
                told = print(&format!("  {step}\n"));
            }
        },
    );
    told?;
    let mut all = true;
    for recipient in &report.recipients {
        let address = text::visible(&recipient.address);
        print(&match &recipient.outcome {
            Outcome::Delivered => format!("{address}: sent\n"),
            Outcome::Refused(why) => {
                all = false;
                format!("{address}: refused, for good: {why}\n")
            }
            Outcome::Deferred {
                why,
                maybe_delivered: false,
            } => {
                all = false;
                format!("{address}: not sent: {why}\n")
            }
            Outcome::Deferred { why, .. } => {
                all = false;
                format!("{address}: perhaps sent: {why}\n")
            }
        })?;
    }
    print(if all {
        "All of it was taken. Look whether it arrives, and not among the junk.\n"
    } else {
        "Not everybody has it. An alert would be kept and tried again; a test is not.\n"
    })?;
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

fn way(settings: &Settings) -> String {
    match &settings.transport {
        Transport::Smtp(smtp) => {
            let host = text::visible(&smtp.host);
            let tls = match smtp.tls {
                Tls::Starttls => "STARTTLS",
                Tls::Tls => "TLS from the start",
                Tls::None => "no TLS",
            };
            let login = match &smtp.username {
                Some(name) => format!("logging in as `{}`", text::visible(name)),
                None => "without a login".to_owned(),
            };
            format!("{host}, port {}, with {tls}, {login}", smtp.port)
        }
        Transport::Sendmail { command } => format!("the command {}", command.display()),
        Transport::Directory(folder) => format!("a file in {}", folder.display()),
    }
}
