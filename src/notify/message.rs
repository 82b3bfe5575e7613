//! What a message says.
//!
//! It is read on a telephone at three in the morning by somebody who did not set this up: the first line says what
//! is the matter, then what was seen, what was done and how that ended, then what to type. Lines are kept short;
//! what was quoted from elsewhere is bounded and stripped of all that could do more than be read. Pure: the time,
//! the host and the nonce come from the caller.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Alert, Event, Message};
use crate::check::{Finding, Severity};
use crate::clock::{age, rough, stamp};
use crate::restart::{Action, MethodName};
use crate::text::{cut, visible, wrap};

/// Characters in a line of our own sentences.
const WIDTH: usize = 78;
/// Characters of a quoted line: of a log, of standard error, of an error text.
const QUOTED: usize = 300;
/// Quoted lines a piece.
const QUOTED_LINES: usize = 20;
/// Alerts that are told in full; further ones have a line each.
const FULL: usize = 20;
/// Alerts that are told in a line; of further ones only the number is told.
const LISTED: usize = 200;
/// Services that the header names.
const NAMED: usize = 50;
/// Message ids of an incident that are carried along: its first and its latest.
const REFERENCES: usize = 10;
/// What is told later than this after it happened is told as something of the past, in minutes.
const LATE_MINUTES: i64 = 10;
/// Where the config is found without being named.
const USUAL_CONFIG: &str = "/etc/watchdog/watchdog.toml";

/// What a message needs beside its alerts.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The config file, for the commands to type; absent: the commands name none.
    pub config: Option<&'a Path>,
    /// Messages that `max_per_hour` held back since the last one that went out.
    pub held_back: usize,
    /// For each service in trouble, the ids of the messages that told of this incident, the oldest first.
    pub threads: &'a BTreeMap<String, Vec<String>>,
    /// For the message's own id: see [`super::nonce`].
    pub nonce: u64,
}

/// One message for all that is to be told; none where there is nothing.
///
/// Services come worst first, and what befell one service in the order of time.
pub fn compose(
    host: &str,
    now: DateTime<Utc>,
    alerts: &[Alert],
    context: &Context<'_>,
) -> Option<Message> {
    let groups = by_service(alerts);
    let lead = groups.first()?;
    let event = lead.iter().map(|alert| alert.event).max()?;
    let service = lead.first()?.service.as_str();
    let references = references(&groups, context.threads);
    Some(Message {
        subject: subject(host, service, event, lead, groups.len() - 1),
        body: body(host, now, &groups, context),
        services: groups
            .iter()
            .filter_map(|group| group.first())
            .map(|alert| visible(&alert.service))
            .take(NAMED)
            .collect(),
        event,
        time: now,
        message_id: id(now, service, context.nonce, host),
        in_reply_to: context
            .threads
            .get(service)
            .and_then(|thread| thread.last())
            .cloned(),
        references,
    })
}

/// A message's id: `<20261122T010203Z.trader.9f86d081884c7d65@host>`. What no id may hold becomes `-`.
pub fn id(time: DateTime<Utc>, service: &str, nonce: u64, host: &str) -> String {
    let clean = |text: &str, dots: bool| -> String {
        let kept =
            |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (dots && c == '.');
        text.chars()
            .take(64)
            .map(|c| if kept(c) { c } else { '-' })
            .collect()
    };
    // empty labels are not allowed between dots
    let host = clean(host, true);
    let host: Vec<&str> = host.split('.').filter(|label| !label.is_empty()).collect();
    let host = if host.is_empty() {
        "localhost".to_owned()
    } else {
        host.join(".")
    };
    let time = time.format("%Y%m%dT%H%M%SZ");
    let service = clean(service, false);
    if service.is_empty() {
        return format!("<{time}.{nonce:016x}@{host}>");
    }
    format!("<{time}.{service}.{nonce:016x}@{host}>")
}

