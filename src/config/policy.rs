//! When a service is restarted, and how often.

use std::time::Duration;

use super::OnExhausted;
use crate::table::{Factor, Part, Table, Value, Within, choice, table};

/// A growing cooldown ends here.
const MAX_COOLDOWN: Duration = Duration::from_hours(1);

table! {
    /// When a service is restarted.
    pub struct Policy like "restart = { max_per_hour = 3 }", check fits {
        /// Attempts, good or bad, in any 60 minutes; 0: never.
        max_per_hour: u32 as Within<0, 3600> = 3;
        /// What then: "wait" until the hour frees one, or "give_up" until `watchdog reset`.
        on_exhausted: OnExhausted = OnExhausted::Wait;
        /// Failing runs before a restart …
        after_failures: u32 as Within<1, 1000> = 1;
        /// … among the last so many since the last attempt; default: after_failures, that is in a row.
        out_of: Option<u32> as Option<Within<1, 1000>>, commented "1";
        /// The least time between two attempts.
        cooldown: Duration = Duration::ZERO;
        /// The cooldown is multiplied by this for each further attempt of the same incident …
        backoff: Factor = Factor::ONE;
        /// … until it is so long; a longer cooldown stays as it is.
        max_cooldown: Duration = MAX_COOLDOWN;
        /// Attempts in one incident, and then none until it is well again, or until `watchdog reset`; 0: no such limit.
        max_attempts: u32 as Within<0, 1_000_000> = 0;
    }
}

choice! { OnExhausted: "wait" = Wait, "give_up" = GiveUp }

impl Policy {
    /// Among so many of the last runs `after_failures` are counted.
    pub fn window(&self) -> u32 {
        self.out_of
            .unwrap_or(self.after_failures)
            .max(self.after_failures)
    }

    /// The cooldown after the last of so many attempts of an incident.
    pub fn cooldown_after(&self, attempts: u32) -> Duration {
        let grown = self
            .backoff
            .raised(self.cooldown, attempts.saturating_sub(1));
        grown.min(self.max_cooldown).max(self.cooldown)
    }
}

/// Holds the keys of one table against one another.
fn fits(table: &Table<'_>, part: &mut Part<Policy>) {
    let (failures, window) = (table.get("after_failures"), table.get("out_of"));
    if failures.is_some() && window.is_some() {
        check_window(
            window.as_ref(),
            failures.as_ref(),
            part.after_failures,
            part.out_of.flatten(),
        );
    }
}

/// So many failing runs must find room among the last ones. Of the two, at least one is written where the fault is.
pub(super) fn check_window(
    window: Option<&Value<'_>>,
    failures: Option<&Value<'_>>,
    after_failures: Option<u32>,
    out_of: Option<u32>,
) {
    let (Some(wanted), Some(among)) = (after_failures, out_of) else {
        return;
    };
    if wanted > among
        && let Some(value) = window.or(failures)
    {
        value.wrong(
            &format!(
                "{wanted} failing runs (after_failures) cannot be among the last {among} (out_of)"
            ),
            format!("make out_of {wanted} or more, or after_failures {among} or less"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::service;

    fn policy(cooldown: u64, backoff: f64, most: u64) -> Policy {
        Policy {
            cooldown: Duration::from_secs(cooldown),
            backoff: Factor::of(backoff).unwrap(),
            max_cooldown: Duration::from_secs(most),
            ..service("a").policy
        }
    }

    #[test]
    fn a_cooldown_grows_with_each_attempt_up_to_a_limit() {
        for (policy, seconds) in [
            (policy(60, 1.0, 3600), [60, 60, 60, 60, 60]),
            (policy(60, 2.0, 3600), [60, 60, 120, 240, 480]),
            (policy(60, 1.5, 100), [60, 60, 90, 100, 100]),
            // what is longer to begin with stays so
            (policy(7200, 2.0, 3600), [7200; 5]),
            (policy(0, 2.0, 3600), [0; 5]),
        ] {
            for (attempts, seconds) in (0..).zip(seconds) {
                let cooldown = policy.cooldown_after(attempts);
                assert_eq!(cooldown, Duration::from_secs(seconds), "{attempts}");
            }
        }
        for attempts in [64, 1000, u32::MAX] {
            let grown = policy(60, 1000.0, 3600).cooldown_after(attempts);
            assert_eq!(grown, Duration::from_secs(3600));
        }
    }

    #[test]
    fn what_is_counted_in_a_row_is_counted_among_as_many() {
        let counted = |after_failures, out_of| Policy {
            after_failures,
            out_of,
            ..service("a").policy
        };
        assert_eq!(counted(3, None).window(), 3);
        assert_eq!(counted(3, Some(5)).window(), 5);
    }
}
