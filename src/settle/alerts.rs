//! Whom a run alerts about a service or about the watchdog itself, and of what.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::notify::{Alert, Channel, Event, Routing};
use crate::state::State;
use crate::state::channels::{ChannelState, ServiceAlerts};
use crate::verdict::Verdict;

/// Who is alerted.
#[derive(Clone, Copy, Debug)]
pub struct AlertConfig<'a> {
    /// The channels; none: nobody.
    pub channels: &'a [Channel],
}

/// Alerts about the watchdog itself, on every channel.
pub fn alert_own_trouble(
    state: &mut State,
    now: DateTime<Utc>,
    message: &str,
    alerting: AlertConfig<'_>,
) {
    for channel in alerting.channels {
        let known = state.channels.entry(channel.name.clone()).or_default();
        known.add(Alert {
            notes: vec![message.to_owned()],
            ..Alert::new(now, "watchdog", Event::Watchdog)
        });
    }
}

/// Alerts about the first run with a new state, on the channels that want it.
pub fn note_start(
    state: &mut State,
    now: DateTime<Utc>,
    watched: usize,
    alerting: AlertConfig<'_>,
) {
    let wanting = (alerting.channels.iter()).filter(|it| it.routing().on.contains(&Event::Started));
    for channel in wanting {
        let known = state.channels.entry(channel.name.clone()).or_default();
        let noun = if watched == 1 { "service" } else { "services" };
        known.add(Alert {
            notes: vec![format!("{watched} {noun} of its config")],
            ..Alert::new(now, "watchdog", Event::Started)
        });
    }
}

/// What a run came to for a service or a scale, of which channels may have to know.
pub(super) struct Occasion<'a> {
    pub(super) name: &'a str,
    pub(super) verdict: Verdict,
    /// Of which this run was a part.
    pub(super) incident: Option<&'a str>,
    /// How many there were in the last hour.
    pub(super) incidents: usize,
    pub(super) now: DateTime<Utc>,
}

impl Occasion<'_> {
    /// Adds to what is pending on each channel that is to know, and says whether there was one.
    pub(super) fn alert(
        &self,
        channels: &mut BTreeMap<String, ChannelState>,
        alerting: AlertConfig<'_>,
        as_alert: impl Fn(Event) -> Alert,
    ) -> bool {
        let Self { name, now, .. } = *self;
        let flaps = self.incidents > FLAPPING;
        let mut has_alerted = false;
        // one that is shown all present trouble is not told of its beginning and its end
        let concerned = (alerting.channels.iter()).filter(|channel| {
            channel.as_alertmanager().is_none() && channel.routing().concerns(name)
        });
        for channel in concerned {
            let routing = channel.routing();
            // a channel that knows nothing of a service that is well has nothing to remember
            let of_channel = channels.get(&channel.name);
            let known = of_channel.and_then(|known| known.services.get(name));
            let is_held = |event| of_channel.is_some_and(|known| known.holds(name, event));
            let was_flapping = known.and_then(|known| known.flapping);
            let found = event_of(known, self.verdict);
            let event = found
                .filter(|&event| is_due(known, event, self.incident, now, routing))
                .filter(|&event| !flaps || flap_is_due(was_flapping, event, now, routing))
                .filter(|&event| !is_held(event));
            let is_over = !flaps && was_flapping.is_some();
            if event.is_none() && found.is_some_and(|found| !found.is_trouble()) {
                let known = channels.get_mut(&channel.name);
                has_alerted |= known.is_some_and(|known| known.end_quietly(name));
            }
            if event.is_none() && !is_over {
                continue;
            }
            has_alerted = true;
            let known = channels.entry(channel.name.clone()).or_default();
            if let Some(event) = event {
                let mut alert = as_alert(event);
                let in_open = flaps || event == Event::Recovered;
                if let Some(known) = known.services.get(name) {
                    alert.incident = known.incident_of(self.incident, in_open);
                }
                if flaps {
                    alert.notes.push(flap_note(self.incidents));
                }
                known.alert(alert, self.incident, routing);
            }
            if let Some(known) = known.services.get_mut(name) {
                known.flapping = event.filter(|_| flaps).map(|event| (event, now));
            }
        }
        has_alerted
    }
}

