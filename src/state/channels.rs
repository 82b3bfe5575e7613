//! What is remembered of each channel: what it was alerted about and when, and what is still to be reported on it.
//!
//! Each channel has its own, so that one whose other side is dead costs the others nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Not;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::counters::Messages;
use super::showing::Shown;
use crate::clock::age;
use crate::notify::outbox::Hold;
use crate::notify::{Alert, Event, Routing, Severity};

/// How many ids the thread of an incident has: its first and its latest.
pub const THREAD_KEPT: usize = 10;

/// What is remembered of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelState {
    /// When messages were sent in the last hour.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<DateTime<Utc>>,
    /// What is still to be reported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Alert>,
    /// What was alerted about, by service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceAlerts>,
    /// The ids of the messages about each incident that is not over: its first and its latest, oldest first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub threads: BTreeMap<String, Vec<String>>,
    /// Time in which the other side is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Its other side takes no messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// The chat of its table has become another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// What became of its messages, for the metrics.
    #[serde(skip_serializing_if = "Messages::is_none")]
    pub messages: Messages,
    /// What it is shown of services, where it is one that shows all present trouble.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<Shown>,
}

/// A chat that has become another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// As the config had it.
    pub from: String,
    /// What it is now.
    pub to: String,
}

/// What is remembered of a channel that takes no messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whether that was reported on the other channels.
    #[serde(default)]
    pub reported: bool,
}

/// What a channel was alerted about of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAlerts {
    /// When it was last alerted about each event of the incident.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alerted: BTreeMap<Event, DateTime<Utc>>,
    /// The incident that it was last alerted about, and that the events are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The incident that it is reported as, where that is one before whose end was not reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_as: Option<String>,
    /// The trouble that was reported last, and whose end has not been reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_trouble: Option<Event>,
    /// No message about this trouble was written yet.
    #[serde(skip_serializing_if = "Not::not")]
    pub unreported: bool,
    /// No message about this trouble was taken yet.
    #[serde(skip_serializing_if = "Not::not")]
    pub untaken: bool,
    /// The incident in which a critical alert was reported last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_in: Option<String>,
    /// With which event it was reported that the service breaks again and again, and when, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flapping: Option<(Event, DateTime<Utc>)>,
}

impl ServiceAlerts {
    /// When it was alerted about an event of this incident, so that the same is no news.
    pub fn last(&self, event: Event, incident: Option<&str>) -> Option<DateTime<Utc>> {
        let is_same = self.incident.as_deref() == incident;
        self.alerted.get(&event).copied().filter(|_| is_same)
    }

    /// The incident of the trouble whose end has not been reported.
    pub fn open_incident(&self) -> Option<&str> {
        let incident = self.reported_as.as_ref().or(self.incident.as_ref());
        incident
            .filter(|_| self.open_trouble.is_some())
            .map(|it| &**it)
    }

    /// The incident that an alert is of for the channel: what was reported as the beginning of one is not left open by an end
    /// that is of another. `in_open` says that it belongs to what is open.
    pub fn incident_of(&self, incident: Option<&str>, in_open: bool) -> Option<String> {
        let is_of_open =
            in_open || self.reported_as.is_some() && self.incident.as_deref() == incident;
        let open = self.open_incident().filter(|_| is_of_open);
        open.or(incident).map(str::to_owned)
    }

    /// Nobody knows of the trouble, so its end is not reported, and when it comes again, that is news.
    fn forget_trouble(&mut self) {
        self.open_trouble = None;
        self.reported_as = None;
        self.flapping = None;
        self.untaken = false;
    }

    /// Takes note that an alert about an event of an incident is pending.
    pub fn note(&mut self, event: Event, incident: Option<&str>, now: DateTime<Utc>) {
        if self.incident.as_deref() != incident {
            self.alerted.clear();
            self.incident = incident.map(str::to_owned);
        }
        match event {
            // the trouble is over, and that is reported: when it comes again, that is news. Not so the next restart of the
            // same incident
            Event::Recovered | Event::Scaled | Event::Restarted | Event::Repaired => {
                let is_mended = |event| matches!(event, Event::Restarted | Event::Repaired);
                self.alerted.retain(|&known, _| {
                    is_mended(known) || (is_mended(event) && known.is_once_an_incident())
                });
                self.open_trouble = None;
                self.untaken = false;
                if is_mended(event) {
                    self.alerted.insert(event, now);
                }
            }
            event => {
                self.alerted.insert(event, now);
                self.unreported |= self.open_trouble.is_none();
                self.untaken |= self.open_trouble.is_none();
                self.open_trouble = Some(event);
            }
        }
    }
}

