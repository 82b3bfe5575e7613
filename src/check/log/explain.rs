//! What is checked of a log, and how that stood, for `why`.

use std::time::Duration;

use super::super::LastLook;
use super::{LogPosition, Rule};
use crate::clock::{age, rough, stamp};

pub(super) fn explain(rule: &Rule, state: Option<&LogPosition>, last: LastLook<'_>) -> String {
    let mut facts = Vec::new();
    if let Some(limit) = rule.max_age {
        let (how, time) = match (&rule.stamp, state) {
            (Some(_), Some(position)) if position.unstamped_since.is_none() => {
                ("newest line stamped", position.stamped)
            }
            (_, Some(position)) => ("last written", position.written),
            (_, None) => ("", None),
        };
        match (time.map(|time| last.at(&time)), last.time) {
            (Some(time), Some(run)) => {
                let before = match age(run, time) {
                    age if age < Duration::from_secs(1) => "just".to_owned(),
                    age => rough(age),
                };
                facts.push(format!(
                    "{how} {}, {before} before that run (limit {})",
                    stamp(time),
                    rough(limit)
                ));
            }
            _ => facts.push(format!("limit {}", rough(limit))),
        }
    }
    if !rule.expect.is_empty() {
        facts.push(format!(
            "{} expected in its last {} lines",
            patterns(rule.expect.len()),
            rule.lines
        ));
    }
    if !rule.forbid.is_empty() {
        let forbidden = patterns(rule.forbid.len());
        facts.push(format!("{forbidden} forbidden in new lines"));
    }
    if facts.is_empty() {
        facts.push("nothing is asked of it but to be there".to_owned());
    }
    format!("log {}: {}", rule.shown, facts.join("; "))
}

fn patterns(count: usize) -> String {
    format!("{count} pattern{}", if count == 1 { "" } else { "s" })
}
