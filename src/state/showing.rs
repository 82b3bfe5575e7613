//! What a channel is shown of services that shows all present trouble: what goes on, and what has ended a short while ago.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::notify::Event;
use crate::verdict::Verdict;

/// What has ended is shown for so long, so that one lost answer does not leave it going on.
const ENDED_SHOWN: TimeDelta = TimeDelta::minutes(5);

/// Trouble of a service that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The service.
    pub service: String,
    /// What is the matter with it.
    pub event: Event,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DateTime<Utc>>,
}

/// How a service stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its name.
    pub service: &'a str,
    /// What the last run that looked at it said.
    pub verdict: Verdict,
    /// Since when it is in trouble.
    pub trouble_since: Option<DateTime<Utc>>,
}

/// What a verdict means for what is shown.
enum Means {
    /// Nothing is the matter.
    Nothing,
    /// What was shown goes on, if anything was.
    AsBefore,
    /// This is the matter.
    Trouble(Event),
}

fn means(verdict: Verdict) -> Means {
    match verdict {
        Verdict::Healthy
        | Verdict::Restarted
        | Verdict::Repaired
        | Verdict::Steady
        | Verdict::Scaled
        | Verdict::Paused
        | Verdict::Disabled => Means::Nothing,
        Verdict::Starting | Verdict::Failing | Verdict::Waiting => Means::AsBefore,
        Verdict::Degraded => Means::Trouble(Event::Degraded),
        Verdict::Unknown => Means::Trouble(Event::Unknown),
        Verdict::RestartFailed => Means::Trouble(Event::RestartFailed),
        Verdict::RepairFailed => Means::Trouble(Event::RepairFailed),
        Verdict::Exhausted => Means::Trouble(Event::Exhausted),
        Verdict::Down => Means::Trouble(Event::Down),
        Verdict::AtMax => Means::Trouble(Event::AtMax),
        Verdict::ScaleFailed => Means::Trouble(Event::ScaleFailed),
    }
}

/// Brings what is shown up to date. Returns what is shown no longer, its end being long enough ago.
pub fn update(shown: &mut Vec<Shown>, services: &[Standing<'_>], now: DateTime<Utc>) -> Vec<Shown> {
    for known in shown.iter_mut().filter(|it| it.ended.is_none()) {
        let standing = services.iter().find(|it| it.service == known.service);
        let goes_on = standing.is_some_and(|it| match means(it.verdict) {
            Means::Nothing => false,
            Means::AsBefore => true,
            Means::Trouble(event) => event == known.event,
        });
        if !goes_on {
            known.ended = Some(now);
        }
    }
    for standing in services {
        let Means::Trouble(event) = means(standing.verdict) else {
            continue;
        };
        let mut of_service = shown.iter().filter(|it| it.service == standing.service);
        if of_service.clone().any(|it| it.ended.is_none()) {
            continue;
        }
        // where one follows another it begins when that ends
        let follows = of_service.any(|it| it.ended == Some(now));
        let since = standing.trouble_since.filter(|_| !follows);
        // an alert is known by its service and its event: one that comes again goes on
        shown.retain(|it| it.service != standing.service || it.event != event);
        shown.push(Shown {
            service: standing.service.to_owned(),
            event,
            since: since.unwrap_or(now),
            ended: None,
        });
    }
    let is_over = |it: &Shown| {
        // the clock may have been set back
        it.ended
            .is_some_and(|ended| ended > now || now - ended > ENDED_SHOWN)
    };
    let (over, kept) = std::mem::take(shown).into_iter().partition(is_over);
    *shown = kept;
    over
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn minute(n: i64) -> DateTime<Utc> {
        crate::fixtures::at(0) + TimeDelta::minutes(n)
    }

    fn standing(verdict: Verdict) -> Standing<'static> {
        Standing {
            service: "a",
            verdict,
            trouble_since: Some(minute(-1)),
        }
    }

    #[test]
    fn trouble_is_shown_until_it_has_ended_for_a_while() {
        let mut shown = Vec::new();
        let mut steps = Vec::new();
        for (at, verdict) in [
            (0, Verdict::Healthy),
            (1, Verdict::Failing),
            (2, Verdict::Down),
            (3, Verdict::Failing),
            (4, Verdict::Down),
            (5, Verdict::Exhausted),
            (6, Verdict::Starting),
            (7, Verdict::Healthy),
            (10, Verdict::Healthy),
            (11, Verdict::Healthy),
            (12, Verdict::Healthy),
            (13, Verdict::Healthy),
        ] {
            let over = update(&mut shown, &[standing(verdict)], minute(at));
            let minutes = |time: DateTime<Utc>| (time - minute(0)).num_minutes();
            let now: Vec<_> = shown
                .iter()
                .map(|it| (it.event.name(), minutes(it.since), it.ended.map(minutes)))
                .collect();
            steps.push((at, now, over.len()));
        }
        let down = |ended| ("down", -1, ended);
        let exhausted = |ended| ("exhausted", 5, ended);
        assert_eq!(
            steps,
            [
                (0, vec![], 0),
                (1, vec![], 0),
                (2, vec![down(None)], 0),
                (3, vec![down(None)], 0),
                (4, vec![down(None)], 0),
                (5, vec![down(Some(5)), exhausted(None)], 0),
                (6, vec![down(Some(5)), exhausted(None)], 0),
                (7, vec![down(Some(5)), exhausted(Some(7))], 0),
                (10, vec![down(Some(5)), exhausted(Some(7))], 0),
                (11, vec![exhausted(Some(7))], 1),
                (12, vec![exhausted(Some(7))], 0),
                (13, vec![], 1),
            ]
        );
    }

    #[test]
    fn a_service_that_is_gone_or_paused_is_shown_as_ended() {
        for services in [&[][..], &[standing(Verdict::Paused)]] {
            let mut shown = Vec::new();
            update(&mut shown, &[standing(Verdict::Down)], minute(0));
            update(&mut shown, services, minute(1));
            assert_eq!(shown[0].ended, Some(minute(1)));
        }
    }

    proptest! {
        #[test]
        fn no_alert_is_shown_twice_and_each_service_has_one_that_goes_on_at_most(
            steps in proptest::collection::vec((0_i64..4, 0_usize..12, any::<bool>()), 0..40)
        ) {
            const VERDICTS: [Verdict; 12] = [
                Verdict::Healthy, Verdict::Starting, Verdict::Degraded, Verdict::Failing,
                Verdict::Restarted, Verdict::RestartFailed, Verdict::RepairFailed, Verdict::Exhausted,
                Verdict::Waiting, Verdict::Down, Verdict::Unknown, Verdict::Paused,
            ];
            let mut shown = Vec::new();
            let mut at = 0;
            for (passed, verdict, is_there) in steps {
                at += passed;
                let services = [standing(VERDICTS[verdict])];
                update(&mut shown, if is_there { &services } else { &[] }, minute(at));
                let open = shown.iter().filter(|it| it.ended.is_none()).count();
                prop_assert!(open <= 1);
                let mut events: Vec<Event> = shown.iter().map(|it| it.event).collect();
                events.sort();
                events.dedup();
                prop_assert_eq!(events.len(), shown.len());
            }
        }
    }
}
