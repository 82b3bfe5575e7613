//! What replicas use, on average: their processor time since the last look, or their memory now.
//!
//! By their control groups, as checks of what a service uses have it; of containers whose processes are not seen from here
//! by their engine.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{Context, Replica, Replicas};
use crate::check::usage::cgroup::{Hierarchies, of_container};
use crate::client::engine::{Details, Engine, Stats};
use crate::clock::{age, rough};
use crate::config::scale::{Metric, Scale};
use crate::decide::scale::Load;
use crate::state::scale::{Sample, Samples};

/// Over less time than this an average says little.
const LEAST: Duration = Duration::from_secs(1);

/// What a replica uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    cpu: Option<Sample>,
    memory: Option<u64>,
    limit: Option<u64>,
}

/// The average of the replicas that are old enough, and what has to be remembered of all of them.
pub(super) fn average(
    scale: &Scale,
    replicas: &Replicas,
    known: Option<&Samples>,
    context: &Context<'_>,
) -> (Load, Option<Samples>) {
    let mut replicas = replicas.running.clone();
    let engine = if scale.rule.compose.is_some() {
        match describe(&mut replicas, context) {
            Ok(engine) => Some(engine),
            Err(why) => return (Load::Unreadable(why), None),
        }
    } else {
        None
    };
    let hierarchies = Hierarchies::read();
    let mut used = Vec::with_capacity(replicas.len());
    for replica in &replicas {
        let found = match (&replica.group, &engine) {
            (Some(group), _) => of_group(&hierarchies, group),
            (None, Some(engine)) => of_engine(engine, replica, context),
            (None, None) => Err("it has no control group".to_owned()),
        };
        match found {
            Ok(found) => used.push(found),
            Err(why) => {
                let why = format!("what replica {} uses cannot be read: {why}", replica.number);
                return (Load::Unreadable(why), None);
            }
        }
    }
    let boot = Arc::clone(&context.now.boot_id);
    let each = replicas.iter().zip(&used).filter_map(|(replica, used)| {
        let sample = used.cpu?;
        Some((replica.id.clone(), kept(sample, &replica.id, known, &boot)))
    });
    let samples = Samples {
        each: each.collect(),
        boot_id: Arc::clone(&boot),
    };
    let known = known.filter(|known| known.boot_id == boot);
    let load = of(scale, &replicas, &used, known);
    let samples = (scale.rule.metric == Metric::Cpu).then_some(samples);
    (load, samples)
}

/// The sample to remember: the former one where the new one is too close to it.
fn kept(sample: Sample, id: &str, known: Option<&Samples>, boot: &Arc<str>) -> Sample {
    let former = known.filter(|known| known.boot_id == *boot);
    let former = former.and_then(|known| known.each.get(id));
    match former {
        Some(former) if share(former, &sample).is_none() && former.used_us <= sample.used_us => {
            *former
        }
        _ => sample,
    }
}

/// The part of a processor that was used between two looks; absent where they are too close, or not of one run.
#[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
fn share(before: &Sample, after: &Sample) -> Option<f64> {
    let passed = after.at_ms.checked_sub(before.at_ms)?;
    let used = after.used_us.checked_sub(before.used_us)?;
    (u128::from(passed) >= LEAST.as_millis()).then(|| used as f64 / (passed as f64 * 1000.0))
}

/// The average.
#[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
fn of(scale: &Scale, replicas: &[Replica], used: &[Used], known: Option<&Samples>) -> Load {
    let mut figures = Vec::new();
    let grace = scale.rule.start_grace;
    let is_old = |replica: &&Replica| replica.age.is_none_or(|age| age >= grace);
    let old = replicas.iter().filter(is_old).count();
    for (replica, used) in replicas.iter().zip(used) {
        if !is_old(&replica) {
            continue;
        }
        if scale.rule.metric == Metric::Memory {
            let number = replica.number;
            let Some(memory) = used.memory else {
                let why = format!("the memory of replica {number} is not counted by the kernel");
                return Load::Unreadable(why);
            };
            let Some(limit) = used.limit.filter(|limit| *limit > 0) else {
                let why = format!(
                    "replica {number} has no limit on its memory, so there is nothing to hold it against; set one (mem_limit, MemoryMax=)"
                );
                return Load::Unreadable(why);
            };
            figures.push(memory as f64 / limit as f64);
            continue;
        }
        let Some(now) = &used.cpu else {
            let why = format!(
                "the processor time of replica {} is not counted by the kernel",
                replica.number
            );
            return Load::Unreadable(why);
        };
        let before = known.and_then(|known| known.each.get(&replica.id));
        figures.extend(before.and_then(|before| share(before, now)));
    }
    if figures.is_empty() {
        return Load::NotYet(if old == 0 {
            format!(
                "there is no average yet: no replica is {} old (start_grace)",
                rough(grace)
            )
        } else {
            "there is no average yet: it is that since the last run".to_owned()
        });
    }
    Load::Read(figures.iter().sum::<f64>() / figures.len() as f64)
}

