//! Telling what is owed: one message for all of it, and what could not be told stays owed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::memory::Memory;
use crate::memory::journal::{self, Entry};
use crate::memory::store::Store;
use crate::notify::{self, mail, message};
use crate::report;

/// Sends one message for all that is owed. What reached somebody is forgotten, and saved as such; what did not
/// stays owed, for the next run.
pub fn deliver(
    config: &Config,
    settings: &mail::Settings,
    store: &Store,
    memory: &mut Memory,
    now: DateTime<Utc>,
) -> report::Mail {
    let mut services: Vec<String> = memory
        .owed
        .iter()
        .map(|alert| alert.service.clone())
        .collect();
    services.sort_unstable();
    services.dedup();
    let Some(sent) = at_once(config, settings, memory, now) else {
        return report::Mail::default();
    };
    let mut entries = Vec::new();
    let mut note = |event: &str, message: String| {
        let mut entry = Entry::new(now, "watchdog", event);
        entry.message = Some(message);
        entries.push(entry);
    };
    if sent.reached_somebody() {
        let reached: Vec<&str> = sent
            .recipients
            .iter()
            .filter(|recipient| recipient.outcome == notify::Outcome::Delivered)
            .map(|recipient| recipient.address.as_str())
            .collect();
        note(
            "mail_sent",
            format!("about {} to {}", services.join(", "), reached.join(", ")),
        );
    }
    for trouble in sent.troubles() {
        ::log::error!("{trouble}");
        note("mail_failed", trouble);
    }
    if let Err(error) = journal::append(store.dir(), &entries) {
        ::log::warn!(
            "the journal in {} cannot be written: {error}",
            store.dir().display()
        );
    }
    if !sent.reached_somebody() && !sent.owed().is_empty() {
        return report::Mail { sent: 0, queued: 1 };
    }
    memory.owed.clear();
    memory.mails.push(now);
    if let Err(error) = store.save(memory) {
        ::log::error!("{error}; the mail that was just sent may come again");
    }
    report::Mail {
        sent: usize::from(sent.reached_somebody()),
        queued: 0,
    }
}

/// Sends one message for all that is owed, and changes nothing; nothing where nothing is owed.
pub fn at_once(
    config: &Config,
    settings: &mail::Settings,
    memory: &Memory,
    now: DateTime<Utc>,
) -> Option<notify::Report> {
    let context = message::Context {
        config: Some(&config.path),
        held_back: 0,
        threads: &BTreeMap::new(),
        nonce: notify::nonce(),
    };
    let message = message::compose(&report::host(), now, &memory.owed, &context)?;
    Some(mail::send(settings, &message))
}
