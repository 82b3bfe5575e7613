//! Sending what is pending: one notification of all of it for each channel, kept in the outbox until everybody has it.
//!
//! Invariant: whatever happens to a run, an alert is pending in the state on the disk, or in a delivery in the outbox, or
//! its delivery is over. It is pending when this begins. It becomes part of a delivery in the outbox; then the state
//! forgets it; then the delivery is sent; then it leaves the outbox. A run that is killed in between leaves the alert, or
//! the delivery, or both; and where both, the delivery names the alert.
//!
//! Channels have nothing in common but the outbox's directory and the journal: one that hangs, or whose other side is
//! dead, delays and costs the others nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::{Reading, age};
use crate::config::Config;
use crate::notify::outbox::{self, Hold, Kept, Outbox};
use crate::notify::{self, Alert, Channel, Event, Notification, digest};
use crate::report::{self, Deliveries};
use crate::state::State;
use crate::state::channels::{ChannelState, Failing, Moved};
use crate::state::counters::Messages;
use crate::state::journal::{self, DeliveryEvent, Entry, JournalEvent};
use crate::state::store::Store;

mod at_once;
mod present;
mod sender;

pub use at_once::at_once;
use sender::{Sender, Told, Work};

/// Puts all that is pending on each channel into one notification, and sends what is in the outbox, the oldest first, on
/// all channels side by side. All of it is over within the longest of their timeouts and a little more, whatever the
/// other sides do. Nothing is given up because the clock was set.
pub fn deliver(
    config: &Config,
    channels: &[Channel],
    store: &Store,
    state: &mut State,
    now: &Reading,
) -> BTreeMap<String, Deliveries> {
    let followed = followed(channels, state);
    let channels = followed.as_deref().unwrap_or(channels);
    let mut shared = Shared {
        outbox: Outbox::at(store.dir()),
        state_dir: store.dir(),
        clock: now,
        now: now.wall,
        saved: true,
        counts: Mutex::default(),
    };
    let mut kept = shared.load();
    let mut changed = note_queued(channels, &kept, state);
    let mut work = Vec::new();
    for channel in channels {
        let sender = Sender::new(&shared, channel);
        let known = state.channels.entry(channel.name.clone()).or_default();
        changed |= sender.drop_oldest_alerts(known);
        let mut sent_at_once = 0;
        if !known.pending.is_empty() {
            changed |= sender.compose(config, known, &mut kept, &mut sent_at_once);
        }
        let showing = present::prepare(&shared, channel, state);
        changed |= showing.as_ref().is_some_and(|it| it.has_changed);
        work.push((channel, sent_at_once, showing));
    }
    if changed {
        state.close_threads();
        // twice, so that the backup does not know less: what it still has pending would be reported again
        if let Err(error) = store.save_twice(state) {
            ::log::error!(
                "{error}; what is told now is kept in the outbox until it can be written"
            );
            shared.saved = false;
        }
    }
    let mut by_channel = shared.by_channel(channels, kept);
    let work = work
        .into_iter()
        .map(|(channel, sent_at_once, showing)| Work {
            sender: Sender::new(&shared, channel),
            kept: by_channel.remove(&channel.name).unwrap_or_default(),
            sent_at_once,
            showing,
            hold: (state.channels.get(&channel.name)).and_then(|known| known.hold.clone()),
        });
    let done = side_by_side(work.collect(), Work::send_all);
    let counts = shared.counts.into_inner();
    let counts = counts.unwrap_or_else(PoisonError::into_inner);
    // before what comes up now, which nobody has tried to send
    let deliveries = done.iter().map(|done| {
        let known = state.channels.get(&done.channel);
        (done.channel.clone(), deliveries_of(done, known))
    });
    let deliveries = deliveries.collect();
    note_answers(store, state, &done, counts, now.wall);
    deliveries
}

/// How many messages of a channel went out, and how many could not be sent. What its table holds back counts as neither.
fn deliveries_of(done: &Done, known: Option<&ChannelState>) -> Deliveries {
    let mut deliveries = done.deliveries;
    // with an outbox that cannot be written, it is kept in the state
    let is_unsent = |alert: &Alert| !(alert.rate_limited || alert.waits);
    if deliveries.queued == 0 && known.is_some_and(|known| known.pending.iter().any(is_unsent)) {
        deliveries.queued = 1;
    }
    deliveries
}

/// The channels with the chats that their chats have become, where there are any.
fn followed(channels: &[Channel], state: &State) -> Option<Vec<Channel>> {
    let moved = |channel: &Channel| {
        let moved = state.channels.get(&channel.name)?.moved.as_ref()?;
        (channel.chat() == Some(&moved.from)).then(|| channel.with_chat(&moved.to))
    };
    channels.iter().any(|it| moved(it).is_some()).then(|| {
        let channels = channels.iter();
        channels
            .map(|it| moved(it).unwrap_or_else(|| it.clone()))
            .collect()
    })
}

