//! What the figures of a file system mean. Nothing here looks at anything.

use std::path::Path;

use super::look::{Answer, Figures};
use super::{FULL, Rule, State};
use crate::amount::{rough_bytes, rough_percent};
use crate::check::lasting::{self, Outcome, UNREADABLE};
use crate::check::{Checked, Finding, Kind, Severity};
use crate::clock::Reading;

/// Whether a file system has less room than its rule asks for.
pub(super) fn is_full(rule: &Rule, figures: &Figures) -> bool {
    !excesses(rule, figures).is_empty()
}

/// What there is too little of, each as part of a sentence.
fn excesses(rule: &Rule, figures: &Figures) -> Vec<String> {
    let (size, inodes) = (figures.size(), figures.inodes());
    let space = || {
        format!(
            "{} used, {} of {} free",
            rough_percent(figures.used, size),
            rough_bytes(figures.free),
            rough_bytes(size)
        )
    };
    let most = rule
        .max_used
        .filter(|most| most.is_below(figures.used, size));
    let least = rule.min_free.filter(|least| figures.free < least.of(size));
    let mut found = Vec::new();
    let limit = match (most, least) {
        (Some(most), Some(least)) => Some(format!("limits: {most} used, {least} free")),
        (Some(most), None) => Some(format!("limit: {most} used")),
        (None, Some(least)) => Some(format!("limit: {least} free")),
        (None, None) => None,
    };
    found.extend(limit.map(|limit| format!("{} ({limit})", space())));
    if rule.max_inodes.is_below(figures.inodes_used, inodes) {
        found.push(format!(
            "{} of the inodes used, {} of {inodes} free (limit: {} used)",
            rough_percent(figures.inodes_used, inodes),
            figures.inodes_free,
            rule.max_inodes
        ));
    }
    found
}

/// Judges what asking gave. `mount` is asked for where a file system is too full.
pub(super) fn judge(
    rule: &Rule,
    answer: &Answer,
    former: &State,
    now: &Reading,
    mount: impl FnOnce() -> Option<String>,
) -> Checked<State> {
    let path = rule.path.display();
    let outcome = match answer {
        Err(why) => Outcome::Unseen(Finding::new(
            Kind::Disk,
            UNREADABLE,
            Severity::Unknown,
            format!("{path} {why}"),
        )),
        Ok(figures) => match excesses(rule, figures).as_slice() {
            [] => Outcome::Passed(Vec::new()),
            found => {
                let mount = mount().map_or_else(String::new, |mount| format!(" ({mount})"));
                let message = format!("{path}{mount}: {}", found.join("; "));
                Outcome::Failed(Finding::new(Kind::Disk, FULL, rule.severity, message))
            }
        },
    };
    let checked = lasting::judge(outcome, rule.for_, &former.failing, now);
    let state = checked.state.map(|failing| State {
        failing,
        figures: answer.as_ref().ok().copied().or(former.figures),
    });
    Checked {
        findings: checked.findings,
        notes: checked.notes,
        state,
        ..Checked::default()
    }
}

