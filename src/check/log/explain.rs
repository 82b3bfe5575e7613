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
            (_, Some(position)) => (
                if rule.journal {
                    "last message"
                } else if rule.container {
                    "last line"
                } else {
                    "last written"
                },
                position.written,
            ),
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
    let is_empty = state.is_some_and(|position| position.is_known() && position.here.size == 0);
    if is_empty && (rule.max_age.is_some() || !rule.expect.is_empty()) {
        facts.push(
            "it is empty: it was just rotated, or its program keeps back what it prints (Python without -u does)"
                .to_owned(),
        );
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
    let facts = facts.join("; ");
    if rule.container {
        return format!("{}: {facts}", rule.title());
    }
    format!("log {}: {facts}", rule.title())
}

fn patterns(count: usize) -> String {
    format!("{count} pattern{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::FilePosition;
    use super::*;

    #[test]
    fn of_an_empty_log_it_is_said_what_may_be_the_matter() {
        let position = |size| LogPosition {
            here: FilePosition {
                ino: 5,
                size,
                ..FilePosition::default()
            },
            ..LogPosition::default()
        };
        let mut rule = Rule::fixture("a.log");
        let explained =
            |rule: &Rule, size| explain(rule, Some(&position(size)), LastLook::default());
        assert_eq!(
            explained(&rule, 0),
            "log a.log: nothing is asked of it but to be there"
        );
        rule.max_age = Some(Duration::from_mins(5));
        assert_eq!(explained(&rule, 7), "log a.log: limit 5m");
        assert_eq!(
            explained(&rule, 0),
            "log a.log: limit 5m; it is empty: it was just rotated, or its program keeps back what it prints (Python without -u \
             does)"
        );
    }
}
