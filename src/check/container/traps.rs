//! What of containers may not do what was meant.

use std::time::{Duration, Instant};

use super::{Containers, Rule, Wanted, ask, judge, select};
use crate::check::Severity;
use crate::check::trap::Trap;
use crate::clock::Reading;

/// The traps of each rule, in order: as the next run will find them.
pub fn traps(containers: &Containers, rules: &[&Rule], run_ends: Instant) -> Vec<Vec<Trap>> {
    let wanted: Vec<Wanted> = rules.iter().copied().map(Wanted::of).collect();
    let now = Reading::take();
    let answer = ask(containers, &wanted, None, &now, run_ends);
    // the container of a rule, where it is one
    let id = |rule: &Rule| match select(rule, &answer.as_ref().ok()?.listed).found[..] {
        [container] => Some(container.id.as_str()),
        _ => None,
    };
    let of_rule = |(number, rule): (usize, &&Rule)| {
        let earlier = rules[..number].iter();
        let mut same = earlier.filter(|other| id(rule).is_some() && id(other) == id(rule));
        if let Some(other) = same.next() {
            let message = format!("the {rule} is the {other}, which another service is");
            return Some(Trap::of(
                "",
                message,
                "two services for one container would restart it twice: take one of them out",
            ));
        }
        let (message, help) = match &answer {
            Err(why) => (
                format!("{why}; until that is mended it is unknown in each run"),
                "start the engine, or name its socket: [containers] socket = \"unix:///run/docker.sock\"",
            ),
            Ok(answer) => {
                let seen = judge(rule, answer, None, now.wall, Duration::ZERO, |_, _| false);
                let worst = seen.findings.iter().max_by_key(|finding| finding.severity);
                let worst = worst.filter(|finding| finding.severity > Severity::Warning)?;
                (
                    worst.message.clone(),
                    "see `docker ps -a`; a container is named by its name, or by project and service of Compose",
                )
            }
        };
        Some(Trap::of("", message, help))
    };
    rules
        .iter()
        .enumerate()
        .map(|entry| of_rule(entry).into_iter().collect())
        .collect()
}
