//! The deliveries of one channel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::present::Showing;
use super::{ChannelState, Deliveries, Done, Shared, composed};
use crate::config::Config;
use crate::notify::outbox::{Delivery, Hold, Kept};
use crate::notify::{Alert, Attempt, Channel, DeliveryReport, Pause, Paused, Thread};
use crate::state::channels::Moved;
use crate::state::journal::{DeliveryEvent, Entry};

/// How many alerts can be pending on a channel, held back or with an outbox that cannot be written: the oldest say little.
const PENDING_LIMIT: usize = 500;

/// What is done for one channel.
pub(super) struct Sender<'a> {
    shared: &'a Shared<'a>,
    channel: &'a Channel,
}

impl<'a> Sender<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, channel: &'a Channel) -> Self {
        Self { shared, channel }
    }

    fn note(&self, what: DeliveryEvent, about: &[String], message: String) {
        self.shared.note(self.entry(what, about, message));
    }

    fn entry(&self, what: DeliveryEvent, about: &[String], message: String) -> Entry {
        let (now, name) = (self.shared.now, &self.channel.name);
        Entry::of_delivery(now, name, what, about, message)
    }

    pub(super) fn drop_oldest_alerts(&self, known: &mut ChannelState) -> bool {
        let over = known.pending.len().saturating_sub(PENDING_LIMIT);
        for alert in known.pending.drain(..over) {
            self.note(
                DeliveryEvent::GivenUp,
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

    /// Makes one notification of all that is pending, and keeps it; or holds it back, where the hourly limit is reached.
    /// Returns whether the state has changed.
    pub(super) fn compose(
        &self,
        config: &Config,
        known: &mut ChannelState,
        kept: &mut Vec<Kept>,
        sent_at_once: &mut usize,
    ) -> bool {
        let now = self.shared.now;
        let routing = self.channel.routing();
        let changed = known.hold_back(routing, now);
        let due: Vec<Alert> = (known.pending.iter())
            .filter(|alert| !alert.waits)
            .cloned()
            .collect();
        if due.is_empty() {
            return changed;
        }
        let most = usize::try_from(routing.max_per_hour).unwrap_or(usize::MAX);
        if known.sent.len() >= most && !due.iter().any(|alert| known.is_urgent(alert)) {
            let fresh = (known.pending.iter_mut()).filter(|it| !it.waits && !it.rate_limited);
            return changed | (fresh.map(|alert| alert.rate_limited = true).count() > 0);
        }
        let name = &self.channel.name;
        let Some(notification) = composed(config, &self.channel.table(), &due, now) else {
            return changed;
        };
        let id = self.channel.message_id(&notification);
        let delivery = Delivery::new(
            notification,
            name,
            self.channel.recipients(),
            due.iter().map(|alert| alert.id.clone()).collect(),
            Thread::default(),
            self.shared.clock,
        );
        let delivery = Delivery {
            thread: Thread::of(&delivery.notification, &known.threads),
            ..delivery
        };
        match self.shared.outbox.add(delivery.clone()) {
            Ok(added) => {
                kept.push(added);
                known.queued(now, id.as_deref(), |alert| !alert.waits)
            }
            Err(error) => {
                ::log::error!(
                    "{}: no {name} can be kept there: {error}; it is sent at once, or tried again by the next run",
                    self.shared.state_dir.join("outbox").display()
                );
                let to = &delivery.recipients;
                let report = self.attempt(&delivery, to, self.channel.timeout());
                self.note_failures(&delivery, &report);
                self.note_delivered(&delivery, &report);
                *sent_at_once += usize::from(report.reached_somebody());
                // who was not reached cannot be remembered; who was would be alerted again by every run
                let is_over = report.reached_somebody() || report.pending().is_empty();
                let is_noted = is_over && known.queued(now, id.as_deref(), |alert| !alert.waits);
                for alert in due.iter().filter(|it| is_over && it.event.is_trouble()) {
                    let is_taken = report.reached_somebody();
                    known.told(&alert.service, alert.incident.as_deref(), is_taken);
                }
                changed | is_noted
            }
        }
    }

    fn attempt(&self, delivery: &Delivery, to: &[String], limit: Duration) -> DeliveryReport {
        let attempt = Attempt {
            notification: &delivery.notification,
            thread: &delivery.thread,
            is_uncertain: delivery.uncertain > 0,
        };
        self.channel.send(&attempt, to, limit, &mut |_| {})
    }

    /// Tries to deliver to these recipients, and brings the file of the delivery up to date.
    fn send(&self, kept: &mut Kept, to: &[String], limit: Duration) -> DeliveryReport {
        let report = self.attempt(&kept.delivery, to, limit);
        let before = kept.delivery.clone();
        let delivery = &mut kept.delivery;
        // what is left of a recipient may be called otherwise
        delivery.recipients.retain(|it| !to.contains(it));
        delivery.recipients.extend(report.pending());
        (delivery.refused).retain(|address, _| !to.contains(address));
        if report.pause.is_none() {
            let pause = Pause::REFUSED;
            let refused = report.refused().into_iter().map(|address| {
                let hold = Hold::of(&pause, self.channel, self.shared.now);
                (address.to_owned(), hold)
            });
            delivery.refused.extend(refused);
        }
        if !delivery.is_over() {
            delivery.tries = delivery.tries.saturating_add(1);
        }
        if report.is_uncertain() {
            delivery.uncertain = delivery.uncertain.saturating_add(1);
            delivery.last_uncertain = Some(self.shared.now);
        }
        let pause = report.pause.filter(|pause| pause.whom == Paused::Message);
        delivery.hold = pause.map(|pause| Hold::of(&pause, self.channel, self.shared.now));
        if report.message_id.is_some() {
            delivery.message_id.clone_from(&report.message_id);
        }
        // Invariant: nothing is lost without a line in the journal, and nothing is delivered again. So a refusal is in the
        // journal before the file says that nobody waits; and a delivery is in the file before it is in the journal
        self.note_failures(&before, &report);
        self.keep(kept);
        self.note_delivered(&before, &report);
        report
    }

    /// Brings the file of a delivery up to date, or removes it where nothing is left to be done.
    fn keep(&self, kept: &Kept) {
        let outbox = &self.shared.outbox;
        let done = if kept.delivery.is_over() && self.shared.saved {
            outbox.remove(&kept.name)
        } else {
            outbox.update(kept)
        };
        self.shared.log_unwritten(done, &kept.name);
    }

    /// What went wrong, into the log and the journal: the first time, and ever less often. Each try counts once.
    fn note_failures(&self, delivery: &Delivery, report: &DeliveryReport) {
        let services = &delivery.notification.services;
        let about = services.join(", ");
        let is_worth_noting = (delivery.tries + 1).is_power_of_two();
        let mut counted = Vec::new();
        for reason in report.reasons(&self.channel.name) {
            let what = if reason.is_refusal {
                DeliveryEvent::Refused
            } else {
                DeliveryEvent::Deferred
            };
            if !counted.contains(&what) {
                self.shared.count(&self.channel.name, what);
                counted.push(what);
            }
            let trouble = format!("about {about}: {}{}", reason.sentence, reason.next);
            if reason.is_final || is_worth_noting {
                ::log::error!("{trouble}");
                self.shared.write(self.entry(what, services, trouble));
            } else {
                ::log::warn!("{trouble}");
            }
        }
    }

    fn note_delivered(&self, delivery: &Delivery, report: &DeliveryReport) {
        let reached = report.delivered();
        if !reached.is_empty() {
            let services = &delivery.notification.services;
            let message = format!("about {} to {}", services.join(", "), reached.join(", "));
            self.note(DeliveryEvent::Sent, services, message);
        }
    }
}

/// All that is to be sent on a channel in a run.
pub(super) struct Work<'a> {
    pub(super) sender: Sender<'a>,
    /// Its deliveries, the oldest first.
    pub(super) kept: Vec<Kept>,
    /// Messages that went out without having been kept.
    pub(super) sent_at_once: usize,
    /// Time in which the other side is not asked.
    pub(super) hold: Option<Hold>,
    /// What it is shown, where it is one that is shown all present trouble.
    pub(super) showing: Option<Showing<'a>>,
}

impl Work<'_> {
    /// Tries every delivery that is due, until the time is over or the transport fails.
    pub(super) fn send_all(mut self) -> Done {
        let Shared { now, saved, .. } = *self.sender.shared;
        let limit = self.sender.channel.timeout();
        let deadline = Instant::now() + limit;
        let mut done = Done {
            channel: self.sender.channel.name.clone(),
            deliveries: Deliveries {
                sent: self.sent_at_once,
                queued: 0,
            },
            message_ids: Vec::new(),
            told: Vec::new(),
            hold: self.hold.take(),
            refusal: None,
            unreached: None,
            moved: None,
            reached: self.sent_at_once > 0,
        };
        let channel = self.sender.channel;
        let is_held = (done.hold.as_ref()).is_some_and(|hold| hold.holds(channel, now));
        let mut transport_failed = false;
        let mut began = false;
        let waiting = Waiting::of(&self.kept);
        // what of earlier messages is left, where others may not overtake it
        let mut before: BTreeSet<String> = BTreeSet::new();
        let showing = self.showing.as_ref().filter(|it| !it.present.is_empty());
        let mut is_unshown = showing.is_some();
        if let Some(showing) = showing.filter(|_| !is_held) {
            let report = showing.show(now, limit);
            let entries = showing.entries(&report);
            if entries.is_empty() && !report.reached_somebody() {
                let name = &self.sender.channel.name;
                self.sender.shared.count(name, DeliveryEvent::Deferred);
            }
            for (what, message) in entries {
                self.sender.note(what, &showing.about(), message);
            }
            done.hear(&report, channel, now);
            is_unshown = !report.reached_somebody();
            transport_failed = report.transport_failed;
        }
        self.kept.retain_mut(|kept| {
            if kept.delivery.is_over() {
                // kept by an earlier run as the proof that it was sent, for a state that could not be written then
                if saved {
                    self.sender.shared.give_up(kept, "");
                }
                return !saved;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // one that is cut short at its end may arrive twice: none begins with little time
            let in_time = !began || left >= limit / 2;
            let mut tried = transport_failed;
            let parts = channel.parts(&kept.delivery.notification, &kept.delivery.recipients);
            let is_behind = |key: &String| before.contains(key);
            let mut to = kept.delivery.due_recipients(channel, now);
            if parts.iter().any(|(_, key)| is_behind(key)) {
                let all = parts.iter().map(|(part, _)| part.clone());
                kept.delivery.recipients = all.collect();
                to = kept.delivery.due_recipients(channel, now);
                to.retain(|it| !parts.iter().any(|(part, key)| part == it && is_behind(key)));
            }
            let is_due = !to.is_empty() && kept.delivery.is_due(now);
            if !is_held && !transport_failed && in_time && is_due {
                began = true;
                tried = true;
                let report = self.sender.send(kept, &to, left);
                done.hear(&report, channel, now);
                if report.reached_somebody() {
                    done.told.extend(Waiting::taken(kept));
                } else if kept.delivery.is_over() && to == channel.recipients() {
                    done.told.extend(waiting.never_taken(kept));
                }
                transport_failed = report.transport_failed;
                if let Some(id) = report.message_id {
                    let incidents = kept.delivery.notification.incidents();
                    let incidents = incidents.into_iter().map(str::to_owned).collect();
                    done.message_ids.push((id, incidents));
                }
            }
            if kept.delivery.is_over() {
                return !saved;
            }
            if tried && kept.delivery.is_expired(now) {
                let why = "it could not be delivered for three days";
                self.sender.shared.give_up(kept, why);
                // not where a part of it was taken before
                if kept.delivery.recipients == channel.recipients() {
                    done.told.extend(waiting.never_taken(kept));
                }
                return false;
            }
            let left = channel.parts(&kept.delivery.notification, &kept.delivery.recipients);
            before.extend(left.into_iter().map(|(_, key)| key));
            true
        });
        done.deliveries.queued = (self.kept.iter())
            .filter(|kept| !kept.delivery.is_over())
            .count()
            + usize::from(is_unshown);
        done
    }
}

/// How many messages of a channel are about trouble of each service.
struct Waiting(BTreeMap<String, usize>);

/// A service, its incident, and whether a message about that was taken.
pub(super) type Told = (String, Option<String>, bool);

impl Waiting {
    fn of(kept: &[Kept]) -> Self {
        let mut waiting = BTreeMap::new();
        for Kept { delivery, .. } in kept.iter().filter(|kept| !kept.delivery.is_over()) {
            let services: BTreeSet<&String> = trouble(delivery).map(|it| &it.service).collect();
            for service in services {
                *waiting.entry(service.clone()).or_default() += 1;
            }
        }
        Self(waiting)
    }

    fn taken(kept: &Kept) -> Vec<Told> {
        let alerts = trouble(&kept.delivery);
        alerts
            .map(|it| (it.service.clone(), it.incident.clone(), true))
            .collect()
    }

    /// Those of a message that nobody will ever take, where no other one may be: a copy of it, or one that waits.
    fn never_taken(&self, kept: &Kept) -> Vec<Told> {
        let alerts = trouble(&kept.delivery);
        alerts
            .filter(|it| kept.delivery.uncertain == 0 && self.0.get(&it.service) == Some(&1))
            .map(|it| (it.service.clone(), it.incident.clone(), false))
            .collect()
    }
}

/// What is wrong, of what a message says.
fn trouble(delivery: &Delivery) -> impl Iterator<Item = &Alert> {
    let alerts = delivery.notification.alerts.iter();
    alerts.filter(|alert| alert.event.is_trouble())
}

impl Done {
    /// Takes note of what came of one attempt.
    fn hear(&mut self, report: &DeliveryReport, channel: &Channel, now: DateTime<Utc>) {
        self.deliveries.sent += usize::from(report.reached_somebody());
        let pause = (report.pause.as_ref()).filter(|pause| pause.whom == Paused::Channel);
        // one that fails in another way says nothing about a refusal before it
        if pause.is_some() || report.reached_somebody() {
            self.hold = pause.map(|pause| Hold::of(pause, channel, now));
        }
        if let (Some(from), Some(to)) = (channel.chat(), &report.moved_to)
            && from != to
        {
            self.moved = Some(Moved {
                from: from.to_owned(),
                to: to.clone(),
            });
        }
        if report.reached_somebody() {
            self.reached = true;
        } else if report.transport_failed {
            let why = report.reasons(&channel.name).pop();
            let why = why.map(|reason| format!("{}{}", reason.sentence, reason.next));
            if pause.is_some_and(|pause| pause.until_changed) {
                self.refusal = why;
            } else {
                self.unreached = why;
            }
        }
    }
}