/// The alerts of each service by time; the services by their worst event, then by time.
fn by_service(alerts: &[Alert]) -> Vec<Vec<&Alert>> {
    let mut services: BTreeMap<&str, Vec<&Alert>> = BTreeMap::new();
    for alert in alerts {
        services.entry(&alert.service).or_default().push(alert);
    }
    let mut groups: Vec<Vec<&Alert>> = services.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|alert| alert.time);
    }
    groups.sort_by_key(|group| {
        let worst = group.iter().map(|alert| alert.event).max();
        let first = group.iter().map(|alert| alert.time).min();
        (std::cmp::Reverse(worst), first)
    });
    groups
}

/// The ids of all incidents in the message, each once, the first kept where there are too many.
fn references(groups: &[Vec<&Alert>], threads: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let lead = groups.first().and_then(|group| group.first());
    let others = groups.iter().skip(1).filter_map(|group| group.first());
    // the leading incident's come last: readers attach a message to the last id that they know
    for alert in others.chain(lead) {
        for id in threads.get(&alert.service).into_iter().flatten() {
            ids.retain(|known| known != id);
            ids.push(id.clone());
        }
    }
    let surplus = ids.len().saturating_sub(REFERENCES);
    if surplus > 0 {
        ids.drain(1..=surplus);
    }
    ids
}

fn subject(host: &str, service: &str, event: Event, lead: &[&Alert], others: usize) -> String {
    let mut subject = format!(
        "[watchdog] {}: {} {}",
        cut(&visible(host), 40),
        cut(&visible(service), 64),
        words(event)
    );
    if let Some(last) = lead.last().map(|alert| alert.event)
        && last != event
    {
        let _ = write!(subject, ", then {}", words(last));
    }
    if others > 0 {
        let _ = write!(subject, " (+{others} more)");
    }
    subject
}

/// An event after the name of its service.
fn words(event: Event) -> &'static str {
    match event {
        Event::Recovered => "recovered",
        Event::Degraded => "degraded",
        Event::Restarted => "restarted",
        Event::Unknown => "unknown",
        Event::Down => "down",
        Event::RestartFailed => "restart failed",
        Event::Exhausted => "exhausted",
        Event::Watchdog => "in trouble",
        Event::Test => "sends a test",
    }
}

/// The first line about a service: what is the matter.
fn headline(alert: &Alert) -> String {
    let name = visible(&alert.service);
    match alert.event {
        Event::Recovered => format!("{name} is well again."),
        Event::Degraded => format!("{name} runs, but something about it is not right."),
        Event::Restarted => format!("{name} was restarted and is up again."),
        Event::Unknown => format!("{name} could not be seen properly, so nothing was done."),
        Event::Down => format!("{name} is broken, and the watchdog does not restart it."),
        Event::RestartFailed => format!("{name} is broken, and could not be restarted."),
        Event::Exhausted => format!("{name} is broken, and its restarts are used up."),
        Event::Watchdog => "The watchdog itself is in trouble.".to_owned(),
        Event::Test => {
            "This is a test: what this watchdog has to tell arrives where you read this.".to_owned()
        }
    }
}

/// Lines of a body as they are written.
struct Body {
    text: String,
}

impl Body {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn sentence(&mut self, text: &str) {
        self.line(&wrap(text, "", "", WIDTH));
    }

    fn item(&mut self, text: &str) {
        self.line(&wrap(text, "- ", "  ", WIDTH));
    }

    /// The last of `lines`, each behind `> `.
    fn quote<'a>(&mut self, lines: impl ExactSizeIterator<Item = &'a str>) {
        let skipped = lines.len().saturating_sub(QUOTED_LINES);
        for line in lines.skip(skipped) {
            let line = line.trim_end_matches(['\r', '\n']);
            self.line(format!("> {}", cut(&visible(line), QUOTED)).trim_end());
        }
    }
}

