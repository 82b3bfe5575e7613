//! `watchdog test-mail`: one message through `[mail]` now, with each step as it is made.

use chrono::Utc;

use crate::commands::print;
use crate::config::Config;
use crate::error::Error;
use crate::notify::{self, Alert, Channel, Event, Notification, Outcome, Thread, digest};
use crate::report::{
    self,
    page::{Page, Style},
};

/// Sends a test to all recipients. Nothing is kept where it fails, and nothing is remembered: 0 where everybody has
/// it, 1 where not, or where there is no mail to try.
pub fn run(config: &Config, style: Style) -> Result<u8, Error> {
    let mut channels = config.channels.iter();
    let Some(mail) = channels.find(|channel| channel.name == Channel::MAIL) else {
        ::log::error!(
            "there is no mail to test: {} has no [mail] table, and $ALERT_EMAIL_TO is not set",
            config.path.display()
        );
        return Ok(1);
    };
    let all = send_test(config, mail, style)?;
    Ok(u8::from(!all))
}

/// Sends a test on a channel, and prints how it went. Returns whether everybody has it.
fn send_test(config: &Config, channel: &Channel, style: Style) -> Result<bool, Error> {
    let say = |indent: usize, sentence: &str| {
        let mut page = Page::new(style);
        page.line(indent, sentence);
        print(&page.into_text())
    };
    say(0, &format!("A message {}", channel.describe()))?;
    // one alert is always a notification
    let notification =
        composed(config, channel).ok_or_else(|| Error::Internal("test-mail".to_owned()))?;
    let mut said = Ok(());
    let report = channel.send(
        &notification,
        &Thread::default(),
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
