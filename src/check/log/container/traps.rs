//! What in a rule for the output of a container may not do what was meant: it is held against the output as it is now.

use std::time::{Duration, Instant};

use super::super::held::Lines;
use super::super::{Rule, patterns, stamp};
use super::judge::Shown;
use super::read;
use crate::check::container::{Containers, Rule as Named, Wanted, ask};
use crate::check::trap::Trap;
use crate::clock::Reading;
use crate::text::printable;

/// So much of the last line is quoted, in bytes.
const QUOTED: usize = 120;

/// What is in the way of a rule now, found out within `limit`.
pub(in super::super) fn traps(
    rule: &Rule,
    named: &Named,
    engine: &Containers,
    limit: Duration,
) -> Vec<Trap> {
    const UNTIL: &str = "until then nothing of it is judged";
    // that it is not there is a trap of the container
    let wanted = [Wanted::of(named)];
    let deadline = Instant::now() + limit;
    let Ok(answer) = ask(engine, &wanted, None, &Reading::take(), deadline) else {
        return Vec::new();
    };
    let Some(described) = answer.described(named, engine) else {
        return Vec::new();
    };
    let output = match read(&described, rule.lines, None, limit) {
        Ok(output) => output,
        Err(why) => {
            let message = format!("{}: {why}", rule.title());
            return vec![Trap::of("container", message, UNTIL)];
        }
    };
    let lines: Vec<Shown> = output.lines.iter().map(Shown::of).collect();
    let lines = &lines[lines.len().saturating_sub(rule.lines)..];
    let Some(last) = lines.last() else {
        return vec![Trap::of(
            "container",
            format!("{} is empty", rule.title()),
            "see `docker logs`: its program may write into a file, or keep back what it prints (Python without -u does)",
        )];
    };
    let name = rule.title();
    let held = Lines {
        name: &name,
        count: lines.len(),
        last: printable(&last.text, QUOTED),
    };
    let mut traps = Vec::new();
    if rule.fault().is_none() {
        let newest = lines.iter().rev().map(|line| &*line.text);
        let missed = patterns::missed(&rule.expect, newest);
        traps.extend(missed.map(|(expect, found)| held.without(expect, found)));
    }
    if let Some(stamp) = &rule.stamp {
        let now = chrono::Utc::now();
        let reader = stamp::Reader::new(stamp, now);
        let newest = (lines.iter().rev()).find_map(|line| reader.read(&line.text, line.time));
        traps.extend(held.stamped(stamp, newest, now));
    }
    traps
}
