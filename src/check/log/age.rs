//! The age of what has a time of its own: a message of a journal, a line of a container.

use chrono::{DateTime, Utc};

use super::{AHEAD, Context, Rule, Seen, Severity, finding};
use crate::clock::{age, rough, stamp};

/// How old something is, and how that is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age<'a> {
    pub(super) then: DateTime<Utc>,
    /// `no message for 7m`.
    pub(super) stale: &'a str,
    /// `its newest message is`.
    pub(super) ahead: &'a str,
}

impl Age<'_> {
    /// Holds it against `max_age`, where there is one and the clock can be relied on.
    pub(super) fn judge(self, rule: &Rule, name: &str, context: Context<'_>, seen: &mut Seen) {
        let (then, now) = (self.then, context.now.wall);
        let Some(limit) = rule.max_age else {
            return;
        };
        if (context.jumped_at).is_some_and(|jump| age(now, jump) < limit) {
            return;
        }
        let (code, severity, why) = if then > now + AHEAD {
            let (what, by) = (self.ahead, rough(age(then, now)));
            let why = format!("{what} {by} ahead of the clock, at {}", stamp(then));
            ("log_in_future", Severity::Warning, why)
        } else if age(now, then) > limit {
            let why = format!("{} (limit {})", self.stale, rough(limit));
            ("log_stale", Severity::Critical, why)
        } else {
            return;
        };
        let finding = finding(rule, code, severity, name, &why);
        seen.findings.push(finding);
    }
}
