//! Sending what is pending: one message for all of it, kept in the outbox until everybody has it.
//!
//! Alerts are in the state, on the disk, before this begins. They become a message in the outbox; then the state
//! forgets them; then the message is sent; then it leaves the outbox. A run that is killed at any point between
//! leaves either the alert or the message behind, and where it leaves both, the message names the alert.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};

use crate::clock::{Reading, rough};
use crate::config::Config;
use crate::notify::outbox::{self, Kept, Outbox};
use crate::notify::{self, Alert, Outcome, mail, message};
use crate::report;
use crate::settle::{close_threads, queued};
use crate::state::State;
use crate::state::journal::{self, Entry};
use crate::state::store::Store;

/// How many alerts can be pending, with mail held back or an outbox that cannot be written: the oldest say little.
const OWED_LIMIT: usize = 500;

/// Puts all that is pending into one message, and sends what is in the outbox, the oldest first. All of it is over
/// within the transport's timeout and a little more, whatever the other side does. Nothing is given up because the
/// clock was set.
pub fn deliver(
    config: &Config,
    settings: &mail::Settings,
    store: &Store,
    state: &mut State,
    now: &Reading,
) -> report::Mail {
    let mut step = Step {
        settings,
        outbox: Outbox::at(store.dir()),
        state_dir: store.dir(),
        clock: now,
        now: now.wall,
        saved: true,
        sent_at_once: 0,
    };
    let loaded = step.outbox.load();
    for trouble in loaded.troubles {
        ::log::error!("{trouble}");
        step.note("outbox_damaged", &[], trouble);
    }
    let mut entries = loaded.entries;
    for kept in &mut entries {
        if kept.entry.bring_to(now) {
            step.written(step.outbox.update(kept), &kept.name);
        }
    }
    let mut changed = false;
    for Kept { entry, .. } in &entries {
        // a run was killed after it had written this, and before the state knew
        changed |= queued(state, &entry.message, |alert| {
            !alert.id.is_empty() && entry.alerts.contains(&alert.id)
        });
    }
    changed |= step.drop_oldest_alerts(state);
    if !state.pending.is_empty() {
        changed |= step.compose(config, state, &mut entries);
    }
    if changed {
        close_threads(state);
        // twice, so that the backup does not know less: what it still has pending would be reported again
        if let Err(error) = store.save_twice(state) {
            ::log::error!(
                "{error}; what is told now is kept in the outbox until it can be written"
            );
            step.saved = false;
        }
    }
    let surplus = outbox::surplus(&entries);
    for kept in entries.drain(..surplus) {
        step.give_up(&kept, "the outbox is full");
    }
    let mut mail = step.send_all(&mut entries);
    mail.queued = entries
        .iter()
        .filter(|kept| !kept.entry.recipients.is_empty())
        .count();
    if !state.pending.is_empty() && mail.queued == 0 {
        // held back, or the outbox cannot be written: kept in the state
        mail.queued = usize::from(!state.pending.iter().all(|alert| alert.held));
    }
    mail
}

/// The mail step of a run.
struct Step<'a> {
    settings: &'a mail::Settings,
    outbox: Outbox,
    state_dir: &'a Path,
    clock: &'a Reading,
    now: DateTime<Utc>,
    /// The state no longer owes what is in the outbox.
    saved: bool,
    /// Messages that went out without having been kept.
    sent_at_once: usize,
}

