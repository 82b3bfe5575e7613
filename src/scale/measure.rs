//! Looking at all scales of a run, side by side.

use std::thread;
use std::time::Instant;

use super::{Context, Replicas, Target, asked, count, usage};
use crate::check::container::list;
use crate::client::engine::Listed;
use crate::config::scale::{Metric, Scale};
use crate::decide::scale::Load;
use crate::state::State;
use crate::state::scale::{Samples, ScaleState};

/// What was seen of a scale.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The replicas; the error is a sentence.
    pub replicas: Result<Replicas, String>,
    /// The load.
    pub load: Load,
    /// The processor time that the replicas had used, where that is the load.
    pub samples: Option<Samples>,
}

impl Measured {
    fn unseen(why: &str) -> Self {
        Self {
            replicas: Err(why.to_owned()),
            load: Load::Unreadable(why.to_owned()),
            samples: None,
        }
    }
}

/// Counts the replicas of scales and measures their loads, each within its time. Engines and managers are asked anew: what
/// the run has restarted is there by now.
pub fn measure(scales: &[&Scale], state: &State, context: &Context<'_>) -> Vec<Measured> {
    let asks_engine = scales
        .iter()
        .any(|scale| matches!(Target::of(scale), Target::Compose(_)));
    let listed = asks_engine.then(|| list(context.containers, context.run_ends));
    let one = |scale: &Scale| {
        if Instant::now() >= context.run_ends {
            return Measured::unseen("it was not looked at: the time of the run was over");
        }
        look(
            scale,
            state.scales.get(&scale.name),
            listed.as_ref(),
            context,
        )
    };
    thread::scope(|scope| {
        let helpers: Vec<_> = scales
            .iter()
            .skip(1)
            .map(|scale| {
                thread::Builder::new()
                    .name("scale".to_owned())
                    .spawn_scoped(scope, || one(scale))
            })
            .collect();
        let first = scales.first().map(|scale| one(scale));
        let others = helpers.into_iter().map(|helper| match helper {
            Ok(helper) => helper
                .join()
                .unwrap_or_else(|_| Measured::unseen("internal error (bug); please report it")),
            Err(_) => Measured::unseen("cannot create a thread (ulimit -u, TasksMax=)"),
        });
        first.into_iter().chain(others).collect()
    })
}

fn look(
    scale: &Scale,
    known: Option<&ScaleState>,
    listed: Option<&Result<Vec<Listed>, String>>,
    context: &Context<'_>,
) -> Measured {
    let replicas = count(scale, listed, context);
    let (load, samples) = match (&scale.rule.metric, &replicas) {
        (Metric::Asked(asked), _) => {
            let load = match asked::number(scale, asked, context) {
                Ok(number) => Load::Read(number.max(0.0)),
                Err(why) => Load::Unreadable(format!("the metric could not be read: {why}")),
            };
            (load, None)
        }
        (Metric::Cpu | Metric::Memory, Ok(replicas)) => {
            let known = known.and_then(|known| known.samples.as_ref());
            usage::average(scale, replicas, known, context)
        }
        (Metric::Cpu | Metric::Memory, Err(why)) => (Load::Unreadable(why.clone()), None),
    };
    Measured {
        replicas,
        load,
        samples,
    }
}
