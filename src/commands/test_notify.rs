//! `watchdog test-notify` and `test-mail`: one message through each channel now, with each step as it is made.

use chrono::Utc;

use crate::commands::{instead, print};
use crate::config::Config;
use crate::error::Error;
use crate::notify::{self, Alert, Attempt, Channel, Event, Notification, Outcome, Thread, digest};
use crate::report::{
    self,
    page::{Page, Style},
};

/// Sends a test through these channels, or all. Nothing is kept where it fails, and nothing is remembered: 0 where each
/// has taken it, 1 where not, or where there is no channel to try.
pub fn run(config: &Config, names: &[String], style: Style) -> Result<u8, Error> {
    let known = || config.channels.iter().map(|channel| channel.name.as_str());
    for name in names {
        if known().all(|known| known != name) {
            return Err(Error::Usage(format!(
                "the config has no channel `{name}`{}",
                instead(name, known())
            )));
        }
    }
    if config.channels.is_empty() {
        ::log::error!(
            "there is no channel to test: {} has no [mail] table and no [notify.NAME] table, and $ALERT_EMAIL_TO is not set",
            config.path.display()
        );
        return Ok(1);
    }
    let mut all = true;
    let chosen = |channel: &&Channel| names.is_empty() || names.contains(&channel.name);
    for channel in config.channels.iter().filter(chosen) {
        all &= send_test(
            config,
            channel,
            &format!("{}: a message", channel.name),
            style,
        )?;
    }
    Ok(u8::from(!all))
}

/// The same through `[mail]` alone.
pub fn run_mail(config: &Config, style: Style) -> Result<u8, Error> {
    let mut channels = config.channels.iter();
    let Some(mail) = channels.find(|channel| channel.name == Channel::MAIL) else {
        ::log::error!(
            "there is no mail to test: {} has no [mail] table, and $ALERT_EMAIL_TO is not set",
            config.path.display()
        );
        return Ok(1);
    };
    let all = send_test(config, mail, "A message", style)?;
    Ok(u8::from(!all))
}

/// Sends a test on a channel, and prints how it went. Returns whether everybody has it.
fn send_test(config: &Config, channel: &Channel, begin: &str, style: Style) -> Result<bool, Error> {
    let say = |indent: usize, sentence: &str| {
        let mut page = Page::new(style);
        page.line(indent, sentence);
        print(&page.into_text())
    };
    say(0, &format!("{begin} {}", channel.describe()))?;
    // one alert is always a notification
    let notification =
        composed(config, channel).ok_or_else(|| Error::Internal("test-notify".to_owned()))?;
    let mut said = Ok(());
    let attempt = Attempt {
        notification: &notification,
        thread: &Thread::default(),
        is_uncertain: false,
    };
    let report = channel.send(
        &attempt,
        &channel.recipients(),
        channel.timeout(),
        &mut |step| {
            if said.is_ok() {
                said = say(2, step);
            }
        },
    );
    said?;
    let mut all = true;
    for recipient in &report.recipients {
        let address = &recipient.address;
        let came_to = match &recipient.outcome {
            Outcome::Delivered => format!("{address}: sent"),
            Outcome::Refused(why) => format!("{address}: refused: {why}"),
            Outcome::Never(why) => format!("{address}: refused, for good: {why}"),
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
        match (all, channel.as_mail()) {
            (true, Some(_)) => "All of it was taken. Check the inbox and the spam folder.",
            (true, None) => "It was taken. See whether it is there.",
            (false, Some(_)) => {
                "Not everybody has it. An alert would be kept and tried again; a test is not."
            }
            (false, None) => {
                "It was not taken. An alert would be kept and tried again; a test is not."
            }
        },
    )?;
    Ok(all)
}

fn composed(config: &Config, channel: &Channel) -> Option<Notification> {
    let now = Utc::now();
    let context = digest::Context {
        config: Some(&config.path),
        table: &channel.table(),
        rate_limited: 0,
        nonce: notify::nonce(),
    };
    let alert = Alert::new(now, "watchdog", Event::Test);
    digest::compose(&report::host(), now, &[alert], &context)
}