/// What came of a channel's deliveries.
struct Done {
    channel: String,
    deliveries: Deliveries,
    /// The ids that the other side gave to messages, and the incidents that each is about.
    message_ids: Vec<(String, Vec<String>)>,
    /// The services and incidents of messages about trouble that are over, and whether they were taken.
    told: Vec<Told>,
    /// Time in which the other side is not asked.
    hold: Option<Hold>,
    /// It refuses all messages; the sentence says how.
    refusal: Option<String>,
    /// No message could be handed over; the sentence says why.
    unreached: Option<String>,
    /// A message was taken.
    reached: bool,
    /// The chat that its chat has become.
    moved: Option<Moved>,
}

/// After so long it is reported on the other channels that the other side of one cannot be reached.
const UNREACHED_FOR: Duration = Duration::from_mins(30);

/// What is reported of a channel on the others, by what is remembered of it and how its messages went in this run: once that
/// it takes none, where it refuses them or was not reached for long, and once that it takes them again.
fn news_of(known: &mut Option<Failing>, done: &Done, now: DateTime<Utc>) -> Option<String> {
    let name = &done.channel;
    if done.reached {
        let failing = known.take()?;
        return failing.reported.then(|| {
            format!(
                "The channel `{name}` takes messages again; it had taken none since {}",
                crate::clock::stamp(failing.since)
            )
        });
    }
    let why = done.refusal.as_ref().or(done.unreached.as_ref())?;
    let failing = known.get_or_insert(Failing {
        since: now,
        reported: false,
    });
    let is_long = done.refusal.is_some() || age(now, failing.since) >= UNREACHED_FOR;
    if failing.reported || !is_long {
        return None;
    }
    failing.reported = true;
    Some(format!(
        "The channel `{name}` takes no messages since {}: {why}; they are kept for three days",
        crate::clock::stamp(failing.since)
    ))
}

/// Takes note of what the other sides have said: messages whose ids they have given become a part of the threads of their
/// incidents; who wants to be left alone is; and that one takes no messages, or takes them again, is reported on the
/// other channels.
fn note_answers(
    store: &Store,
    state: &mut State,
    all: &[Done],
    counts: BTreeMap<String, Messages>,
    now: DateTime<Utc>,
) {
    let mut changed = !counts.is_empty();
    for (channel, messages) in counts {
        let known = state.channels.entry(channel).or_default();
        known.messages.add(messages);
    }
    for done in all {
        let known = state.channels.entry(done.channel.clone()).or_default();
        let before = known.failing.clone();
        let news = news_of(&mut known.failing, done, now);
        changed |= known.failing != before;
        if let Some(news) = news {
            for other in all.iter().filter(|other| other.channel != done.channel) {
                let other = state.channels.entry(other.channel.clone()).or_default();
                other.add_late(Alert {
                    notes: vec![news.clone()],
                    ..Alert::new(now, "watchdog", Event::Watchdog)
                });
            }
        }
        if let Some(moved) = &done.moved {
            let note = format!(
                "The chat {} of the channel `{}` has become {}, and is followed there; write chat = \"{}\" in [notify.{}]",
                moved.from, done.channel, moved.to, moved.to, done.channel
            );
            for channel in all {
                let known = state.channels.entry(channel.channel.clone()).or_default();
                known.add_late(Alert {
                    notes: vec![note.clone()],
                    ..Alert::new(now, "watchdog", Event::Watchdog)
                });
            }
            changed = true;
        }
        let known = state.channels.entry(done.channel.clone()).or_default();
        if let Some(moved) = &done.moved {
            // it may move again: the table still has the first one
            let before = known.moved.take().filter(|before| before.to == moved.from);
            known.moved = Some(Moved {
                from: before.map_or_else(|| moved.from.clone(), |before| before.from),
                to: moved.to.clone(),
            });
            // ids of messages in a chat mean others in another one
            known.threads.clear();
        }
        if known.hold != done.hold {
            known.hold.clone_from(&done.hold);
            changed = true;
        }
        for (service, incident, is_taken) in &done.told {
            changed |= known.told(service, incident.as_deref(), *is_taken);
        }
        for (id, incidents) in &done.message_ids {
            known.add_to_threads(id, incidents.iter().map(String::as_str).collect());
            changed = true;
        }
    }
    if changed && let Err(error) = store.save(state) {
        // what follows may not be shown as one thread, and the other side may be asked too early
        ::log::error!("{error}");
    }
}

/// What all channels have in common in a run.
struct Shared<'a> {
    outbox: Outbox,
    state_dir: &'a Path,
    clock: &'a Reading,
    now: DateTime<Utc>,
    /// In the state on the disk, nothing is pending that is in the outbox.
    saved: bool,
    /// What became of each channel's messages. Held by the one who writes to the journal, which is rotated now and then.
    counts: Mutex<BTreeMap<String, Messages>>,
}