fn body(host: &str, now: DateTime<Utc>, groups: &[Vec<&Alert>], context: &Context<'_>) -> String {
    let mut body = Body {
        text: String::new(),
    };
    let alerts: Vec<&Alert> = groups.iter().flatten().copied().collect();
    if alerts.len() > 1 {
        body.sentence(&format!("{} things to tell:", alerts.len()));
        for alert in alerts.iter().take(LISTED) {
            let when = stamp(alert.time);
            body.item(&format!(
                "{} {} ({when})",
                visible(&alert.service),
                words(alert.event)
            ));
        }
        if alerts.len() > LISTED {
            body.item(&format!("and {} more", alerts.len() - LISTED));
        }
    }
    for alert in alerts.iter().take(FULL) {
        body.gap();
        if alerts.len() > 1 {
            body.line(&"-".repeat(40));
        }
        section(&mut body, now, alert, context);
    }
    body.gap();
    if alerts.len() > FULL {
        body.sentence(&format!(
            "Only the first {FULL} are told in full. All of it:"
        ));
        body.line(&format!("  {}", command(context, "history")));
    }
    if context.held_back > 0 {
        let (messages, they) = if context.held_back == 1 {
            ("message was", "it")
        } else {
            ("messages were", "they")
        };
        body.sentence(&format!(
            "{} {messages} held back before this one, because the hourly limit (mail.max_per_hour) was reached. What {they} had to tell is in this one.",
            context.held_back
        ));
    }
    body.gap();
    body.line("--");
    body.line(&format!(
        "{}, {}, watchdog {}",
        cut(&visible(host), 100),
        stamp(now),
        env!("CARGO_PKG_VERSION")
    ));
    body.text
}

/// All about one alert.
fn section(body: &mut Body, now: DateTime<Utc>, alert: &Alert, context: &Context<'_>) {
    body.sentence(&headline(alert));
    if now - alert.time >= TimeDelta::minutes(LATE_MINUTES) {
        body.sentence(&format!(
            "This happened {} and could not be told before.",
            relative(now, alert.time)
        ));
    }
    body.gap();
    body.line(&format!("When: {}", moment(now, alert.time)));
    if let Some(since) = alert.since {
        let label = if alert.event == Event::Recovered {
            "In trouble from"
        } else {
            "In trouble since"
        };
        body.line(&format!("{label}: {}", moment(now, since)));
    }
    if !alert.findings.is_empty() {
        let label = if alert.event == Event::Recovered {
            "Seen then:"
        } else {
            "Seen:"
        };
        body.line(label);
        for finding in alert.findings.iter().take(QUOTED_LINES) {
            body.item(&seen(finding));
        }
        if alert.findings.len() > QUOTED_LINES {
            body.item(&format!("and {} more", alert.findings.len() - QUOTED_LINES));
        }
    }
    match &alert.action {
        Some(action) => done(body, action),
        None if matches!(
            alert.event,
            Event::Exhausted | Event::Down | Event::Degraded
        ) =>
        {
            body.line("Done: nothing.");
        }
        None => {}
    }
    attempts(body, now, alert);
    for note in &alert.notes {
        body.sentence(&format!("Note: {}", cut(&visible(note), QUOTED)));
    }
    if !alert.log_tail.is_empty() {
        body.gap();
        body.line("Last log lines:");
        body.quote(alert.log_tail.iter().map(String::as_str));
    }
    body.gap();
    next(body, alert, context);
}

fn seen(finding: &Finding) -> String {
    let message = cut(&visible(&finding.message), 2 * QUOTED);
    match finding.severity {
        Severity::Critical => message,
        Severity::Warning => format!("warning: {message}"),
        Severity::Unknown => format!("not seen: {message}"),
    }
}

fn done(body: &mut Body, action: &Action) {
    let stopped = action.old_pid.map(|pid| format!("stopped PID {pid}"));
    let took = rough(std::time::Duration::from_millis(action.duration_ms));
    let how = format!("({}, took {took})", action.method);
    if action.ok && action.method == MethodName::Itself {
        let steps = [
            stopped,
            action
                .new_pid
                .map(|pid| format!("something else started PID {pid}")),
        ];
        let steps: Vec<String> = steps.into_iter().flatten().collect();
        body.sentence(&format!("Done: {} (took {took}).", steps.join(", ")));
        return;
    }
    if action.ok {
        let started = action.new_pid.map_or_else(
            || "started it".to_owned(),
            |pid| format!("started PID {pid}"),
        );
        let steps: Vec<String> = stopped.into_iter().chain([started]).collect();
        body.sentence(&format!("Done: {} {how}.", steps.join(", ")));
        return;
    }
    let steps: Vec<String> = stopped
        .into_iter()
        .chain(["tried to start it".to_owned()])
        .collect();
    body.sentence(&format!("Done: {} {how}.", steps.join(", ")));
    if let Some(error) = &action.error {
        body.sentence(&format!("It failed: {}", cut(&visible(error), 2 * QUOTED)));
    }
    if !action.stderr.is_empty() {
        body.gap();
        body.line("The last lines of its standard error:");
        body.quote(action.stderr.iter().map(String::as_str));
        body.gap();
    }
}

