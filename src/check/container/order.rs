//! A restart that the engine was asked for, and whose end nobody saw: the run was killed, or no answer came in time.
//!
//! An engine goes on with what it was asked for though nobody waits any more. So before another restart is made, it is
//! looked at whether the container has been started since.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::client::engine::Details;
use crate::clock::{rough, stamp};

/// How long a container may take to stop where neither it nor the config says anything else: both engines and the config
/// take this then.
pub const STOP: Duration = Duration::from_secs(10);

/// What a container says itself is not waited for longer: some say a number that stands for ever, which no clock can hold.
const LONGEST_STOP: Duration = Duration::from_hours(24);

/// What an engine needs beside the times for stopping and starting.
pub const SLACK: Duration = Duration::from_secs(15);

/// So much longer is an order waited for that surely reached the engine and was not answered. What hangs for longer than
/// that hangs for good, or the engine was started anew and has forgotten it.
const PATIENCE: Duration = Duration::from_mins(10);

/// A restart that was ordered and whose end is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ordered {
    /// The id of the container.
    pub id: String,
    /// When it had been started last; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<DateTime<Utc>>,
    /// When the run looked that ordered it.
    pub at: DateTime<Utc>,
    /// The engine surely has the order, and did not answer in time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
}

/// What has become of such a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// It may still be done: why no other is made.
    Pending(String),
    /// It was done, then.
    Done(DateTime<Utc>),
    /// It is waited for no longer: it is late, or the container is another one.
    Over,
}

/// How long stopping a container may take: what the config says, where that is not the default, else what the container
/// says itself, up to a day.
pub fn stop_time(configured: Duration, own: Option<u64>) -> Duration {
    let configured = Some(configured).filter(|limit| *limit != STOP);
    let own = own.map(|seconds| Duration::from_secs(seconds).min(LONGEST_STOP));
    configured.or(own).unwrap_or(STOP)
}

/// What has become of a restart, as far as the engine's details show it. `stop_timeout` and `start_timeout` are those of
/// the service.
pub fn awaited(
    ordered: &Ordered,
    details: &Details,
    stop_timeout: Duration,
    start_timeout: Duration,
    now: DateTime<Utc>,
) -> Awaited {
    if ordered.id != details.id {
        return Awaited::Over;
    }
    let started = details.state.started_at;
    if let Some(at) = started.filter(|_| started != ordered.before) {
        return Awaited::Done(at);
    }
    let stop = stop_time(stop_timeout, details.config.stop_timeout);
    let patience = if ordered.unanswered {
        PATIENCE
    } else {
        Duration::ZERO
    };
    let limit = [stop, start_timeout, SLACK, patience]
        .into_iter()
        .fold(Duration::ZERO, Duration::saturating_add);
    let until = TimeDelta::from_std(limit)
        .ok()
        .and_then(|limit| ordered.at.checked_add_signed(limit))
        .unwrap_or(DateTime::<Utc>::MAX_UTC);
    if now >= until {
        return Awaited::Over;
    }
    let passed = rough(crate::clock::age(now, ordered.at));
    let answer = if ordered.unanswered {
        "did not answer in time"
    } else {
        "may have been asked: the run was cut short"
    };
    Awaited::Pending(format!(
        "a restart was ordered {passed} ago, and the engine {answer}; it may still be done, so no other is ordered before {}",
        stamp(until)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::engine::{Config, State};
    use crate::fixtures::at;

    fn details(id: &str, started: Option<DateTime<Utc>>, own: Option<u64>) -> Details {
        Details {
            id: id.to_owned(),
            state: State {
                started_at: started,
                ..State::default()
            },
            config: Config {
                stop_timeout: own,
                ..Config::default()
            },
            ..Details::default()
        }
    }

    #[test]
    fn a_restart_is_awaited_until_it_is_seen_or_late() {
        let ordered = |unanswered| Ordered {
            id: "x".to_owned(),
            before: Some(at(-900)),
            at: at(0),
            unanswered,
        };
        let start = Duration::from_secs(30);
        let is_pending = |awaited: &Awaited| matches!(awaited, Awaited::Pending(_));
        // stop, start and slack: 10 + 30 + 15 s
        for (unanswered, own, configured, second, pending) in [
            (false, None, 10, 54, true),
            (false, None, 10, 55, false),
            (false, Some(240), 10, 284, true),
            (false, Some(240), 10, 285, false),
            // the config wins over the container
            (false, Some(240), 2, 46, true),
            (false, Some(240), 2, 47, false),
            (true, None, 10, 654, true),
            (true, None, 10, 655, false),
            // for ever is a day
            (false, Some(u64::MAX), 10, 86_444, true),
            (false, Some(u64::MAX), 10, 86_445, false),
        ] {
            let awaited = awaited(
                &ordered(unanswered),
                &details("x", Some(at(-900)), own),
                Duration::from_secs(configured),
                start,
                at(second),
            );
            let case = format!("{unanswered} {own:?} {configured} {second}: {awaited:?}");
            assert_eq!(is_pending(&awaited), pending, "{case}");
            assert!(pending || awaited == Awaited::Over, "{case}");
        }
        let stop = Duration::from_secs(10);
        let seen = |details| awaited(&ordered(true), &details, stop, start, at(60));
        assert_eq!(
            seen(details("x", Some(at(40)), None)),
            Awaited::Done(at(40))
        );
        // re-created
        assert_eq!(seen(details("y", Some(at(40)), None)), Awaited::Over);
        // one that was never started, and still is not
        let never = Ordered {
            before: None,
            ..ordered(true)
        };
        let seen = |started| awaited(&never, &details("x", started, None), stop, start, at(60));
        assert!(is_pending(&seen(None)));
        assert_eq!(seen(Some(at(5))), Awaited::Done(at(5)));
    }

    #[test]
    fn what_is_awaited_is_told_with_how_long_and_until_when() {
        let mut ordered = Ordered {
            id: "x".to_owned(),
            before: Some(at(-900)),
            at: at(0),
            unanswered: true,
        };
        let tell = |ordered: &Ordered| {
            let details = details("x", Some(at(-900)), None);
            match awaited(ordered, &details, STOP, STOP, at(20)) {
                Awaited::Pending(why) => why,
                other => panic!("{other:?}"),
            }
        };
        let why = tell(&ordered);
        assert!(
            why.starts_with("a restart was ordered 20s ago, and the engine did not answer in time"),
            "{why}"
        );
        assert!(why.ends_with(&stamp(at(635))), "{why}");
        ordered.unanswered = false;
        assert!(tell(&ordered).contains("the run was cut short"));
    }
}