impl Shared<'_> {
    /// Counts an entry, and writes it into the journal.
    fn note(&self, entry: Entry) {
        if let Some((channel, what)) = entry.delivery() {
            self.count(channel, what);
        }
        self.write(entry);
    }

    /// Writes what has been counted into the journal.
    fn write(&self, entry: Entry) {
        let _writing = self.lock();
        journal::append_or_warn(self.state_dir, &[entry]);
    }

    fn count(&self, channel: &str, what: DeliveryEvent) {
        let mut counts = self.lock();
        counts.entry(channel.to_owned()).or_default().count(what);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Messages>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the outbox, the oldest first, by the clock of this run.
    fn load(&self) -> Vec<Kept> {
        let loaded = self.outbox.load();
        for trouble in loaded.troubles {
            ::log::error!("{trouble}");
            let mut entry = Entry::new(self.now, "watchdog", JournalEvent::OutboxDamaged);
            entry.message = Some(trouble);
            self.note(entry);
        }
        let mut kept = loaded.deliveries;
        for kept in &mut kept {
            if kept.delivery.adjust_to_clock(self.clock) {
                self.log_unwritten(self.outbox.update(kept), &kept.name);
            }
        }
        kept
    }

    /// The deliveries of each channel, but for those that have to go: because the outbox is full, or because the config has
    /// had no such channel for so long.
    fn by_channel(&self, channels: &[Channel], kept: Vec<Kept>) -> BTreeMap<String, Vec<Kept>> {
        let surplus: Vec<String> = channels
            .iter()
            .flat_map(|channel| outbox::surplus(&kept, &channel.name))
            .collect();
        let mut by_channel: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
        for kept in kept {
            let channel = &kept.delivery.channel;
            let is_configured = channels.iter().any(|it| it.name == *channel);
            if surplus.contains(&kept.name) {
                self.give_up(&kept, "the outbox is full");
            } else if !is_configured && kept.delivery.is_expired(self.now) {
                self.give_up(&kept, "the config has no such channel any more");
            } else {
                by_channel.entry(channel.clone()).or_default().push(kept);
            }
        }
        by_channel
    }

    /// Removes a delivery; where somebody still waits for it, with a line in the journal.
    fn give_up(&self, kept: &Kept, why: &str) {
        let delivery = &kept.delivery;
        if !delivery.is_over() {
            let sentence = format!(
                "{why}; never told to {}: {} (written {})",
                delivery.recipients.join(", "),
                delivery.notification.subject,
                crate::clock::stamp(delivery.since)
            );
            ::log::error!("{sentence}");
            self.note(Entry::of_delivery(
                self.now,
                &delivery.channel,
                DeliveryEvent::GivenUp,
                &delivery.notification.services,
                sentence,
            ));
        }
        if let Err(error) = self.outbox.remove(&kept.name) {
            ::log::error!(
                "{}: cannot be removed: {error}",
                self.state_dir.join("outbox").join(&kept.name).display()
            );
        }
    }

    fn log_unwritten(&self, done: std::io::Result<()>, name: &str) {
        if let Err(error) = done {
            ::log::error!(
                "{}: cannot be brought up to date: {error}; a message that was sent may come again",
                self.state_dir.join("outbox").join(name).display()
            );
        }
    }
}

/// Takes note of deliveries that a run had written when it was killed, before the state knew. Returns whether there
/// were any.
fn note_queued(channels: &[Channel], kept: &[Kept], state: &mut State) -> bool {
    let mut changed = false;
    for Kept { delivery, .. } in kept {
        let Some(known) = state.channels.get_mut(&delivery.channel) else {
            continue;
        };
        let notification = &delivery.notification;
        let channel = channels.iter().find(|it| it.name == delivery.channel);
        let id = channel.and_then(|channel| channel.message_id(notification));
        changed |= known.queued(notification.time, id.as_deref(), |alert| {
            !alert.id.is_empty() && delivery.alerts.contains(&alert.id)
        });
    }
    changed
}

/// One notification of all that is pending on a channel.
fn composed(
    config: &Config,
    table: &str,
    pending: &[Alert],
    now: DateTime<Utc>,
) -> Option<Notification> {
    let context = digest::Context {
        config: Some(&config.path),
        table,
        rate_limited: rate_limited(pending),
        nonce: notify::nonce(),
    };
    digest::compose(&report::host(), now, pending, &context)
}

/// How many notifications would have reported what was held back: one for each run that had something to report.
fn rate_limited(pending: &[Alert]) -> usize {
    let mut runs: Vec<DateTime<Utc>> = pending
        .iter()
        .filter(|alert| alert.rate_limited)
        .map(|alert| alert.time)
        .collect();
    runs.sort_unstable();
    runs.dedup();
    runs.len()
}

/// Does all work side by side, each in a thread of its own; a single piece, and what no thread can be had for, in this
/// one.
fn side_by_side<T: Send, R: Send>(work: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    if work.len() < 2 {
        return work.into_iter().map(each).collect();
    }
    let work: Vec<_> = work
        .into_iter()
        .map(|piece| Mutex::new(Some(piece)))
        .collect();
    let results: Vec<_> = work.iter().map(|_| Mutex::new(None)).collect();
    let run = |number: usize| {
        let piece = work[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let result = piece.map(&each);
        *results[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = result;
    };
    std::thread::scope(|scope| {
        let run = &run;
        for number in 0..work.len() {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || run(number));
            if thread.is_err() {
                run(number);
            }
        }
    });
    let results = results.into_iter();
    results
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

#[cfg(test)]
mod tests;