impl Step<'_> {
    fn note(&self, event: &str, about: &[String], message: String) {
        let mut entry = Entry::new(self.now, "watchdog", event);
        entry.about = about.to_vec();
        entry.message = Some(message);
        journal::append_or_warn(self.state_dir, &[entry]);
    }

    fn drop_oldest_alerts(&self, state: &mut State) -> bool {
        let over = state.pending.len().saturating_sub(OWED_LIMIT);
        for alert in state.pending.drain(..over) {
            self.note(
                "mail_given_up",
                std::slice::from_ref(&alert.service),
                format!(
                    "too much is left to be told; never told: {} {} at {}",
                    alert.service,
                    alert.event.name(),
                    crate::clock::stamp(alert.time)
                ),
            );
        }
        over > 0
    }

    /// Makes one message of all that is pending, and keeps it; or holds it back, where the hourly limit is reached.
    /// Returns whether the state has changed.
    fn compose(&mut self, config: &Config, state: &mut State, entries: &mut Vec<Kept>) -> bool {
        let most = usize::try_from(self.settings.max_per_hour).unwrap_or(usize::MAX);
        if state.mails.len() >= most {
            let fresh = state.pending.iter_mut().filter(|alert| !alert.held);
            return fresh.map(|alert| alert.held = true).count() > 0;
        }
        let Some(message) = composed(config, state, self.now) else {
            return false;
        };
        let ids = state.pending.iter().map(|alert| alert.id.clone()).collect();
        let entry = outbox::Entry::new(message, &self.settings.recipients(), ids, self.clock);
        match self.outbox.add(entry.clone()) {
            Ok(kept) => {
                queued(state, &entry.message, |_| true);
                entries.push(kept);
                true
            }
            Err(error) => {
                ::log::error!(
                    "{}: no mail can be kept there: {error}; it is sent at once, or tried again by the next run",
                    self.state_dir.join("outbox").display()
                );
                let report = mail::send(self.settings, &entry.message);
                self.tell(&entry, &report, true);
                self.sent_at_once += usize::from(report.reached_somebody());
                // who was not reached cannot be remembered; who was would be told again by every run
                let settled = report.reached_somebody() || report.pending().is_empty();
                settled && queued(state, &entry.message, |_| true)
            }
        }
    }

    /// Tries every message that is due, until the time is over or the way itself turns out to be closed.
    fn send_all(&self, entries: &mut Vec<Kept>) -> report::Mail {
        let limit = self.settings.transport.timeout();
        let deadline = Instant::now() + limit;
        let mut mail = report::Mail {
            sent: self.sent_at_once,
            queued: 0,
        };
        let mut closed = false;
        let mut began = false;
        entries.retain_mut(|kept| {
            if kept.entry.recipients.is_empty() {
                // kept by an earlier run as the proof that it was told, for a state that could not be written then
                if self.saved {
                    self.give_up(kept, "");
                }
                return !self.saved;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // one that is cut short at its end may arrive twice: none begins with little time
            let in_time = !began || left >= limit / 2;
            let mut tried = closed;
            if !closed && in_time && kept.entry.is_due(self.now) {
                began = true;
                tried = true;
                let (sent, in_vain) = self.send(kept, left);
                mail.sent += usize::from(sent);
                closed = in_vain;
            }
            if kept.entry.recipients.is_empty() {
                return !self.saved;
            }
            if tried && kept.entry.is_hopeless(self.now) {
                self.give_up(kept, "it could not be delivered for three days");
                return false;
            }
            true
        });
        mail
    }

    /// Tries one message. Returns whether somebody has it now, and whether another would fare no better.
    fn send(&self, kept: &mut Kept, limit: Duration) -> (bool, bool) {
        let report = mail::send_to(
            self.settings,
            &kept.entry.recipients,
            &kept.entry.message,
            limit,
        );
        let before = kept.entry.clone();
        let entry = &mut kept.entry;
        entry.recipients = report.pending();
        if !entry.recipients.is_empty() {
            entry.tries = entry.tries.saturating_add(1);
        }
        let doubt = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Deferred {
                    maybe_delivered: true,
                    ..
                }
            )
        };
        if report.recipients.iter().any(|r| doubt(&r.outcome)) {
            entry.doubts = entry.doubts.saturating_add(1);
            entry.doubted = Some(self.now);
        }
        // refusals are in the journal before they are final; deliveries are final before they are in the journal,
        // for a run that is killed between the two must not deliver again
        self.tell(&before, &report, false);
        self.keep(kept);
        self.tell_delivered(&before, &report);
        (report.reached_somebody(), report.in_vain)
    }

    /// Brings the file of a message up to date, or removes it where nothing is left to be done.
    fn keep(&self, kept: &Kept) {
        let done = if kept.entry.recipients.is_empty() && self.saved {
            self.outbox.remove(&kept.name)
        } else {
            self.outbox.update(kept)
        };
        self.written(done, &kept.name);
    }

    fn written(&self, done: io::Result<()>, name: &str) {
        if let Err(error) = done {
            ::log::error!(
                "{}: cannot be brought up to date: {error}; a message that was sent may come again",
                self.state_dir.join("outbox").join(name).display()
            );
        }
    }

    /// What went wrong, into the log and the journal: the first time, and ever less often.
    fn tell(&self, entry: &outbox::Entry, report: &notify::Report, at_once: bool) {
        let about = entry.message.services.join(", ");
        let worth_noting = (entry.tries + 1).is_power_of_two();
        for (refused, trouble) in report.reasons() {
            let event = if refused {
                "mail_refused"
            } else {
                "mail_deferred"
            };
            let trouble = format!("about {about}: {trouble}");
            if refused || worth_noting {
                ::log::error!("{trouble}");
                self.note(event, &entry.message.services, trouble);
            } else {
                ::log::warn!("{trouble}");
            }
        }
        if at_once {
            self.tell_delivered(entry, report);
        }
    }

    fn tell_delivered(&self, entry: &outbox::Entry, report: &notify::Report) {
        let reached: Vec<&str> = report
            .recipients
            .iter()
            .filter(|recipient| recipient.outcome == Outcome::Delivered)
            .map(|recipient| recipient.address.as_str())
            .collect();
        if !reached.is_empty() {
            self.note(
                "mail_sent",
                &entry.message.services,
                format!(
                    "about {} to {}",
                    entry.message.services.join(", "),
                    reached.join(", ")
                ),
            );
        }
    }

    /// Lets a message go that somebody still waits for, with a line in the journal.
    fn give_up(&self, kept: &Kept, why: &str) {
        let entry = &kept.entry;
        if !entry.recipients.is_empty() {
            let told = format!(
                "{why}; never told to {}: {} (written {})",
                entry.recipients.join(", "),
                entry.message.subject,
                crate::clock::stamp(entry.since)
            );
            ::log::error!("{told}");
            self.note("mail_given_up", &entry.message.services, told);
        }
        if let Err(error) = self.outbox.remove(&kept.name) {
            ::log::error!(
                "{}: cannot be removed: {error}",
                self.state_dir.join("outbox").join(&kept.name).display()
            );
        }
    }
}

