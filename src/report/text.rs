//! Tables for people.

use std::time::Duration;

use serde_json::Number;

use super::page::{Page, Style, columns};
use super::{Deliveries, RunReport, ScaleReport, ServiceReport};
use crate::amount::{rough_bytes, rounded};
use crate::check::{Finding, Severity};
use crate::clock;
use crate::notify::Channel;
use crate::restart::{Action, MethodName, Operation};
use crate::state::journal::Entry;

/// The columns that a verdict fills: as many as the longest name of one.
const VERDICTS: usize = 14;

/// Spaces between two columns.
const GAP: usize = 2;

/// Names up to so many columns stand below each other; a longer one pushes its own line alone.
const NAMES: usize = 24;

/// The report as a table: verdict first, then the service, then why, then what was done.
pub fn table(report: &RunReport, style: Style) -> String {
    let mut page = Page::new(style);
    let facts: Vec<String> = report
        .services
        .iter()
        .map(|service| facts(service, report))
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = &String>| {
        texts.map(|text| columns(text)).max().unwrap_or_default()
    };
    // the figures need the room more
    let room = style
        .width
        .saturating_sub(VERDICTS + GAP + GAP + widest(&mut facts.iter()));
    let services = report.services.iter().map(|service| &service.name);
    let scales = report.scales.iter().map(|scale| &scale.name);
    let column = widest(&mut services.chain(scales)).min(NAMES).min(room);
    for (service, facts) in report.services.iter().zip(&facts) {
        add_service(&mut page, service, column, facts);
    }
    for scale in &report.scales {
        add_scale(&mut page, scale, column);
    }
    let mail = report.mail.iter().map(|mail| (Channel::MAIL, mail));
    let others = report.notify.iter().flatten();
    let others = others.map(|(name, sent)| (name.as_str(), sent));
    for (name, deliveries) in mail.chain(others) {
        let &Deliveries { sent, queued } = deliveries;
        if sent > 0 {
            page.line(0, &format!("{name}: {sent} sent"));
        }
        if queued > 0 {
            let line = format!("{name}: {queued} could not be sent yet; the next run tries again");
            page.line(0, &line);
        }
    }
    page.into_text()
}

/// What a table says of a service beside its name.
fn facts(service: &ServiceReport, report: &RunReport) -> String {
    let mut facts = Vec::new();
    if let Some(pid) = service.pid {
        facts.push(format!("PID {pid}"));
    }
    if let (Some(time), Some(since)) = (report.time, service.since)
        && service.verdict.exit_code().code() != 0
    {
        let lasting = clock::age(time, since);
        if lasting >= Duration::from_secs(1) {
            facts.push(format!("for {}", clock::rough(lasting)));
        }
    }
    let memory = service.usage.get("memory_bytes");
    facts.extend(memory.and_then(Number::as_u64).map(rough_bytes));
    let load = service.usage.get("cpu_percent");
    facts.extend(load.map(|percent| format!("{percent}% of a processor")));
    if service.restarts_last_hour > 0 {
        let is_repair = |action: &Action| action.kind == Operation::Repair;
        let made = match &service.action {
            Some(action) if is_repair(action) => "attempts",
            _ => "restarts",
        };
        facts.push(format!(
            "{} of {} {made} in the last hour",
            service.restarts_last_hour, service.max_per_hour
        ));
    }
    facts.join(", ")
}

fn add_service(page: &mut Page, service: &ServiceReport, column: usize, facts: &str) {
    let line = format!("{:<column$}  {facts}", service.name);
    page.verdict(
        service.verdict.name(),
        VERDICTS,
        service.verdict.exit_code(),
        &line,
    );
    add_evidence(page, &service.findings, service.action.as_ref());
    match service.would {
        Some(Operation::Restart) => page.line(4, "would be restarted now"),
        Some(Operation::Repair) => page.line(4, "would be repaired now"),
        Some(Operation::Scale) | None => {}
    }
    for note in &service.notes {
        page.line(4, note);
    }
}