fn attempts(body: &mut Body, now: DateTime<Utc>, alert: &Alert) {
    let told = match alert.event {
        Event::Restarted | Event::RestartFailed | Event::Exhausted => true,
        Event::Recovered | Event::Degraded | Event::Unknown | Event::Down => alert.attempts > 0,
        Event::Watchdog | Event::Test => false,
    };
    let max = usize::try_from(alert.max_per_hour).unwrap_or(usize::MAX);
    if told && max > 0 {
        let left = match max.saturating_sub(alert.attempts) {
            0 => "none".to_owned(),
            left => left.to_string(),
        };
        body.line(&format!(
            "Restarts: {} of {max} in the last hour, {left} left.",
            alert.attempts
        ));
    }
    if let Some(code) = &alert.same_finding {
        body.sentence(&format!(
            "Every attempt of this incident met the same finding ({}): restarting does not help, and the cause lies elsewhere.",
            visible(code)
        ));
    }
    if alert.event == Event::Exhausted {
        match alert.next_attempt {
            Some(next) => body.line(&format!("Next attempt: {}", moment(now, next))),
            None => body.line("Next attempt: none by itself (on_exhausted = \"give_up\")."),
        }
    }
}

/// What to do, and the commands for it.
fn next(body: &mut Body, alert: &Alert, context: &Context<'_>) {
    let name = visible(&alert.service);
    let advice = match alert.event {
        Event::Recovered => "Nothing has to be done. What happened:",
        Event::Restarted => "Nothing has to be done at once. To see what happened:",
        Event::Degraded => "To look at it:",
        Event::Unknown => "To see what is in the way, and to look again:",
        Event::Down => "It has to be put right by hand. To look at it, and to look again:",
        Event::RestartFailed | Event::Exhausted => {
            "Somebody has to find the cause. To look at it, and to look again:"
        }
        Event::Watchdog => "To see the state of things:",
        Event::Test => "Nothing has to be done. To see the state of things:",
    };
    body.sentence(advice);
    let mut commands = Vec::new();
    if matches!(alert.event, Event::Watchdog | Event::Test) {
        commands.push(command(context, "status"));
        commands.push(command(context, "check --dry-run"));
    } else {
        commands.push(command(context, &format!("status {name}")));
        commands.push(command(context, &format!("history {name}")));
        if !matches!(alert.event, Event::Recovered | Event::Restarted) {
            commands.push(command(context, &format!("check --dry-run {name}")));
        }
    }
    for command in commands {
        body.line(&format!("  {command}"));
    }
    let mut offer = |what: &str, rest: &str| {
        body.sentence(what);
        body.line(&format!("  {}", command(context, rest)));
    };
    match (alert.event, alert.next_attempt) {
        (Event::RestartFailed, _) => offer(
            "When the cause is mended, to restart it at once:",
            &format!("restart {name} --force"),
        ),
        (Event::Exhausted, Some(_)) => offer(
            "When the cause is mended, to restart it before then:",
            &format!("restart {name} --force"),
        ),
        (Event::Exhausted, None) => offer(
            "When the cause is mended, to let the watchdog restart it again:",
            &format!("reset {name}"),
        ),
        _ => {}
    }
    if matches!(
        alert.event,
        Event::Degraded | Event::Unknown | Event::Down | Event::RestartFailed | Event::Exhausted
    ) {
        offer(
            "To have it left alone for a while, without restarts and mails:",
            &format!("pause {name} --for 2h --reason 'being mended'"),
        );
    }
}

/// A command line that can be typed as it stands.
fn command(context: &Context<'_>, rest: &str) -> String {
    match context.config {
        Some(path) if path != Path::new(USUAL_CONFIG) => {
            format!("watchdog -c {} {rest}", quoted(&path.to_string_lossy()))
        }
        _ => format!("watchdog {rest}"),
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", visible(word).replace('\'', "'\\''"))
    }
}

