//! What in the rules for a log may not do what was meant.

use std::time::Duration;

use super::super::ServiceContext;
use super::super::trap::Trap;
use super::{Rule, resolve};
use crate::clock::rough;

/// The shortest time from one run to the next: cron knows no seconds.
const CRON: Duration = Duration::from_mins(1);

pub(super) fn traps(rule: &Rule, service: &ServiceContext<'_>) -> Vec<Trap> {
    let mut traps = Vec::new();
    let is_glob = |text: &str| text.contains(['*', '?', '[']);
    if resolve(&rule.path).is_none() {
        traps.push(Trap::of(
            "path",
            format!("{} matches no file now", rule.shown),
            "a log that is not there is a failure: hold the pattern against `ls`",
        ));
    } else if (rule.path.parent()).is_some_and(|directory| !is_glob(&directory.to_string_lossy())) {
        traps.extend(Trap::of_directory("path", &rule.path));
    }
    let Some(limit) = rule.max_age else {
        return traps;
    };
    if limit < service.settle {
        traps.push(Trap::of(
            "max_age",
            format!(
                "{} may be no older than {}, less than it is given to settle ({})",
                rule.shown,
                rough(limit),
                rough(service.settle)
            ),
            "make max_age longer, or settle shorter",
        ));
    } else if limit < CRON {
        traps.push(Trap::of(
            "max_age",
            format!(
                "{} may be no older than {}: a moment's pause at the time of a run is taken for a freeze",
                rule.shown,
                rough(limit)
            ),
            "runs are a minute apart, so a limit of a minute or more finds a freeze as soon",
        ));
    }
    if service.start_grace.is_zero() && service.has_process {
        traps.push(Trap::of_service(
            "start_grace",
            format!("{} is judged the moment that it was started", rule.shown),
            "make start_grace longer than it takes to write its first lines",
        ));
    }
    traps
}