fn add_scale(page: &mut Page, scale: &ScaleReport, column: usize) {
    let mut facts = Vec::new();
    let plural = |number: u32| if number == 1 { "" } else { "s" };
    if let Some(replicas) = scale.replicas {
        facts.push(match scale.desired.filter(|&desired| desired != replicas) {
            Some(desired) => format!("{replicas} of {desired} replicas"),
            None => format!("{replicas} replica{}", plural(replicas)),
        });
    }
    if scale.action.as_ref().is_some_and(|action| action.ok)
        && let Some(desired) = scale.desired
    {
        facts = vec![format!("{desired} replica{}", plural(desired))];
    }
    if let Some(load) = scale.metric.as_ref().and_then(Number::as_f64) {
        facts.push(format!("load {}", rounded(load)));
    }
    if scale.changes_last_hour > 0 {
        facts.push(format!(
            "{} of {} changes in the last hour",
            scale.changes_last_hour, scale.max_per_hour
        ));
    }
    let line = format!("{:<column$}  {}", scale.name, facts.join(", "));
    page.verdict(
        scale.verdict.name(),
        VERDICTS,
        scale.verdict.exit_code(),
        &line,
    );
    add_evidence(page, &[], scale.action.as_ref());
    if let Some(to) = scale.would {
        page.line(
            4,
            &format!("would be scaled to {to} replica{} now", plural(to)),
        );
    }
    for note in &scale.notes {
        page.line(4, note);
    }
}

/// How bad a finding is, in a word.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Unknown => "unknown",
        Severity::Warning => "warning",
    }
}

/// What was done and how it went, in a sentence.
pub fn describe(action: &Action) -> String {
    let took = clock::rough(Duration::from_millis(action.duration_ms));
    let stopped = action
        .old_pid
        .map(|pid| format!("stopped PID {pid}, "))
        .unwrap_or_default();
    if let (Operation::Scale, Some(from), Some(to)) = (action.kind, action.from, action.to) {
        let method = action.method;
        return match &action.error {
            Some(error) => {
                format!(
                    "change from {from} to {to} replicas by {method} failed after {took}: {error}"
                )
            }
            None => format!("scaled from {from} to {to} replicas by {method} in {took}"),
        };
    }
    if action.kind == Operation::Repair {
        return match &action.error {
            Some(error) => format!("repair by {} failed after {took}: {error}", action.method),
            None => format!("repaired by {} in {took}{}", action.method, pending(action)),
        };
    }
    let pending = pending(action);
    match (&action.error, action.new_pid) {
        (Some(error), _) => format!("restart by {} failed after {took}: {error}", action.method),
        (None, Some(pid)) if action.method == MethodName::Itself => {
            format!("{stopped}PID {pid} was started by something else, up after {took}{pending}")
        }
        (None, Some(pid)) => format!(
            "{stopped}started PID {pid} by {}, up after {took}{pending}",
            action.method
        ),
        (None, None) => format!("{stopped}restarted by {} in {took}{pending}", action.method),
    }
}

/// The probes that have not passed, where that alone is no failure.
fn pending(action: &Action) -> String {
    if action.pending.is_empty() {
        return String::new();
    }
    format!("; not passed yet: {}", action.pending.join(", "))
}

/// Adds an entry of the journal to a page, with what belongs to it indented below.
pub fn add_entry(page: &mut Page, entry: &Entry) {
    let message = entry
        .message
        .as_ref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    page.line(
        0,
        &format!(
            "{}  {:<VERDICTS$}  {}{message}",
            clock::stamp(entry.time),
            entry.event,
            entry.service
        ),
    );
    add_evidence(page, &entry.findings, entry.action.as_ref());
    let evidence = entry.action.as_ref().and_then(|it| it.evidence.as_ref());
    if let Some(path) = evidence {
        page.line(4, &format!("what it was doing: {path}"));
    }
}

