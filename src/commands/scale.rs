//! `watchdog scale`: so many replicas now, because a person says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::act::Acted;
use crate::cli;
use crate::commands::{instead, print, print_or_log};
use crate::config::{Config, Scale};
use crate::error::Error;
use crate::report::page::Style;
use crate::report::text::table;
use crate::run::{Access, Observations, Run};
use crate::scale::Replicas;
use crate::scale::measure::Measured;
use crate::verdict::Verdict;

/// Brings a scale to a number of replicas, recorded as a change like any other; cooldown and budget hold for the watchdog,
/// and not for a person. Refused, with exit code 1, outside its bounds, and where its replicas could not be counted.
pub fn run(config: Config, options: &cli::Scale, style: Style) -> Result<u8, Error> {
    let scale = Arc::clone(named(&config, &options.name)?);
    let (name, to) = (&scale.name, options.replicas);
    if let Some(why) = outside(&scale, to) {
        ::log::error!("{name} is not scaled: {why}");
        return Ok(1);
    }
    // whoever asked for it is looking: there is nobody to alert
    let run = Run::begin(config, Some(BTreeSet::from([name.clone()])), false, false);
    let mut session = run.open(false)?;
    if let Access::Refused(error) = session.access {
        return Err(error.into());
    }
    let measured = run.measure(&session, std::slice::from_ref(&scale));
    let Some(measured) = measured.into_iter().next() else {
        return Ok(1);
    };
    if let Some(why) = refusal(&measured) {
        ::log::error!("{name} is not scaled: {why}");
        return Ok(1);
    }
    let count = measured.replicas.as_ref().map_or(0, Replicas::count);
    if count == to {
        print(&format!("{name}: {to} run already\n"))?;
        return Ok(0);
    }
    let mut results = run.settle(&mut session, &Observations::new(), &[], &Acted::default());
    run.scale_to(&mut session, &mut results, &scale, &measured, to);
    run.record(&mut session, &results);
    let report = run.report(session, results, None)?;

    print_or_log(&table(&report, style));
    let is_done = report.scales.iter().all(|it| it.verdict == Verdict::Scaled);
    Ok(u8::from(!is_done))
}

/// The scale of a name.
fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Scale>, Error> {
    let found = config.scales.iter().find(|scale| scale.name == name);
    found.ok_or_else(|| {
        let shown = crate::text::printable(name.as_bytes(), 100);
        if config.service(name).is_some() {
            return Error::Usage(format!("`{shown}` is a service and not a scale"));
        }
        let scales = config.scales.iter().map(|scale| scale.name.as_str());
        Error::Usage(format!(
            "no scale `{shown}` in {}{}",
            config.path.display(),
            instead(name, scales)
        ))
    })
}

/// Why a number is none that it may have.
fn outside(scale: &Scale, to: u32) -> Option<String> {
    let rule = &scale.rule;
    let (min, max) = (rule.min, rule.max);
    (!(min..=max).contains(&to)).then(|| {
        let more = if to == 0 {
            "; to have none, stop them by the means that started them: they are then left alone"
        } else {
            "; its table says so, and can be changed"
        };
        format!("it has {min} to {max} replicas, and not {to}{more}")
    })
}

/// Why nothing can be done to the replicas now.
fn refusal(measured: &Measured) -> Option<String> {
    match &measured.replicas {
        Err(why) => Some(format!("its replicas could not be counted: {why}")),
        Ok(replicas) => replicas.left_alone.clone(),
    }
}
