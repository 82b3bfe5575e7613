//! The steps of a run that are about scales. They come after the services: what a restart has brought back is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use super::{Access, Results, Run, Session};
use crate::clock::later;
use crate::config::Scale;
use crate::decide::scale::{Count, Due, Facts, ScaleDecision, decide};
use crate::scale::Context;
use crate::scale::change::{Changed, change};
use crate::scale::measure::{Measured, measure};
use crate::settle::AlertConfig;
use crate::settle::scale::{ScaleOutcome, record_change, recover_change, settle_scale};
use crate::state::State;
use crate::state::journal::{self, Entry};
use crate::state::scale::{Change, ScaleState};

/// A change that is to be made.
struct Ready<'a> {
    scale: &'a Scale,
    measured: &'a Measured,
    due: &'a Due,
}

impl Run {
    /// Looks at the scales that were asked for, decides about each, makes what changes are due, and adds what it came to.
    pub fn scale(&self, session: &mut Session, results: &mut Results) {
        let scales: Vec<Arc<Scale>> = (self.config.scales.iter())
            .filter(|scale| self.is_about(&scale.name))
            .cloned()
            .collect();
        if scales.is_empty() {
            return;
        }
        let measured = self.measure(session, &scales);
        if matches!(session.access, Access::Writable { .. }) {
            let recovered = scales
                .iter()
                .zip(&measured)
                .filter_map(|(scale, measured)| {
                    recover_change(&mut session.state, scale, measured, self.now.wall)
                });
            results.entries.extend(recovered);
        }
        let decisions: Vec<ScaleDecision> = (scales.iter().zip(&measured))
            .map(|(scale, measured)| self.decide_scale(session, scale, measured))
            .collect();
        let ready: Vec<Ready<'_>> = (scales.iter().zip(&measured).zip(&decisions))
            .filter_map(|((scale, measured), decision)| {
                let due = decision.change.as_ref()?;
                Some(Ready {
                    scale,
                    measured,
                    due,
                })
            })
            .collect();
        let outcomes = self.change(session, results, &ready);
        let alerting = match session.access {
            Access::ReadOnly => AlertConfig { channels: &[] },
            _ => self.alerting(),
        };
        for ((scale, measured), decision) in scales.iter().zip(&measured).zip(&decisions) {
            let settled = settle_scale(
                &mut session.state,
                scale,
                decision,
                measured,
                outcomes.get(&*scale.name),
                self.now.wall,
                alerting,
            );
            results.scales.push(settled.report);
            results.must_flush |= settled.must_persist || !settled.entries.is_empty();
            results.entries.extend(settled.entries);
        }
        results.must_flush |= !outcomes.is_empty();
    }

    /// Has `to` replicas of a scale run, because a person says so.
    pub fn scale_to(
        &self,
        session: &mut Session,
        results: &mut Results,
        scale: &Arc<Scale>,
        measured: &Measured,
        to: u32,
    ) {
        let Ok(replicas) = &measured.replicas else {
            return;
        };
        results.entries.extend(recover_change(
            &mut session.state,
            scale,
            measured,
            self.now.wall,
        ));
        let decision = ScaleDecision::by_hand(replicas.count(), to);
        let ready = decision.change.iter().map(|due| Ready {
            scale,
            measured,
            due,
        });
        let ready: Vec<Ready<'_>> = ready.collect();
        let outcomes = self.change(session, results, &ready);
        let settled = settle_scale(
            &mut session.state,
            scale,
            &decision,
            measured,
            outcomes.get(&*scale.name),
            self.now.wall,
            AlertConfig { channels: &[] },
        );
        results.scales.push(settled.report);
        results.entries.extend(settled.entries);
        results.must_flush = true;
    }

    /// Looks at scales.
    pub fn measure(&self, session: &Session, scales: &[Arc<Scale>]) -> Vec<Measured> {
        let scales: Vec<&Scale> = scales.iter().map(|scale| &**scale).collect();
        measure(&scales, &session.state, &self.scaling())
    }