/// What was seen, and what was done about it.
fn add_evidence(page: &mut Page, findings: &[Finding], action: Option<&Action>) {
    for finding in findings {
        page.line(
            4,
            &format!(
                "{}: {} ({})",
                severity(finding.severity),
                finding.message,
                finding.code
            ),
        );
    }
    if let Some(action) = action {
        page.line(4, &describe(action));
        for line in &action.stderr {
            page.quoted(6, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Finding, Kind};
    use crate::fixtures::{action, at, stale};
    use crate::report::page::{Paint, columns};
    use crate::verdict::Verdict;

    fn named(name: &str, verdict: Verdict) -> ServiceReport {
        ServiceReport {
            name: name.to_owned(),
            verdict,
            since: Some(at(0)),
            pid: None,
            findings: Vec::new(),
            action: None,
            restarts_last_hour: 0,
            max_per_hour: 3,
            usage: std::collections::BTreeMap::new(),
            container: None,
            notes: Vec::new(),
            would: None,
        }
    }

    fn report(services: Vec<ServiceReport>) -> RunReport {
        RunReport {
            version: 1,
            host: "h".to_owned(),
            time: Some(at(720)),
            duration_ms: Some(7),
            exit_code: 0,
            services,
            scales: Vec::new(),
            mail: Some(Deliveries { sent: 1, queued: 2 }),
            notify: Some([("phone".to_owned(), Deliveries { sent: 3, queued: 0 })].into()),
        }
    }

    #[test]
    fn what_a_service_uses_stands_beside_its_pid() {
        let service = ServiceReport {
            pid: Some(812),
            usage: [
                ("memory_bytes", 1_620_000_000_u64.into()),
                ("cpu_percent", Number::from_f64(12.5).unwrap()),
                ("threads", 7.into()),
            ]
            .into(),
            ..named("feed", Verdict::Healthy)
        };
        assert_eq!(
            facts(&service, &report(Vec::new())),
            "PID 812, 1.62 GB, 12.5% of a processor"
        );
    }

    fn typical() -> RunReport {
        let healthy = ServiceReport {
            pid: Some(812),
            ..named("feed", Verdict::Healthy)
        };
        let restarted = ServiceReport {
            since: Some(at(720)),
            pid: Some(4980),
            findings: vec![stale()],
            action: Some(action()),
            restarts_last_hour: 1,
            ..named("trader", Verdict::Restarted)
        };
        let failed = ServiceReport {
            findings: vec![Finding::new(
                Kind::Process,
                "process_missing",
                Severity::Critical,
                "there is no PID file bot.pid, and no process matches `bot\\.py`",
            )],
            action: Some(Action {
                kind: Operation::Restart,
                method: MethodName::Spawn,
                ok: false,
                old_pid: None,
                new_pid: None,
                duration_ms: 60,
                error: Some("exited with status 1".to_owned()),
                pending: Vec::new(),
                evidence: None,
                facts: Vec::new(),
                stderr: vec!["\x1b[31mImportError: no module named ccxt".to_owned()],
                from: None,
                to: None,
            }),
            restarts_last_hour: 2,
            ..named("bot", Verdict::RestartFailed)
        };
        let waiting = ServiceReport {
            findings: vec![stale()],
            notes: vec!["waits for `bot`, which did not come up".to_owned()],
            ..named(
                "a-service-with-quite-a-long-name-of-its-own",
                Verdict::Waiting,
            )
        };
        report(vec![healthy, restarted, failed, waiting])
    }

    const TYPICAL: &str = "\
healthy         feed                  PID 812
restarted       trader                PID 4980, 1 of 3 restarts in the last hour
    critical: logs/trader.log: no write for 7m 12s (limit 5m) (log_stale)
    stopped PID 4711, started PID 4980 by spawn, up after 2.3s
restart_failed  bot                   for 12m, 2 of 3 restarts in the last hour
    critical: there is no PID file bot.pid, and no process matches `bot\\.py`
        (process_missing)
    restart by spawn failed after 60ms: exited with status 1
      | \\x1b[31mImportError: no module named ccxt
waiting         a-service-with-quite-a-long-name-of-its-own  for 12m
    critical: logs/trader.log: no write for 7m 12s (limit 5m) (log_stale)
    waits for `bot`, which did not come up
mail: 1 sent
mail: 2 could not be sent yet; the next run tries again
phone: 3 sent
";

    #[test]
    fn the_verdict_comes_first_then_why_then_what_was_done() {
        assert_eq!(table(&typical(), Style::plain()), TYPICAL);
    }

    #[test]
    fn what_has_not_passed_yet_is_told() {
        let pending = vec!["port 127.0.0.1:1".to_owned(), "port [::1]:2".to_owned()];
        let restarted = Action {
            pending,
            ..action()
        };
        assert_eq!(
            describe(&restarted),
            "stopped PID 4711, started PID 4980 by spawn, up after 2.3s; not passed yet: port 127.0.0.1:1, port [::1]:2"
        );
        let repaired = Action {
            kind: Operation::Repair,
            method: MethodName::Command,
            ..restarted
        };
        assert_eq!(
            describe(&repaired),
            "repaired by command in 2.3s; not passed yet: port 127.0.0.1:1, port [::1]:2"
        );
    }

    #[test]
    fn colours_are_all_that_differs() {
        let style = Style {
            paint: Paint::Colours,
            ..Style::plain()
        };
        let coloured = table(&typical(), style);
        let mut plain = coloured.clone();
        for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
            assert!(coloured.contains(code), "{code:?}");
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, TYPICAL);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 120] {
            let style = Style {
                width,
                ..Style::plain()
            };
            for line in table(&typical(), style).lines() {
                // a name or a path is never torn, and what others wrote stays as it is
                let is_whole =
                    line.trim_start().starts_with('|') || line.split_whitespace().count() <= 2;
                assert!(columns(line) <= width || is_whole, "{width}: {line}");
            }
        }
    }
}