/// A mount in a sentence: nothing where the path is the mount itself and the type says nothing.
pub(super) fn mount_in_words(path: &Path, point: &Path, kind: &str) -> String {
    if path == point {
        kind.to_owned()
    } else {
        format!("on {}, {kind}", point.display())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::amount::{Amount, Share, Size};
    use crate::check::lasting::Failing;
    use crate::fixtures::at;

    const GB: u64 = 1_000_000_000;

    fn now(second: i64) -> Reading {
        Reading {
            wall: at(second),
            boot_ms: 0,
            awake_ms: 0,
            boot_id: "".into(),
        }
    }

    fn figures(used: u64, free: u64) -> Figures {
        Figures {
            used: used * GB,
            free: free * GB,
            inodes_used: 50,
            inodes_free: 50,
            read_only: false,
        }
    }

    fn judged(rule: &Rule, answer: &Answer) -> Checked<State> {
        let mount = || Some("on /, ext4".to_owned());
        judge(rule, answer, &State::default(), &now(0), mount)
    }

    fn least(text: &str) -> Rule {
        Rule {
            max_used: None,
            min_free: Some(Amount::parse(text).unwrap()),
            ..Rule::of("/srv/x")
        }
    }

    #[test]
    fn each_limit_has_its_sentence() {
        let usual = Rule::of("/srv/x");
        let no_inodes = Figures {
            inodes_used: 0,
            inodes_free: 0,
            ..figures(1, 99)
        };
        let few_inodes = Figures {
            inodes_used: 99,
            inodes_free: 1,
            ..figures(1, 99)
        };
        let both = Rule {
            min_free: Some(Amount::Size(Size::parse("20 GB").unwrap())),
            ..Rule::of("/srv/x")
        };
        for (rule, figures, message) in [
            (&usual, figures(90, 10), None),
            (
                &usual,
                figures(91, 9),
                Some("91.0% used, 9.00 GB of 100 GB free (limit: 90% used)"),
            ),
            (&usual, no_inodes, None),
            (
                &usual,
                few_inodes,
                Some("99.0% of the inodes used, 1 of 100 free (limit: 90% used)"),
            ),
            (&least("5 GB"), figures(95, 5), None),
            (
                &least("5 GB"),
                figures(96, 4),
                Some("96.0% used, 4.00 GB of 100 GB free (limit: 5 GB free)"),
            ),
            (&least("10%"), figures(90, 10), None),
            (
                &least("10%"),
                figures(91, 9),
                Some("91.0% used, 9.00 GB of 100 GB free (limit: 10% free)"),
            ),
            (
                &both,
                figures(95, 5),
                Some("95.0% used, 5.00 GB of 100 GB free (limits: 90% used, 20 GB free)"),
            ),
            (
                &both,
                figures(81, 19),
                Some("81.0% used, 19.0 GB of 100 GB free (limit: 20 GB free)"),
            ),
        ] {
            let judged = judged(rule, &Ok(figures));
            let messages: Vec<_> = judged.findings.iter().map(|found| &found.message).collect();
            let expected = message.map(|message| format!("/srv/x (on /, ext4): {message}"));
            assert_eq!(messages, expected.iter().collect::<Vec<_>>());
            assert!(judged.findings.iter().all(|found| found.code == FULL));
            assert_eq!(judged.state.unwrap().figures, Some(figures));
        }
    }

    #[test]
    fn what_could_not_be_looked_at_is_unknown_and_ends_nothing() {
        let former = State {
            failing: Failing {
                failing_since: Some(at(-60).into()),
                ..Failing::default()
            },
            figures: Some(figures(99, 1)),
        };
        let answer = Err("is not there".to_owned());
        let judged = judge(&Rule::of("/srv/x"), &answer, &former, &now(0), || None);
        assert_eq!(judged.state, Some(former));
        let [finding] = judged.findings.as_slice() else {
            panic!("{judged:?}");
        };
        assert_eq!(finding.message, "/srv/x is not there");
        assert_eq!(
            (&*finding.code, finding.severity),
            (UNREADABLE, Severity::Unknown)
        );
        assert_eq!(finding.grace(), crate::check::Grace::None);
        assert!(!finding.is_reason_to_restart());
    }

    #[test]
    fn a_full_disk_counts_once_that_has_lasted_and_restarts_nothing() {
        let rule = Rule {
            for_: Duration::from_secs(120),
            ..Rule::of("/srv/x")
        };
        let (full, fine) = (Ok(figures(99, 1)), Ok(figures(1, 99)));
        let gone = Err("is not there".to_owned());
        let mut state = State::default();
        for (second, answer, codes) in [
            (0, &full, &[][..]),
            (60, &gone, &[UNREADABLE]),
            (119, &full, &[]),
            (120, &full, &[FULL]),
            (180, &fine, &[]),
            (181, &full, &[]),
        ] {
            let judged = judge(&rule, answer, &state, &now(second), || None);
            let found: Vec<_> = judged.findings.iter().map(|found| &*found.code).collect();
            assert_eq!(found, codes, "{second}");
            assert!(!judged.findings.iter().any(Finding::is_reason_to_restart));
            state = judged.state.unwrap();
        }
    }

    proptest! {
        #[test]
        fn a_fuller_disk_is_never_better(used in 0u64..1000, free in 0u64..1000, more in 0u64..1000, most in 1u64..100) {
            let rule = Rule { max_used: Some(Share::percent(most)), ..Rule::of("/x") };
            let more = more.min(free);
            if is_full(&rule, &figures(used, free)) {
                prop_assert!(is_full(&rule, &figures(used + more, free - more)));
            }
            // exactly what is allowed is well, as df has it
            let exact = Figures { used: most, free: 100 - most, ..Figures::default() };
            prop_assert!(!is_full(&rule, &exact));
        }

        #[test]
        fn no_figures_are_too_odd(used: u64, free: u64, inodes_used: u64, inodes_free: u64) {
            let figures = Figures { used, free, inodes_used, inodes_free, read_only: false };
            let rule = Rule { min_free: Some(Amount::Share(Share::percent(5))), ..Rule::of("/x") };
            let judged = judged(&rule, &Ok(figures));
            prop_assert_eq!(judged.findings.is_empty(), !is_full(&rule, &figures));
        }
    }
}
