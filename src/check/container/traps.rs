//! What of containers may not do what was meant.

use std::time::{Duration, Instant};

use super::{Containers, Rule, ask, judge};
use crate::check::Severity;
use crate::check::trap::Trap;
use chrono::Utc;

/// The traps of each rule, in order: as the next run will find them.
pub fn traps(containers: &Containers, rules: &[&Rule], run_ends: Instant) -> Vec<Vec<Trap>> {
    let answer = ask(containers, rules, None, run_ends);
    let of_rule = |rule: &&Rule| {
        let (message, help) = match &answer {
            Err(why) => (
                format!("{why}; until that is mended it is unknown in each run"),
                "start the engine, or name its socket: [containers] socket = \"unix:///run/docker.sock\"",
            ),
            Ok(answer) => {
                let seen = judge(rule, answer, None, Utc::now(), Duration::ZERO, |_, _| false);
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
        .map(|rule| of_rule(rule).into_iter().collect())
        .collect()
}
