//! What an exec probe runs, and how it stood, for `why`.

use super::{Convention, Rule};
use crate::check::LastLook;
use crate::check::lasting::{self, Failing};
use crate::clock::exact;

/// What the probe does and how it stands, in lines for `why`.
pub(super) fn explain(rule: &Rule, state: &Failing, last: LastLook<'_>) -> Vec<String> {
    let who = rule
        .user()
        .map(|user| format!(", run as {user},"))
        .unwrap_or_default();
    let how = match rule.exit {
        Convention::Zero => "end with status 0",
        Convention::Nagios => {
            "end as a Nagios plugin does that finds all well, with status 0 (1 is a warning, 2 critical, more unknown)"
        }
    };
    let within = exact(rule.timeout.unwrap_or_default());
    let mut lines = vec![format!(
        "`{}`{who} has to {how} within {within}",
        rule.brief()
    )];
    lines.extend(lasting::explain(state, rule.for_, last));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures::at;

    #[test]
    fn why_says_what_is_run_and_how_it_stands() {
        let last = LastLook {
            time: Some(at(0)),
            clock: None,
        };
        let failing = Failing {
            failing_since: Some(at(-90).into()),
            ..Failing::default()
        };
        let rule = Rule {
            user: Some("postgres".to_owned()),
            timeout: Some(Duration::from_secs(5)),
            for_: Duration::from_secs(300),
            ..Rule::new(&["pg_isready", "-q"])
        };
        assert_eq!(
            explain(&rule, &failing, last),
            [
                "`pg_isready -q`, run as postgres, has to end with status 0 within 5s",
                "it has failed for 1m 30s, and counts once that is 5m"
            ]
        );
        let plugin = Rule {
            exit: Convention::Nagios,
            timeout: Some(Duration::from_secs(5)),
            ..Rule::new(&["check_load"])
        };
        assert_eq!(
            explain(&plugin, &Failing::default(), last),
            [
                "`check_load` has to end as a Nagios plugin does that finds all well, with status 0 (1 is a warning, 2 critical, \
                 more unknown) within 5s"
            ]
        );
    }
}