/// One message for all that is pending.
fn composed(config: &Config, state: &State, now: DateTime<Utc>) -> Option<notify::Message> {
    let threads: BTreeMap<String, Vec<String>> = state
        .pending
        .iter()
        .filter_map(|alert| state.services.get_key_value(&alert.service))
        .map(|(name, service)| (name.clone(), service.thread.clone()))
        .collect();
    let context = message::Context {
        config: Some(&config.path),
        held_back: held_back(&state.pending),
        threads: &threads,
        nonce: notify::nonce(),
    };
    message::compose(&report::host(), now, &state.pending, &context)
}

/// How many messages would have told what was held back: one for each run that had something to tell.
fn held_back(pending: &[Alert]) -> usize {
    let mut runs: Vec<DateTime<Utc>> = pending
        .iter()
        .filter(|alert| alert.held)
        .map(|alert| alert.time)
        .collect();
    runs.sort_unstable();
    runs.dedup();
    runs.len()
}

/// Sends one message for all that is pending, for a run whose state cannot be written: nothing is kept for later.
///
/// Such runs know nothing of each other, and would send the same every minute. So what was told is marked by an empty
/// file in the directory for temporary files, and the same trouble is not told again within `remind_every`. Where that
/// fails as well, it is told again: too often is better than never.
pub fn at_once(
    config: &Config,
    settings: &mail::Settings,
    state: &State,
    now: DateTime<Utc>,
) -> Option<notify::Report> {
    let message = composed(config, state, now)?;
    let mark = mark(config, &state.pending);
    if was_marked(&mark, settings.remind_every) {
        ::log::info!(
            "the same was mailed within {}",
            rough(settings.remind_every)
        );
        return None;
    }
    let report = mail::send(settings, &message);
    if report.reached_somebody()
        && let Err(error) = set_mark(&mark)
    {
        ::log::info!(
            "{}: cannot be written: {error}; the next run mails again",
            mark.display()
        );
    }
    Some(report)
}

