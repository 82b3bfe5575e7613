//! Re-creations: what Compose makes in the place of a container, or has left of it, stands beside it for a while.
//!
//! Compose makes the new one under another name, stops the old one, which may take its `stop_grace_period`, removes it,
//! gives the new one its name and starts it. Before version 2 it stops the old one first, and gives that another name.

use chrono::{DateTime, TimeDelta, Utc};

use super::{RECREATION, Rule, Selected};
use crate::client::engine::{Details, Listed};

/// Once the old one has ended, the rest takes Compose seconds. What stands beside it for longer was left behind.
const ENDED: TimeDelta = TimeDelta::seconds(30);

/// Whether one that stands beside a container is there because that is being re-created right now.
pub fn is_in_use<'a>(
    beside: &Listed,
    selected: &Selected<'_>,
    details: impl Fn(&str) -> Option<&'a Details>,
    now: DateTime<Utc>,
) -> bool {
    // when it ended, where it has
    let ended = |container: &Listed| {
        let state = &details(&container.id)?.state;
        matches!(state.status.as_str(), "exited" | "dead").then_some(state.finished_at)
    };
    if let Some(at) = ended(beside) {
        return at.is_some_and(|at| now - at < ENDED);
    }
    let Some(made) = DateTime::from_timestamp(beside.created, 0) else {
        return false;
    };
    let old = match selected.found[..] {
        [old] => ended(old).flatten(),
        _ => None,
    };
    match old {
        Some(at) => now - at.max(made) < ENDED,
        None => now - made < RECREATION,
    }
}

/// That a container is being re-created.
pub fn being_recreated(rule: &Rule, beside: &Listed) -> String {
    format!("{rule} is being re-created: {} is there", beside.name())
}

/// That what a re-creation has left behind runs where a container does not.
pub fn runs_in_its_place(rule: &Rule, beside: &Listed) -> String {
    format!(
        "{} runs in the place of {rule}, left behind by a re-creation, so nothing is started beside it",
        beside.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::engine::State;
    use crate::fixtures::at;

    fn listed(id: &str, made: i64) -> Listed {
        Listed {
            id: id.to_owned(),
            created: at(made).timestamp(),
            ..Listed::default()
        }
    }

    /// One that runs, or was only made; or ended then.
    fn described(id: &str, ended: Option<i64>) -> Details {
        Details {
            id: id.to_owned(),
            state: State {
                status: ended.map_or("created", |_| "exited").to_owned(),
                finished_at: ended.map(at),
                ..State::default()
            },
            ..Details::default()
        }
    }

    #[test]
    fn what_stands_beside_a_container_is_in_use_for_as_long_as_compose_may_take() {
        // when the one beside was made and ended; whether the old one is there, and when that ended
        type Case = (i64, Option<i64>, Option<Option<i64>>, bool);
        let cases: [Case; 13] = [
            // the old one still runs: it may take its time to stop
            (-299, None, Some(None), true),
            (-300, None, Some(None), false),
            // it is removed, and its name is not given on yet
            (-299, None, None, true),
            (-300, None, None, false),
            // it has ended
            (-299, None, Some(Some(-29)), true),
            (-299, None, Some(Some(-30)), false),
            (-3600, None, Some(Some(-29)), true),
            // it had ended long before
            (-29, None, Some(Some(-3600)), true),
            (-30, None, Some(Some(-3600)), false),
            // the one beside is the old one
            (-3600, Some(-29), None, true),
            (-3600, Some(-30), None, false),
            (-100, Some(-30), Some(None), false),
            (-100, Some(-29), Some(Some(-20)), true),
        ];
        for (made, ended, old, is_in_use_by_then) in cases {
            let (beside, found) = (listed("beside", made), listed("old", -86_400));
            let selected = Selected {
                found: old.iter().map(|_| &found).collect(),
                beside: vec![&beside],
            };
            let all = [described("beside", ended), described("old", old.flatten())];
            let details = |id: &str| all.iter().find(|it| it.id == id);
            assert_eq!(
                is_in_use(&beside, &selected, details, at(0)),
                is_in_use_by_then,
                "{made} {ended:?} {old:?}"
            );
        }
    }
}