/// A time with its distance from now.
fn moment(now: DateTime<Utc>, time: DateTime<Utc>) -> String {
    format!("{} ({})", stamp(time), relative(now, time))
}

fn relative(now: DateTime<Utc>, time: DateTime<Utc>) -> String {
    if time > now {
        format!("in {}", rough(age(time, now)))
    } else if now - time < TimeDelta::seconds(10) {
        "just now".to_owned()
    } else {
        format!("{} ago", rough(age(now, time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Kind;
    use crate::fixtures::{self, action, stale};

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn alert(service: &str, event: Event) -> Alert {
        Alert {
            time: time("2026-11-22T01:02:03Z"),
            ..fixtures::alert(service, event)
        }
    }

    fn told(now: &str, alerts: &[Alert]) -> Message {
        let context = Context {
            config: None,
            held_back: 0,
            threads: &BTreeMap::new(),
            nonce: 0x9f,
        };
        compose("box1", time(now), alerts, &context).unwrap()
    }

    /// The body with the version left out of its last line.
    fn body(message: &Message) -> String {
        message.body.replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }

    #[test]
    fn nothing_to_tell_is_no_message() {
        let context = Context {
            config: None,
            held_back: 3,
            threads: &BTreeMap::new(),
            nonce: 0,
        };
        assert_eq!(
            compose("box1", time("2026-11-22T01:02:03Z"), &[], &context),
            None
        );
    }

    #[test]
    fn a_restart_is_told_whole() {
        let mut restarted = alert("trader", Event::Restarted);
        restarted.findings.push(stale());
        restarted.action = Some(action());
        restarted.attempts = 1;
        restarted.since = Some(time("2026-11-22T01:00:00Z"));
        restarted.log_tail = vec![
            "2026-11-22 00:54:51 tick\r\n".to_owned(),
            String::new(),
            "\x1b[31mred\x1b[0m".to_owned(),
        ];
        let message = told("2026-11-22T01:02:05Z", &[restarted]);
        assert_eq!(message.subject, "[watchdog] box1: trader restarted");
        assert_eq!(
            body(&message),
            "\
trader was restarted and is up again.

When: 2026-11-22T01:02:03Z (just now)
In trouble since: 2026-11-22T01:00:00Z (2m 5s ago)
Seen:
- logs/trader.log: no write for 7m 12s (limit 5m)
Done: stopped PID 4711, started PID 4980 (spawn, took 2.3s).
Restarts: 1 of 3 in the last hour, 2 left.

Last log lines:
> 2026-11-22 00:54:51 tick
>
> \\x1b[31mred\\x1b[0m

Nothing has to be done at once. To see what happened:
  watchdog status trader
  watchdog history trader

--
box1, 2026-11-22T01:02:05Z, watchdog VERSION
"
        );
        assert_eq!(
            message.message_id,
            "<20261122T010205Z.trader.000000000000009f@box1>"
        );
        assert_eq!(message.in_reply_to, None);
        assert_eq!(message.services, ["trader"]);
        assert_eq!(message.event, Event::Restarted);
    }

    #[test]
    fn a_failed_start_brings_its_error_and_its_last_words() {
        let mut failed = alert("trader", Event::RestartFailed);
        failed.action = Some(Action {
            ok: false,
            old_pid: None,
            new_pid: None,
            duration_ms: 250,
            error: Some("it exited with status 1 after 0.2s".to_owned()),
            stderr: vec![
                "Traceback (most recent call last):".to_owned(),
                "ModuleNotFoundError: No module named 'ccxt'".to_owned(),
            ],
            ..action()
        });
        failed.attempts = 2;
        failed.notes = vec!["the log was not read".to_owned()];
        let message = told("2026-11-22T01:02:03Z", &[failed]);
        assert_eq!(message.subject, "[watchdog] box1: trader restart failed");
        assert_eq!(
            body(&message),
            "\
trader is broken, and could not be restarted.

When: 2026-11-22T01:02:03Z (just now)
Done: tried to start it (spawn, took 250ms).
It failed: it exited with status 1 after 0.2s

The last lines of its standard error:
> Traceback (most recent call last):
> ModuleNotFoundError: No module named 'ccxt'

Restarts: 2 of 3 in the last hour, 1 left.
Note: the log was not read

Somebody has to find the cause. To look at it, and to look again:
  watchdog status trader
  watchdog history trader
  watchdog check --dry-run trader
When the cause is mended, to restart it at once:
  watchdog restart trader --force
To have it left alone for a while, without restarts and mails:
  watchdog pause trader --for 2h --reason 'being mended'

--
box1, 2026-11-22T01:02:03Z, watchdog VERSION
"
        );
    }

    #[test]
    fn f48_exhaustion_says_that_restarting_does_not_help() {
        let mut exhausted = alert("trader", Event::Exhausted);
        exhausted.findings.push(stale());
        exhausted.attempts = 3;
        exhausted.same_finding = Some("log_stale".to_owned());
        exhausted.next_attempt = Some(time("2026-11-22T01:40:00Z"));
        let config = Path::new("/srv/my bots/watchdog.toml");
        let context = Context {
            config: Some(config),
            held_back: 4,
            threads: &BTreeMap::new(),
            nonce: 1,
        };
        let message =
            compose("box1", time("2026-11-22T01:02:03Z"), &[exhausted], &context).unwrap();
        assert_eq!(message.subject, "[watchdog] box1: trader exhausted");
        assert_eq!(
            body(&message),
            "\
trader is broken, and its restarts are used up.

When: 2026-11-22T01:02:03Z (just now)
Seen:
- logs/trader.log: no write for 7m 12s (limit 5m)
Done: nothing.
Restarts: 3 of 3 in the last hour, none left.
Every attempt of this incident met the same finding (log_stale): restarting
does not help, and the cause lies elsewhere.
Next attempt: 2026-11-22T01:40:00Z (in 37m 57s)

Somebody has to find the cause. To look at it, and to look again:
  watchdog -c '/srv/my bots/watchdog.toml' status trader
  watchdog -c '/srv/my bots/watchdog.toml' history trader
  watchdog -c '/srv/my bots/watchdog.toml' check --dry-run trader
When the cause is mended, to restart it before then:
  watchdog -c '/srv/my bots/watchdog.toml' restart trader --force
To have it left alone for a while, without restarts and mails:
  watchdog -c '/srv/my bots/watchdog.toml' pause trader --for 2h --reason 'being mended'

4 messages were held back before this one, because the hourly limit
(mail.max_per_hour) was reached. What they had to tell is in this one.

--
box1, 2026-11-22T01:02:03Z, watchdog VERSION
"
        );
    }

    #[test]
    fn f47_one_recovers_and_another_fails_and_both_are_told() {
        let mut recovered = alert("feed", Event::Recovered);
        recovered.since = Some(time("2026-11-22T00:32:03Z"));
        recovered.findings.push(stale());
        let mut down = alert("db", Event::Down);
        down.findings.push(Finding::new(
            Kind::Process,
            "process_missing",
            Severity::Critical,
            "no process: /run/db.pid names PID 77, which is gone",
        ));
        let message = told("2026-11-22T01:02:03Z", &[recovered, down]);
        assert_eq!(message.subject, "[watchdog] box1: db down (+1 more)");
        assert_eq!(message.services, ["db", "feed"]);
        assert_eq!(message.event, Event::Down);
        assert_eq!(
            body(&message),
            "\
2 things to tell:
- db down (2026-11-22T01:02:03Z)
- feed recovered (2026-11-22T01:02:03Z)

----------------------------------------
db is broken, and the watchdog does not restart it.

When: 2026-11-22T01:02:03Z (just now)
Seen:
- no process: /run/db.pid names PID 77, which is gone
Done: nothing.

It has to be put right by hand. To look at it, and to look again:
  watchdog status db
  watchdog history db
  watchdog check --dry-run db
To have it left alone for a while, without restarts and mails:
  watchdog pause db --for 2h --reason 'being mended'

----------------------------------------
feed is well again.

When: 2026-11-22T01:02:03Z (just now)
In trouble from: 2026-11-22T00:32:03Z (30m ago)
Seen then:
- logs/trader.log: no write for 7m 12s (limit 5m)

Nothing has to be done. What happened:
  watchdog status feed
  watchdog history feed

--
box1, 2026-11-22T01:02:03Z, watchdog VERSION
"
        );
    }

    #[test]
    fn f71_what_is_told_late_says_when_it_happened() {
        let mut exhausted = alert("trader", Event::Exhausted);
        exhausted.time = time("2026-11-20T01:02:03Z");
        exhausted.attempts = 3;
        let mut recovered = alert("trader", Event::Recovered);
        recovered.time = time("2026-11-20T02:02:03Z");
        // in whatever order they are kept
        let message = told("2026-11-22T01:02:03Z", &[recovered, exhausted]);
        assert_eq!(
            message.subject,
            "[watchdog] box1: trader exhausted, then recovered"
        );
        assert!(
            message.body.contains(
                "trader is broken, and its restarts are used up.\n\
                 This happened 2d ago and could not be told before.\n\n\
                 When: 2026-11-20T01:02:03Z (2d ago)\n"
            ),
            "{}",
            message.body
        );
        assert!(
            message
                .body
                .contains("Next attempt: none by itself (on_exhausted = \"give_up\").\n")
                && message.body.contains("  watchdog reset trader\n"),
            "{}",
            message.body
        );
        assert!(
            message.body.contains("This happened 1d 23h ago"),
            "{}",
            message.body
        );
    }

    #[test]
    fn every_event_has_its_subject_first_line_and_advice_and_warnings_are_marked() {
        for (event, subject, first, advice) in [
            (
                Event::Recovered,
                "s recovered",
                "s is well again.",
                "Nothing has to be done. What happened:",
            ),
            (
                Event::Degraded,
                "s degraded",
                "s runs, but something about it is not right.",
                "To look at it:",
            ),
            (
                Event::Restarted,
                "s restarted",
                "s was restarted and is up again.",
                "Nothing has to be done at once. To see what happened:",
            ),
            (
                Event::Unknown,
                "s unknown",
                "s could not be seen properly, so nothing was done.",
                "To see what is in the way, and to look again:",
            ),
            (
                Event::Down,
                "s down",
                "s is broken, and the watchdog does not restart it.",
                "It has to be put right by hand. To look at it, and to look again:",
            ),
            (
                Event::RestartFailed,
                "s restart failed",
                "s is broken, and could not be restarted.",
                "Somebody has to find the cause. To look at it, and to look again:",
            ),
            (
                Event::Exhausted,
                "s exhausted",
                "s is broken, and its restarts are used up.",
                "Somebody has to find the cause. To look at it, and to look again:",
            ),
            (
                Event::Watchdog,
                "s in trouble",
                "The watchdog itself is in trouble.",
                "To see the state of things:",
            ),
            (
                Event::Test,
                "s sends a test",
                "This is a test: what this watchdog has to tell arrives where you read this.",
                "Nothing has to be done. To see the state of things:",
            ),
        ] {
            let mut one = alert("s", event);
            let mut warning = stale();
            warning.severity = Severity::Warning;
            let mut unseen = stale();
            unseen.severity = Severity::Unknown;
            one.findings = vec![warning, unseen];
            let message = told("2026-11-22T01:02:03Z", &[one]);
            assert_eq!(message.subject, format!("[watchdog] box1: {subject}"));
            let lines: Vec<&str> = message.body.lines().collect();
            assert_eq!(lines[0], first);
            for line in [
                advice,
                "- warning: logs/trader.log: no write for 7m 12s (limit 5m)",
                "- not seen: logs/trader.log: no write for 7m 12s (limit 5m)",
            ] {
                assert!(lines.contains(&line), "{line}\n{}", message.body);
            }
        }
    }

    #[test]
    fn what_was_held_back_is_counted_in_the_next_message() {
        for (held_back, said) in [
            (
                1,
                "1 message was held back before this one, because the hourly limit (mail.max_per_hour) was reached. What it had to tell is in this one.",
            ),
            (
                7,
                "7 messages were held back before this one, because the hourly limit (mail.max_per_hour) was reached. What they had to tell is in this one.",
            ),
        ] {
            let context = Context {
                config: None,
                held_back,
                threads: &BTreeMap::new(),
                nonce: 0,
            };
            let one = [alert("s", Event::Down)];
            let message = compose("box1", time("2026-11-22T01:02:03Z"), &one, &context).unwrap();
            let words: Vec<&str> = message.body.split_whitespace().collect();
            assert!(words.join(" ").contains(said), "{}", message.body);
        }
    }

    #[test]
    fn f74_nothing_from_elsewhere_makes_a_second_line_of_the_subject() {
        let mut evil = alert("a\r\nBcc: x@y", Event::Down);
        evil.findings.push(Finding::new(
            Kind::Log,
            "log_error",
            Severity::Critical,
            "line one\nline two\x1b[2J",
        ));
        let context = Context {
            config: None,
            held_back: 0,
            threads: &BTreeMap::new(),
            nonce: 0,
        };
        let host = "h\r\nX: y".to_owned() + &"z".repeat(300);
        let message = compose(&host, time("2026-11-22T01:02:03Z"), &[evil], &context).unwrap();
        assert!(
            !message.subject.chars().any(char::is_control),
            "{}",
            message.subject
        );
        assert!(
            message.subject.chars().count() <= 150,
            "{}",
            message.subject
        );
        assert!(
            message.body.contains("- line one\\x0aline two\\x1b[2J\n"),
            "{}",
            message.body
        );
        assert!(!message.body.chars().any(|c| c.is_control() && c != '\n'));
        assert!(!message.services.concat().chars().any(char::is_control));
    }

    #[test]
    fn a_thousand_alerts_make_one_mail_of_bearable_size() {
        let alerts: Vec<Alert> = (0..1000)
            .map(|n| {
                let mut one = alert(&format!("s{n}"), Event::Down);
                one.log_tail = vec!["x".repeat(5000); 30];
                one.findings = vec![stale(); 30];
                one
            })
            .collect();
        let message = told("2026-11-22T01:02:03Z", &alerts);
        assert_eq!(message.subject, "[watchdog] box1: s0 down (+999 more)");
        assert!(message.body.len() < 300_000, "{}", message.body.len());
        assert!(message.body.contains("- and 800 more\n"));
        assert!(
            message
                .body
                .contains("Only the first 20 are told in full. All of it:\n  watchdog history\n")
        );
        assert!(message.services.len() <= 50);
    }

    #[test]
    fn an_incident_is_one_thread() {
        let ids = |prefix: &str, n: usize| -> Vec<String> {
            (0..n).map(|n| format!("<{prefix}{n}@h>")).collect()
        };
        let threads = BTreeMap::from([
            ("trader".to_owned(), ids("t", 30)),
            ("feed".to_owned(), ids("f", 1)),
            ("other".to_owned(), ids("o", 1)),
        ]);
        let context = Context {
            config: None,
            held_back: 0,
            threads: &threads,
            nonce: 0,
        };
        let alerts = [
            alert("feed", Event::Recovered),
            alert("trader", Event::Exhausted),
        ];
        let message = compose("h", time("2026-11-22T01:02:03Z"), &alerts, &context).unwrap();
        assert_eq!(message.in_reply_to.as_deref(), Some("<t29@h>"));
        assert_eq!(message.references.len(), REFERENCES);
        assert_eq!(
            message.references.first().map(String::as_str),
            Some("<f0@h>")
        );
        assert_eq!(
            message.references.last().map(String::as_str),
            Some("<t29@h>")
        );
    }

    #[test]
    fn ids_hold_only_what_ids_may_hold() {
        let at = time("2026-11-22T01:02:03Z");
        assert_eq!(
            id(at, "trader", u64::MAX, "box1.example.org"),
            "<20261122T010203Z.trader.ffffffffffffffff@box1.example.org>"
        );
        assert_eq!(
            id(at, "a..b>\r\n", 1, ".b\u{fc}x..1 >"),
            "<20261122T010203Z.a--b---.0000000000000001@b-x.1-->"
        );
        assert_eq!(
            id(at, "", 1, ""),
            "<20261122T010203Z.0000000000000001@localhost>"
        );
    }
}
