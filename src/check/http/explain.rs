//! What an HTTP probe asks, and how it stood, for `why`.

use std::time::Duration;

use super::Rule;
use crate::check::LastLook;
use crate::check::lasting::{self, Failing};
use crate::check::pattern::Pattern;
use crate::clock::exact;

/// What the probe does and how it stands, in lines for `why`. `timeout` is the one that holds for it.
pub(super) fn explain(
    rule: &Rule,
    timeout: Duration,
    state: &Failing,
    last: LastLook<'_>,
) -> Vec<String> {
    let mut asks = vec![format!(
        "answer {} with {}",
        rule.method.method(),
        rule.statuses()
    )];
    let patterns = |patterns: &[Pattern]| {
        let shown: Vec<String> = (patterns.iter())
            .map(|pattern| format!("`{}`", pattern.source()))
            .collect();
        shown.join(" and ")
    };
    if !rule.expect.is_empty() {
        asks.push(format!(
            "with a body that matches {}",
            patterns(&rule.expect)
        ));
    }
    match rule.forbid.as_slice() {
        [] => {}
        [one] => asks.push(format!(
            "with a body that does not match `{}`",
            one.source()
        )),
        many => asks.push(format!(
            "with a body that matches none of {}",
            patterns(many)
        )),
    }
    let mut lines = vec![format!(
        "http {} has to {}, within {}",
        rule.url,
        asks.join(", "),
        exact(timeout)
    )];
    lines.extend(
        rule.max_time
            .map(|most| format!("it is slow above {}", exact(most))),
    );
    lines.extend(lasting::explain(state, rule.for_, last));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn why_says_what_is_asked_and_how_it_stands() {
        let last = LastLook {
            time: Some(at(0)),
            clock: None,
        };
        let pattern = |text| Pattern::new(text).unwrap();
        let full = Rule {
            expect: vec![pattern("ok"), pattern("UP")],
            forbid: vec![pattern("degraded")],
            max_time: Some(Duration::from_secs(2)),
            for_: Duration::from_secs(300),
            ..Rule::of("https://me:canary@api.example/health")
        };
        let failing = Failing {
            failing_since: Some(at(-90).into()),
            ..Failing::default()
        };
        let ten = Duration::from_secs(10);
        assert_eq!(
            explain(&full, ten, &failing, last),
            [
                "http https://api.example/*** has to answer GET with 2xx, with a body that matches `ok` and `UP`, \
                 with a body that does not match `degraded`, within 10s",
                "it is slow above 2s",
                "it has failed for 1m 30s, and counts once that is 5m"
            ]
        );
        let two = Rule {
            forbid: vec![pattern("a"), pattern("b")],
            ..Rule::of("unix:/run/app.sock:/health")
        };
        assert_eq!(
            explain(&two, ten, &Failing::default(), last),
            [
                "http unix:/run/app.sock:/health has to answer GET with 2xx, \
                 with a body that matches none of `a` and `b`, within 10s"
            ]
        );
    }
}
