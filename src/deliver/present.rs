//! A channel that is shown all present trouble by each run, in place of messages.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Shared;
use crate::clock::stamp;
use crate::notify::alertmanager::{Present, Settings};
use crate::notify::{Channel, DeliveryReport};
use crate::report;
use crate::state::State;
use crate::state::journal::{DeliveryEvent, Entry};
use crate::state::showing::{self, Shown, Standing};

/// What is shown on a channel in this run.
pub(super) struct Showing<'a> {
    settings: &'a Settings,
    /// What goes on, and what has ended a short while ago.
    pub(super) present: Vec<Present>,
    interval: Option<Duration>,
    /// Since when its other side has taken nothing.
    unreached_since: Option<DateTime<Utc>>,
    /// What has to be remembered of it has changed.
    pub(super) has_changed: bool,
}

/// What is to be shown on a channel, where it is one of these. What has begun and ended while nothing could be shown is in
/// the journal.
pub(super) fn prepare<'a>(
    shared: &Shared<'_>,
    channel: &'a Channel,
    state: &mut State,
) -> Option<Showing<'a>> {
    let settings = channel.as_alertmanager()?;
    let State {
        services,
        scales,
        channels,
        ..
    } = state;
    let of_services =
        (services.iter()).map(|(name, known)| (name, known.verdict, known.trouble_since));
    let of_scales = (scales.iter()).map(|(name, known)| (name, known.verdict, known.trouble_since));
    let standings: Vec<Standing<'_>> = (of_services.chain(of_scales))
        .filter(|(name, ..)| channel.routing().concerns(name))
        .filter_map(|(name, verdict, trouble_since)| {
            Some(Standing {
                service: name,
                verdict: verdict?,
                trouble_since,
            })
        })
        .collect();
    let known = channels.entry(channel.name.clone()).or_default();
    let before = known.shown.clone();
    let over = showing::update(&mut known.shown, &standings, shared.now);
    let unreached_since = known.failing.as_ref().map(|failing| failing.since);
    for lost in over.iter().filter(|_| unreached_since.is_some()) {
        note_lost(shared, channel, lost);
    }
    let has_changed = known.shown != before;
    let shown = known.shown.iter().map(|shown| {
        let findings = services.get(&shown.service).map(|it| &it.report.findings);
        let findings = findings.into_iter().flatten();
        Present {
            service: shown.service.clone(),
            event: shown.event,
            since: shown.since,
            ended: shown.ended,
            findings: findings.map(|finding| finding.message.clone()).collect(),
        }
    });
    Some(Showing {
        settings,
        present: shown.collect(),
        interval: state.interval,
        unreached_since,
        has_changed,
    })
}

fn note_lost(shared: &Shared<'_>, channel: &Channel, lost: &Shown) {
    let ended = lost.ended.map(stamp).unwrap_or_default();
    let sentence = format!(
        "it could not be reached; never shown: the end of {} {}, from {} to {ended}",
        lost.service,
        lost.event.name(),
        stamp(lost.since),
    );
    ::log::error!("{}: {sentence}", channel.name);
    let about = std::slice::from_ref(&lost.service);
    let what = DeliveryEvent::GivenUp;
    shared.note(Entry::of_delivery(
        shared.now,
        &channel.name,
        what,
        about,
        sentence,
    ));
}

impl Showing<'_> {
    /// Shows it, in one attempt.
    pub(super) fn show(&self, now: DateTime<Utc>, limit: Duration) -> DeliveryReport {
        let host = report::host();
        (self.settings).show(&self.present, &host, now, self.interval, limit)
    }

    /// What of that belongs into the journal, and about which services: that it cannot be shown, and that it can again, once.
    pub(super) fn entries(&self, report: &DeliveryReport) -> Vec<(DeliveryEvent, String)> {
        let about = self.about().join(", ");
        match (report.reached_somebody(), self.unreached_since) {
            (true, None) if self.has_changed => {
                vec![(DeliveryEvent::Sent, format!("about {about}"))]
            }
            (true, None) => Vec::new(),
            (true, Some(since)) => {
                let since = stamp(since);
                let message = format!("about {about}; it had not been reached since {since}");
                vec![(DeliveryEvent::Sent, message)]
            }
            (false, since) => {
                let reasons = report.reasons("the present trouble").into_iter();
                let troubles = reasons.map(|reason| match report.pause {
                    // nothing is kept: no answer in time is tried again as any other failure
                    None => format!("{}; every run tries again", reason.sentence),
                    Some(_) => format!("{}{}", reason.sentence, reason.next),
                });
                if since.is_some() {
                    troubles.for_each(|trouble| ::log::warn!("{trouble}"));
                    return Vec::new();
                }
                troubles
                    .inspect(|trouble| ::log::error!("{trouble}"))
                    .map(|trouble| (DeliveryEvent::Deferred, trouble))
                    .collect()
            }
        }
    }

    /// The services that it is about.
    pub(super) fn about(&self) -> Vec<String> {
        let mut about: Vec<String> = (self.present.iter())
            .map(|present| present.service.clone())
            .collect();
        about.sort_unstable();
        about.dedup();
        about
    }
}