impl ChannelState {
    /// Takes up an alert about a service in such an incident, which may be another than it is reported as. What ends a trouble of which nothing was said, because it was held back, is not
    /// reported either, nor is that trouble.
    pub fn alert(&mut self, alert: Alert, incident: Option<&str>, routing: &Routing) {
        let known = self.services.entry(alert.service.clone()).or_default();
        let was_open = known.open_trouble.is_some();
        known.note(alert.event, incident, alert.time);
        let is_other = alert.incident.as_deref() != incident && known.open_trouble.is_some();
        known.reported_as = alert.incident.clone().filter(|_| is_other);
        if !routing.holds_back() {
            self.add(alert);
            return;
        }
        if alert.event.is_trouble() {
            // an end that was not reported is none by now: where the beginning was, it is reported that it is
            // broken, and then of the real end
            let of_it = |it: &Alert| it.service == alert.service;
            let is_begun = (self.pending.iter()).any(|it| of_it(it) && it.event.is_trouble());
            let last = self.pending.iter().rposition(of_it);
            if let Some(last) = last.filter(|_| !is_begun)
                && self.pending[last].waits
                && self.pending[last].event == Event::Recovered
            {
                self.pending.remove(last);
                known.unreported = false;
            }
            self.add(alert);
            return;
        }
        let was_held = self.take_out_held(&alert.service);
        let is_news = match alert.event {
            Event::Recovered => !was_held,
            // that it was restarted is news by itself, but not where only what lasts is reported
            _ => routing.escalate_after.is_zero() || (was_open && !was_held),
        };
        if is_news {
            self.add(alert);
        }
    }

    /// Takes out the trouble of a service that was held back and is over: nothing was said of it, and nothing will be. Also
    /// where its end is not an alert on this channel, and where the service breaks again and again: the next failure is news
    /// again. Returns whether that was all that there was of the trouble.
    fn take_out_held(&mut self, service: &str) -> bool {
        let of_it = |it: &Alert| it.service == service;
        // what was ended before is another trouble
        let ended = |it: &Alert| of_it(it) && it.event == Event::Recovered;
        let mut ends = self.pending.iter().filter(|it| ended(it)).count();
        let (kept, over): (Vec<Alert>, Vec<Alert>) = self.pending.drain(..).partition(|it| {
            ends -= usize::from(ended(it));
            ends > 0 || !(it.waits && of_it(it) && it.event.is_trouble())
        });
        self.pending = kept;
        let Some(known) = self.services.get_mut(service) else {
            return false;
        };
        let was_unreported = std::mem::take(&mut known.unreported);
        if over.is_empty() {
            return false;
        }
        for alert in &over {
            known.alerted.remove(&alert.event);
        }
        known.flapping = None;
        if was_unreported {
            known.forget_trouble();
        }
        was_unreported
    }

    /// Takes note of an end that is not an alert: what was held back of the trouble is taken out. Returns whether there was
    /// anything.
    pub fn end_quietly(&mut self, service: &str) -> bool {
        let is_held = |it: &Alert| it.waits && it.service == service && it.event.is_trouble();
        let has_held = self.pending.iter().any(is_held);
        if has_held {
            self.take_out_held(service);
        }
        has_held
    }

    /// Whether the same is held back already.
    pub fn holds(&self, service: &str, event: Event) -> bool {
        event.is_trouble()
            && (self.pending.iter())
                .any(|it| it.waits && it.service == service && it.event == event)
    }

    /// Marks what of all that is pending has to wait: for the end of quiet hours, or until its trouble has lasted for so
    /// long. Returns whether that has changed.
    pub fn hold_back(&mut self, routing: &Routing, now: DateTime<Utc>) -> bool {
        if !routing.holds_back() && self.pending.iter().all(|alert| !alert.waits) {
            return false;
        }
        let quiet = routing.quiet.as_ref().filter(|quiet| quiet.holds(now));
        let mut began: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
        for alert in &self.pending {
            let since = began.entry(alert.service.clone()).or_insert(alert.time);
            *since = alert.time.min(*since);
        }
        let is_young = |alert: &Alert| {
            let known = self.services.get(&alert.service);
            known.is_some_and(|known| known.unreported)
                && (began.get(&alert.service))
                    .is_some_and(|&since| age(now, since) < routing.escalate_after)
        };
        let mut changed = false;
        for alert in &mut self.pending {
            let is_quiet = quiet.is_some_and(|quiet| !quiet.passes(alert.event.severity()));
            let waits = is_quiet || is_young(alert);
            changed |= std::mem::replace(&mut alert.waits, waits) != waits;
        }
        changed
    }

    /// Whether an alert goes out even where the hourly limit is reached: the first critical one of its incident.
    pub fn is_urgent(&self, alert: &Alert) -> bool {
        let known = self.services.get(&alert.service);
        alert.event.severity() == Severity::Critical
            && known.is_none_or(|it| it.critical_in.is_none() || it.critical_in != alert.incident)
    }

