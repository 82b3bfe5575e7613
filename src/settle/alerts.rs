//! Whom a run alerts about a service or about the watchdog itself, and of what.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::check::log::Tail;
use crate::check::sort_by_weight;
use crate::config::{OnExhausted, Service};
use crate::decide::Spent;
use crate::notify::{Alert, Channel, Event, Routing};
use crate::report::ServiceReport;
use crate::state::channels::{ChannelState, ServiceAlerts};
use crate::state::{ServiceState, State};
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

/// What there may be to say of a service after a run.
pub(super) struct Occasion<'a> {
    pub(super) service: &'a Service,
    pub(super) remembered: &'a ServiceState,
    pub(super) report: &'a ServiceReport,
    /// Which limit of restarts is reached.
    pub(super) spent: Option<Spent>,
    /// The last lines of its logs.
    pub(super) log_tail: Option<&'a Tail>,
    /// Of which this run was a part.
    pub(super) incident: Option<String>,
    /// Since when it is in trouble, or was before this run.
    pub(super) since: Option<DateTime<Utc>>,
    pub(super) now: DateTime<Utc>,
}

impl Occasion<'_> {
    /// Adds to what is pending on each channel that is to know, and says whether there was one.
    pub(super) fn alert(
        &self,
        channels: &mut BTreeMap<String, ChannelState>,
        alerting: AlertConfig<'_>,
    ) -> bool {
        let name = &self.service.name;
        let incidents = self.remembered.incidents_in_hour(self.now);
        let flaps = incidents > FLAPPING;
        let mut has_alerted = false;
        // one that is shown all present trouble is not told of its beginning and its end
        let concerned = (alerting.channels.iter()).filter(|channel| {
            channel.as_alertmanager().is_none() && channel.routing().concerns(name)
        });
        for channel in concerned {
            // a channel that knows nothing of a service that is well has nothing to remember
            let of_channel = channels.get(&channel.name);
            let known = of_channel.and_then(|known| known.services.get(name));
            let held = |event| of_channel.is_some_and(|known| known.holds(name, event));
            let was_flapping = known.and_then(|known| known.flapping);
            let event = event_of(known, self.report.verdict)
                .filter(|&event| self.is_due(known, event, channel.routing()))
                .filter(|&event| {
                    !flaps || flap_is_due(was_flapping, event, self.now, channel.routing())
                })
                .filter(|&event| !held(event));
            let is_over = !flaps && was_flapping.is_some();
            if event.is_none() && !is_over {
                continue;
            }
            has_alerted = true;
            let of_open = known.and_then(ServiceAlerts::open_incident);
            let of_open = of_open.map(str::to_owned);
            let known = channels.entry(channel.name.clone()).or_default();
            if let Some(event) = event {
                let mut alert = self.as_alert(event);
                // what was reported as the beginning of one incident is not left open by an end that is of another
                if let Some(open) = of_open.filter(|_| flaps || event == Event::Recovered) {
                    alert.incident = Some(open);
                }
                if flaps {
                    alert.notes.push(flap_note(incidents));
                }
                known.alert(alert, channel.routing());
            }
            if let Some(known) = known.services.get_mut(name) {
                known.flapping = event.filter(|_| flaps).map(|event| (event, self.now));
            }
        }
        has_alerted
    }

    fn is_due(&self, known: Option<&ServiceAlerts>, event: Event, routing: &Routing) -> bool {
        is_due(known, event, self.incident.as_deref(), self.now, routing)
    }

    fn as_alert(&self, event: Event) -> Alert {
        let mut findings = self.report.findings.clone();
        sort_by_weight(&mut findings);
        let policy = &self.service.policy;
        Alert {
            findings,
            action: self.report.action.clone(),
            since: self.since,
            consecutive_failures: self.remembered.consecutive_failures,
            attempts: self.report.restarts_last_hour,
            max_per_hour: self.report.max_per_hour,
            log_tail: self.log_tail.map(Tail::lines).unwrap_or_default(),
            notes: self.report.notes.clone(),
            same_finding: same_finding(self.remembered),
            next_attempt: match (self.spent, policy.on_exhausted) {
                (Some(Spent::Hour(frees)), _) => Some(frees),
                (Some(Spent::GivenUp | Spent::Incident(_)), _) | (None, OnExhausted::GiveUp) => {
                    None
                }
                (None, OnExhausted::Wait) => self
                    .remembered
                    .budget_frees_at(self.now, policy.max_per_hour),
            },
            max_attempts: match self.spent {
                Some(Spent::Incident(max)) => Some(max),
                _ => None,
            },
            incident: self.incident.clone(),
            ..Alert::new(self.now, &self.service.name, event)
        }
    }
}

/// The finding that every attempt of this trouble was made for, where there were several and it was always the
/// same: a sign that restarting does not help.
fn same_finding(remembered: &ServiceState) -> Option<String> {
    let (first, others) = remembered.attempt_codes.split_first()?;
    let code = first
        .iter()
        .find(|code| others.iter().all(|codes| codes.contains(code)))?;
    (!others.is_empty()).then(|| code.clone())
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

/// Whether a channel is alerted about an event now: it wants it, and was not alerted about it within `remind_every`, or,
/// where it is a warning, in this incident. A recovery always is: it ends what was reported before, and comes at most
/// once for each.
pub(super) fn is_due(
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
        assert!(!note(Event::Restarted, "a.2", 180), "once in a while");
        assert!(note(Event::Degraded, "a.2", 240));
        assert!(!note(Event::Degraded, "a.2", 90_000));
    }

    #[test]
    fn f48_what_every_attempt_met_is_known() {
        let codes = |attempts: &[&[&str]]| {
            let remembered = ServiceState {
                attempt_codes: attempts
                    .iter()
                    .map(|codes| codes.iter().map(ToString::to_string).collect())
                    .collect(),
                ..ServiceState::default()
            };
            same_finding(&remembered)
        };
        assert_eq!(codes(&[]), None);
        assert_eq!(codes(&[&["a"]]), None, "one attempt shows nothing");
        assert_eq!(codes(&[&["a"], &["a", "b"]]), Some("a".to_owned()));
        assert_eq!(
            codes(&[&["a", "b"], &["b"], &["c", "b"]]),
            Some("b".to_owned())
        );
        assert_eq!(codes(&[&["a"], &["b"]]), None);
        assert_eq!(codes(&[&[], &["b"]]), None);
    }
}