/// The file whose age tells when this was told last: one for each user, state directory and set of troubles.
fn mark(config: &Config, pending: &[Alert]) -> PathBuf {
    let mut troubles: Vec<(&str, &str)> = pending
        .iter()
        .map(|alert| (alert.service.as_str(), alert.event.name()))
        .collect();
    troubles.sort_unstable();
    troubles.dedup();
    let mut hasher = DefaultHasher::new();
    (&config.state_dir, troubles).hash(&mut hasher);
    let user = nix::unistd::geteuid();
    std::env::temp_dir().join(format!("watchdog-{user}-{:016x}.told", hasher.finish()))
}

/// Whether a mark of our own is younger than that. Others can write there: theirs silences nobody.
fn was_marked(mark: &Path, within: Duration) -> bool {
    let Ok(meta) = fs::symlink_metadata(mark) else {
        return false;
    };
    let age = meta.modified().ok().and_then(|time| time.elapsed().ok());
    meta.is_file()
        && meta.uid() == nix::unistd::geteuid().as_raw()
        && age.is_some_and(|age| age < within)
}

fn set_mark(mark: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(mark)?;
    // anybody can put something there: another user's file, or a second name for one of ours
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.nlink() != 1 {
        return Err(io::Error::other("it is not the watchdog's own file"));
    }
    file.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_for_a_while_and_only_our_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let hour = Duration::from_hours(1);
        assert!(!was_marked(&mark, hour));
        set_mark(&mark).unwrap();
        assert!(was_marked(&mark, hour));
        assert!(!was_marked(&mark, Duration::ZERO));
        let set = |time| {
            let file = OpenOptions::new().write(true).open(&mark).unwrap();
            file.set_modified(time).unwrap();
        };
        set(SystemTime::now() - 2 * hour);
        assert!(!was_marked(&mark, hour), "long ago");
        set(SystemTime::now() + 2 * hour);
        assert!(!was_marked(&mark, hour), "by a clock that was wrong");
        set_mark(&mark).unwrap();
        assert!(was_marked(&mark, hour), "set again");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&mark, &link).unwrap();
        assert!(!was_marked(&link, hour));
        assert!(set_mark(&link).is_err());
        let second = dir.path().join("second");
        fs::write(&second, "somebody's").unwrap();
        let before = fs::metadata(&second).unwrap().modified().unwrap();
        fs::hard_link(&second, dir.path().join("name")).unwrap();
        assert_eq!(
            set_mark(&dir.path().join("name")).unwrap_err().to_string(),
            "it is not the watchdog's own file"
        );
        assert_eq!(fs::read(&second).unwrap(), b"somebody's");
        assert_eq!(fs::metadata(&second).unwrap().modified().unwrap(), before);
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(!was_marked(&dir.path().join("dir"), hour));
    }

    #[test]
    fn f73_what_was_held_back_counts_by_runs() {
        let mut state = State::default();
        let settings = mail::Settings {
            from: mail::Mailbox::parse("w@example.org").unwrap(),
            to: Vec::new(),
            on: Vec::new(),
            remind_every: Duration::ZERO,
            max_per_hour: 1,
            transport: mail::Transport::Directory(PathBuf::new()),
        };
        for second in [1, 1, 2, 3] {
            let now = DateTime::from_timestamp(second, 0).unwrap();
            let alerting = crate::settle::AlertConfig {
                mail: Some(&settings),
            };
            crate::settle::tell_own_trouble(&mut state, now, String::new(), alerting);
        }
        assert_eq!(held_back(&state.pending), 0);
        for alert in state.pending.iter_mut().take(3) {
            alert.held = true;
        }
        assert_eq!(held_back(&state.pending), 2);
    }
}