/// The event that a verdict is to a channel, if it is one. `known` is what the channel was alerted about of the service.
pub fn event_of(known: Option<&ServiceAlerts>, verdict: Verdict) -> Option<Event> {
    match verdict {
        Verdict::Restarted => Some(Event::Restarted),
        Verdict::RestartFailed => Some(Event::RestartFailed),
        Verdict::Repaired => Some(Event::Repaired),
        Verdict::RepairFailed => Some(Event::RepairFailed),
        Verdict::Exhausted => Some(Event::Exhausted),
        Verdict::Down => Some(Event::Down),
        Verdict::Degraded => Some(Event::Degraded),
        Verdict::Unknown => Some(Event::Unknown),
        Verdict::Scaled => Some(Event::Scaled),
        Verdict::ScaleFailed => Some(Event::ScaleFailed),
        Verdict::AtMax => Some(Event::AtMax),
        Verdict::Healthy | Verdict::Steady
            if known.is_some_and(|known| known.open_trouble.is_some()) =>
        {
            Some(Event::Recovered)
        }
        Verdict::Healthy
        | Verdict::Steady
        | Verdict::Starting
        | Verdict::Failing
        | Verdict::Waiting
        | Verdict::Paused
        | Verdict::Disabled => None,
    }
}

/// A service that has more incidents in an hour breaks again and again.
const FLAPPING: usize = 3;

/// Whether a channel is alerted about one that breaks again and again: once, and then again after `remind_every`, or of
/// what is worse; and that it is well only when it stays so.
fn flap_is_due(
    reported: Option<(Event, DateTime<Utc>)>,
    event: Event,
    now: DateTime<Utc>,
    routing: &Routing,
) -> bool {
    let every = routing.reminds_after();
    let again = |at| every.is_some_and(|every| crate::clock::age(now, at) >= every);
    let is_news = |(worst, at)| event > worst || again(at);
    event != Event::Recovered && reported.is_none_or(is_news)
}

fn flap_note(incidents: usize) -> String {
    format!(
        "it fails again and again: {incidents} incidents in the last hour; until that ends it is reported once every remind_every, and no recovery is"
    )
}

/// Whether a channel is alerted about an event now: it wants it, and was not alerted about it in this incident within
/// `remind_every`, or, where it is a warning, at all. A recovery always is: it ends what was reported before, and comes at most
/// once for each.
fn is_due(
    known: Option<&ServiceAlerts>,
    event: Event,
    incident: Option<&str>,
    now: DateTime<Utc>,
    routing: &Routing,
) -> bool {
    let last = known.and_then(|known| known.last(event, incident));
    let every = routing.reminds_after();
    let again = |at| {
        !event.is_once_an_incident() && every.is_some_and(|it| crate::clock::age(now, at) >= it)
    };
    // each change of the replicas is another one
    let is_news = matches!(event, Event::Recovered | Event::Scaled);
    routing.on.contains(&event) && (is_news || last.is_none_or(again))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, routing};

    #[test]
    fn a_warning_that_outlasts_a_restart_is_not_reported_again() {
        let routing = routing(&[Event::Degraded, Event::Restarted]);
        let mut known = ServiceAlerts::default();
        let mut note = |event, incident, second| {
            let due = is_due(Some(&known), event, Some(incident), at(second), &routing);
            if due {
                known.note(event, Some(incident), at(second));
            }
            due
        };
        assert!(note(Event::Degraded, "a.1", 0));
        assert!(note(Event::Restarted, "a.1", 60));
        assert!(!note(Event::Degraded, "a.1", 120));
        assert!(!note(Event::Restarted, "a.1", 180), "once in a while");
        assert!(note(Event::Restarted, "a.2", 200), "another incident");
        assert!(note(Event::Degraded, "a.2", 240));
        assert!(!note(Event::Degraded, "a.2", 90_000));
    }
}
