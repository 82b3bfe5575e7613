//! `watchdog check`: the main job.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::cli;
use crate::commands::discovered::Containers;
use crate::commands::{print_or_log, selected};
use crate::config::Config;
use crate::error::Error;
use crate::report::page::Style;
use crate::report::text::table;
use crate::report::{RunReport, summary};
use crate::run::Run;
use crate::verdict::{ExitCode, Verdict};

/// One run, from the config to the exit code; then the ping says how it ended.
pub fn run(
    config: Config,
    containers: Containers,
    options: &cli::Check,
    style: Style,
) -> Result<u8, Error> {
    let Some(ping) = config.ping.clone().filter(|_| !options.dry_run) else {
        return whole(config, containers, options, style).map(|report| report.exit_code);
    };
    let done = catch_unwind(AssertUnwindSafe(|| {
        whole(config, containers, options, style)
    }));
    match &done {
        Ok(Ok(report)) => ping.send(report.exit_code, &sentences(report)),
        Ok(Err(error)) => ping.send(error.code(), &error.to_string()),
        Err(_) => {
            let fault = Error::fault();
            ping.send(fault.code(), &fault.to_string());
        }
    }
    match done {
        Ok(done) => done.map(|report| report.exit_code),
        Err(panic) => resume_unwind(panic),
    }
}

/// What is not well, a line each.
fn sentences(report: &RunReport) -> String {
    let services = report.services.iter();
    let unwell = services.filter(|service| service.verdict.exit_code() != ExitCode::Ok);
    let scales = report.scales.iter();
    let scales = scales.filter(|scale| scale.verdict.exit_code() != ExitCode::Ok);
    let sentences: Vec<String> = unwell
        .map(summary::sentence)
        .chain(scales.map(summary::of_scale))
        .collect();
    sentences.join("\n")
}

fn whole(
    config: Config,
    containers: Containers,
    options: &cli::Check,
    style: Style,
) -> Result<RunReport, Error> {
    let asked = (!options.services.is_empty()).then(|| selected(&config, &options.services));
    let watched = !options.quiet && crate::progress::is_watched();
    let run = Run::begin(config, asked.transpose()?, !options.no_mail, watched)
        .with_containers(containers);

    let mut session = run.open(options.dry_run)?;
    run.take_requests(&mut session);
    let mut observations = run.observe(&session);
    run.recover(&mut session, &observations);
    let decisions = run.decide(&session, &mut observations);
    run.refuse_requests(&mut session, &decisions);
    let acted = run.act(&mut session, &observations, &decisions);
    let mut results = run.settle(&mut session, &observations, &decisions, &acted);
    run.scale(&mut session, &mut results);
    run.record(&mut session, &results);
    let sent = run.alert(&mut session, &results);
    run.publish(&session, &results);
    let report = run.report(session, results, Some(sent))?;

    summary::log(&report);
    show(&report, options, style)?;
    // the program ends
    std::mem::forget((run, observations, decisions, acted));
    Ok(report)
}

fn show(report: &RunReport, options: &cli::Check, style: Style) -> Result<(), Error> {
    if options.quiet && report.exit_code == ExitCode::Ok.code() {
        return Ok(());
    }
    let text = if options.json {
        let json =
            serde_json::to_string(report).map_err(|error| Error::Internal(error.to_string()))?;
        json + "\n"
    } else if options.quiet {
        // what cron mails is read by somebody who was just woken: only what is not well
        let mut unwell = report.clone();
        let is_unwell = |verdict: Verdict| verdict.exit_code() != ExitCode::Ok;
        unwell.services.retain(|it| is_unwell(it.verdict));
        unwell.scales.retain(|it| is_unwell(it.verdict));
        table(&unwell, style)
    } else {
        table(report, style)
    };
    print_or_log(&text);
    Ok(())
}