/// Since the boot, in milliseconds.
fn now_ms() -> u64 {
    let read = clock_gettime(ClockId::CLOCK_BOOTTIME);
    read.map_or(0, |time| {
        u64::try_from(Duration::from(time).as_millis()).unwrap_or(u64::MAX)
    })
}

fn of_group(hierarchies: &Hierarchies, group: &str) -> Result<Used, String> {
    let failed = |error: std::io::Error| format!("its cgroup {group}: {error}");
    let used_us = hierarchies.cpu_us(group).map_err(failed)?;
    let at_ms = now_ms();
    Ok(Used {
        cpu: used_us.map(|used_us| Sample { used_us, at_ms }),
        memory: hierarchies.memory(group).map_err(failed)?,
        limit: hierarchies.memory_limit(group),
    })
}

/// What the engine counts.
fn of_engine(engine: &Engine, replica: &Replica, context: &Context<'_>) -> Result<Used, String> {
    let limit = context.containers.call_limit().min(context.left());
    let stats = engine.stats(&[&replica.id], limit, context.run_ends);
    let stats: Stats = match stats.into_iter().next() {
        Some(Ok(stats)) => stats,
        Some(Err(trouble)) => return Err(trouble.to_string()),
        None => return Err("the engine was not asked".to_owned()),
    };
    let at_ms = now_ms();
    let total = stats.cpu_stats.cpu_usage.total_usage;
    Ok(Used {
        cpu: total.map(|nanos| Sample {
            used_us: nanos / 1000,
            at_ms,
        }),
        memory: stats.memory(),
        limit: stats.memory_stats.limit,
    })
}

/// Adds to containers how old they are, and their control groups.
fn describe(replicas: &mut Vec<Replica>, context: &Context<'_>) -> Result<Engine, String> {
    let engine = Engine::at(&context.containers.path()?);
    let ids: Vec<&str> = replicas.iter().map(|it| it.id.as_str()).collect();
    let limit = context.containers.call_limit().min(context.left());
    let answers = engine.details(&ids, limit, context.run_ends);
    let mut described: BTreeMap<String, Details> = BTreeMap::new();
    for (replica, answer) in replicas.iter().zip(answers) {
        let details = answer.map_err(|trouble| {
            format!(
                "replica {} could not be looked at: {trouble}",
                replica.number
            )
        })?;
        described.insert(replica.id.clone(), details);
    }
    for replica in replicas.iter_mut() {
        let Some(details) = described.get(&replica.id) else {
            continue;
        };
        let started = details.state.started_at;
        replica.age = started.map(|started| age(context.now.wall, started));
        let pid = details.state.pid;
        let groups = (pid > 0).then(|| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        replica.group = groups
            .flatten()
            .and_then(|groups| of_container(&groups, &replica.id));
    }
    // what has ended since is a replica no more
    let runs = |replica: &Replica| {
        described
            .get(&replica.id)
            .is_some_and(|details| details.state.running)
    };
    replicas.retain(runs);
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_was_used_of_the_time_that_passed() {
        let sample = |used_us, at_ms| Sample { used_us, at_ms };
        for (before, after, expected) in [
            ((0, 0), (500_000, 1000), Some(0.5)),
            ((1_000_000, 5000), (4_000_000, 7000), Some(1.5)),
            ((0, 0), (0, 60_000), Some(0.0)),
            // too close
            ((0, 0), (500_000, 999), None),
            // of another run, or another boot
            ((900, 0), (500, 60_000), None),
            ((0, 9000), (500, 1000), None),
        ] {
            let found = share(&sample(before.0, before.1), &sample(after.0, after.1));
            assert_eq!(found, expected, "{before:?} {after:?}");
        }
    }
}