    /// Takes note that an alert has become a part of a message: from then on it counts when the same is reported again.
    fn reported(&mut self, alert: &Alert, time: DateTime<Utc>) {
        if alert.event.severity() == Severity::Critical {
            let known = self.services.entry(alert.service.clone()).or_default();
            known.critical_in.clone_from(&alert.incident);
        }
        if alert.event.is_trouble()
            && let Some(known) = self.services.get_mut(&alert.service)
            && (known.incident == alert.incident || known.reported_as == alert.incident)
        {
            known.unreported = false;
            if let Some(at) = known.alerted.get_mut(&alert.event) {
                *at = time.max(*at);
            }
        }
    }

    /// Takes note of what became of a message with an alert about a trouble: it was taken, or it never will be. Where none about
    /// this trouble was taken, nobody knows of it. Returns whether that has changed anything.
    pub fn told(&mut self, service: &str, incident: Option<&str>, is_taken: bool) -> bool {
        let is_of = |it: &&mut ServiceAlerts| {
            it.incident.as_deref() == incident || it.reported_as.as_deref() == incident
        };
        let is_waiting = |it: &Alert| it.service == service && it.event.is_trouble();
        if !is_taken && self.pending.iter().any(is_waiting) {
            return false;
        }
        let known = self.services.get_mut(service).filter(is_of);
        let Some(known) = known.filter(|known| known.untaken) else {
            return false;
        };
        known.untaken = false;
        if !is_taken {
            known.forget_trouble();
        }
        true
    }

    /// Enters an alert under an id that no other has: of its time, its service and its event, and, where a run has
    /// several of the same, their number.
    pub fn add(&mut self, alert: Alert) {
        self.add_with(alert, "");
    }

    /// The same for what comes up once the run's message has been made: alerts of that are pending no longer, and are kept
    /// in the outbox under ids which this one must not have either.
    pub fn add_late(&mut self, alert: Alert) {
        self.add_with(alert, ".late");
    }

    fn add_with(&mut self, mut alert: Alert, mark: &str) {
        let base = format!(
            "{}.{}.{}{mark}",
            alert.time.timestamp_micros(),
            alert.service,
            alert.event.name()
        );
        let taken = |id: &str| self.pending.iter().any(|other| other.id == id);
        let numbered = (1..).map(|n: u64| format!("{base}.{n}"));
        alert.id = std::iter::once(base.clone())
            .chain(numbered)
            .find(|id| !taken(id))
            .unwrap_or(base);
        self.pending.push(alert);
    }

    /// Takes note that a notification is kept in the outbox, on the disk: the alerts `in_it` are pending no longer, and
    /// it counts for the hour. `message_id` is its id, where this side gives it. Returns whether there were any alerts;
    /// where not, all of this was noted before.
    pub fn queued(
        &mut self,
        time: DateTime<Utc>,
        message_id: Option<&str>,
        in_it: impl Fn(&Alert) -> bool,
    ) -> bool {
        let (reported, pending): (Vec<Alert>, Vec<Alert>) = self.pending.drain(..).partition(in_it);
        self.pending = pending;
        if reported.is_empty() {
            return false;
        }
        self.sent.push(time);
        for alert in &reported {
            self.reported(alert, time);
        }
        if let Some(id) = message_id {
            let incidents = reported
                .iter()
                .filter_map(|alert| alert.incident.as_deref());
            self.add_to_threads(id, incidents.collect());
        }
        true
    }

    /// Makes a message a part of the threads of these incidents.
    pub fn add_to_threads(&mut self, message_id: &str, incidents: BTreeSet<&str>) {
        for incident in incidents {
            let thread = self.threads.entry(incident.to_owned()).or_default();
            thread.push(message_id.to_owned());
            let over = thread.len().saturating_sub(THREAD_KEPT);
            // replies hang on the first one even where a reader no longer has those between
            thread.drain(1..=over);
        }
    }

    /// Ends the threads of incidents that are over, and of which nothing is left to be reported. Returns whether there
    /// were any.
    pub fn close_threads(&mut self, open: &BTreeSet<&str>) -> bool {
        let pending = &self.pending;
        let before = self.threads.len();
        let unended: BTreeSet<&str> = (self.services.values())
            .filter_map(ServiceAlerts::open_incident)
            .collect();
        self.threads.retain(|incident, _| {
            open.contains(incident.as_str())
                || unended.contains(incident.as_str())
                || (pending.iter()).any(|alert| alert.incident.as_ref() == Some(incident))
        });
        self.threads.len() < before
    }

    /// All times in it.
    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut DateTime<Utc>> {
        let services = self.services.values_mut();
        services
            .flat_map(|service| {
                let flapping = service.flapping.as_mut().map(|(_, time)| time);
                service.alerted.values_mut().chain(flapping)
            })
            .chain(&mut self.sent)
            .chain(self.pending.iter_mut().map(|alert| &mut alert.time))
            .chain(self.hold.as_mut().map(|hold| &mut hold.since))
            .chain(self.failing.as_mut().map(|failing| &mut failing.since))
            .chain(
                self.shown
                    .iter_mut()
                    .flat_map(|shown| std::iter::once(&mut shown.since).chain(&mut shown.ended)),
            )
    }
}
