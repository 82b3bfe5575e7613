//! Runs the commands of all probes, so many at a time.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

use super::{Raw, Rule};
use crate::check::Looking;
use crate::clock::rough;
use crate::guard::{self, End};

/// So many run at a time for each processor, and at the most: each has a guard of a few megabytes beside it, and most
/// wait for something else.
const EACH: usize = 4;
const MOST: usize = 16;

/// A thread only waits for its guard.
const STACK: usize = 256 << 10;

/// Runs the commands of probes, each within its own limit and all until the deadline of the run.
pub fn look(rules: &[&Rule], looking: &Looking<'_>) -> Vec<Raw> {
    let results: Mutex<Vec<Option<Raw>>> = Mutex::new(vec![None; rules.len()]);
    let queue = Mutex::new(rules.iter().enumerate());
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, rule)) = next else {
                return;
            };
            let raw = ask(rule, looking);
            results.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(raw);
        }
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let most = (processors * EACH).min(MOST).min(rules.len());
    thread::scope(|scope| {
        for _ in 1..most {
            let helper = thread::Builder::new().name("exec probe".to_owned());
            // where no more threads can be had, there are fewer at a time
            if helper.stack_size(STACK).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let unasked = || Raw::NotAsked("it was not run".to_owned());
    (results.into_iter())
        .map(|raw| raw.unwrap_or_else(unasked))
        .collect()
}

fn ask(rule: &Rule, looking: &Looking<'_>) -> Raw {
    let limit = rule.timeout.unwrap_or(looking.check_timeout);
    let all = rough(looking.run_timeout);
    if Instant::now() >= looking.deadline {
        return Raw::NotAsked(format!(
            "it was not run: the time of the run was over (run_timeout {all})"
        ));
    }
    match guard::run(&rule.task(limit), looking.deadline) {
        Ok(answer) if answer.end == End::Abandoned => Raw::NotAsked(format!(
            "it was not run to its end, and was killed: the time of the run was over (run_timeout {all})"
        )),
        Ok(answer) => Raw::Answered(answer),
        Err(why) => Raw::NotAsked(why),
    }
}