    fn scaling(&self) -> Context<'_> {
        Context {
            containers: &self.config.containers,
            prometheus: self.config.prometheus.as_deref(),
            check_timeout: self.config.check_timeout,
            run_ends: self.deadline,
            now: &self.now,
        }
    }

    fn decide_scale(&self, session: &Session, scale: &Scale, measured: &Measured) -> ScaleDecision {
        let nothing = ScaleState::default();
        let known = session.state.scales.get(&scale.name);
        let known = known.unwrap_or(&nothing);
        let count = match &measured.replicas {
            Ok(replicas) => replicas.counted(known.wanted.as_ref(), scale.rule.max),
            Err(why) => Count::Unknown(format!("the replicas could not be counted: {why}")),
        };
        decide(&Facts {
            rule: &scale.rule,
            known,
            count: &count,
            load: &measured.load,
            now: self.now.wall,
            trusted: session.trusted,
            jumped: session.state.jumped_at == Some(self.now.wall),
        })
    }

    /// Records changes and makes them. Where the state cannot be written, none is made.
    fn change<'a>(
        &self,
        session: &mut Session,
        results: &mut Results,
        ready: &[Ready<'a>],
    ) -> BTreeMap<&'a str, ScaleOutcome> {
        let mut outcomes = BTreeMap::new();
        if ready.is_empty() {
            return outcomes;
        }
        let mut skip = |why: &str| {
            for it in ready {
                let why = format!("not scaled to {}, because {why}", it.due.to);
                outcomes.insert(&*it.scale.name, ScaleOutcome::Skipped(why));
            }
        };
        let Access::Writable { store, lock_file } = &session.access else {
            if !matches!(session.access, Access::ReadOnly) {
                skip("the state cannot be written");
            }
            return outcomes;
        };
        if !lock_file.holds() {
            skip("the lock was removed meanwhile, and another run may be at it");
            return outcomes;
        }
        // restarts before it may have taken minutes
        let at = later(self.now.wall, self.began.elapsed());
        let mut recorded = session.state.clone();
        let entries: Vec<Entry> = (ready.iter())
            .map(|it| {
                let change = Change {
                    at,
                    from: it.due.from,
                    to: it.due.to,
                };
                record_change(&mut recorded, it.scale, change, &it.due.why)
            })
            .collect();
        // what was done to services is in the audit trail before the state says that it is over
        journal::append_or_warn(store.dir(), &results.entries);
        results.entries.clear();
        if let Err(error) = store.save_twice(&mut recorded) {
            skip("the state cannot be written");
            // the first of the two may be on the disk: as nothing was done, no run was cut short
            let _ = store.save(&mut session.state);
            session.access = Access::Refused(error);
            return outcomes;
        }
        session.state = recorded;
        journal::append_or_warn(store.dir(), &entries);
        for (name, changed) in self.make(ready, &session.state) {
            outcomes.insert(name, ScaleOutcome::Made(Box::new(changed)));
        }
        outcomes
    }

    /// Makes changes, side by side; those of one Compose project one after the other.
    fn make<'a>(&self, ready: &[Ready<'a>], state: &State) -> Vec<(&'a str, Changed)> {
        let mut groups: BTreeMap<String, Vec<&Ready<'a>>> = BTreeMap::new();
        for it in ready {
            let project = it.scale.rule.compose.as_ref().map(|it| it.project.clone());
            let group = project.map_or_else(
                || format!("units {}", it.scale.name),
                |project| format!("project {project}"),
            );
            groups.entry(group).or_default().push(it);
        }
        let one = |it: &Ready<'a>| {
            let known = state.scales.get(&it.scale.name);
            let wanted = known.and_then(|known| known.wanted.as_ref());
            let before = it.measured.replicas.as_ref().ok()?;
            let failed = before.failed_of(wanted, it.scale.rule.max);
            let changed = change(it.scale, before, &failed, it.due.to, &self.scaling());
            Some((&*it.scale.name, changed))
        };
        let all = |group: Vec<&Ready<'a>>| -> Vec<(&'a str, Changed)> {
            group.into_iter().filter_map(one).collect()
        };
        let mut groups: Vec<Vec<&Ready<'a>>> = groups.into_values().collect();
        let last = groups.pop().unwrap_or_default();
        thread::scope(|scope| {
            let all = &all;
            let mut made = Vec::new();
            let mut helpers = Vec::new();
            for group in groups {
                let (group, kept) = (group.clone(), group);
                let helper = thread::Builder::new()
                    .name("scale".to_owned())
                    .spawn_scoped(scope, move || all(group));
                match helper {
                    Ok(helper) => helpers.push(helper),
                    Err(_) => made.extend(all(kept)),
                }
            }
            made.extend(all(last));
            for helper in helpers {
                // one that came to nothing is taken up by the next run
                made.extend(helper.join().unwrap_or_default());
            }
            made
        })
    }
}
