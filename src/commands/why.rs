//! `watchdog why`: the last decision about a service, and what it rests on, in sentences.
//!
//! All of it comes from what runs have recorded: nothing is looked at anew, so that the answer is about the
//! decision that was made and not about one that would be made now. [`account`] is pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::check::{Finding, Kind, LastLook, container, process, unit};
use crate::cli;
use crate::clock::{Reading, age, rough, stamp};
use crate::commands::{count, one, print, read_journal, recorded};
use crate::config::{Config, OnExhausted, Policy, Remedy, Service};
use crate::error::Error;
use crate::notify::outbox::Outbox;
use crate::notify::{Channel, Event};
use crate::report::page::{Page, Style};
use crate::report::text::{describe, severity};
use crate::restart::RestartMethod;
use crate::settle::event_of;
use crate::state::channels::ChannelState;
use crate::state::journal::{DeliveryEvent, Entry, JournalEvent};
use crate::state::strategies::StrategyAttempts;
use crate::state::{ServiceState, State};
use crate::verdict::Verdict;

mod scale;

/// How many of the last restarts are shown.
const RESTARTS: usize = 5;

/// Tells the evidence behind the last decision about a service.
pub fn run(config: &Config, options: &cli::Why, style: Style) -> Result<u8, Error> {
    if let Some(scale) = config.scale(&options.service) {
        return scale::run(config, scale, style);
    }
    let clock = Reading::take();
    let now = clock.wall;
    let mut state = recorded(config)?;
    state.move_with_clock(&clock);
    let service = one(config, &options.service)?;
    let mut entries = Vec::new();
    read_journal(config, |entry| {
        if entry.concerns(&service.name) {
            entries.push(entry);
        }
    })?;
    let known = Known {
        service,
        channels: &config.channels,
        state: &state,
        journal: &entries,
        waiting: Outbox::at(&config.state_dir).waiting_about(&service.name),
        now,
    };
    print(&account(&known, style))?;
    Ok(0)
}

/// What an account is made of.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// The service.
    pub service: &'a Service,
    /// Who is alerted.
    pub channels: &'a [Channel],
    /// What is remembered.
    pub state: &'a State,
    /// The entries of the journal about the service, and about messages about it, oldest first.
    pub journal: &'a [Entry],
    /// How many messages about it wait in the outbox, by channel.
    pub waiting: BTreeMap<String, usize>,
    /// The time that ages are by.
    pub now: DateTime<Utc>,
}

/// The account: the verdict, what each check saw, what was decided, the budget, the last restarts, the mail.
pub fn account(known: &Known<'_>, style: Style) -> String {
    let mut page = Page::new(style);
    let service = known.service;
    let name = &service.name;
    if !service.enabled {
        page.line(
            0,
            &format!("{name} is disabled (enabled = false): no run looks at it"),
        );
        return page.into_text();
    }
    let remembered = known.state.services.get(name);
    let Some((remembered, verdict)) = remembered.and_then(|it| Some((it, it.verdict?))) else {
        page.line(
            0,
            &format!("no run has looked at {name} yet; `watchdog check {name}` does"),
        );
        return page.into_text();
    };
    let since = remembered
        .since
        .map(|since| format!(" since {}", known.ago(since)))
        .unwrap_or_default();
    page.verdict(
        verdict.name(),
        0,
        verdict.exit_code(),
        &format!("{name}{since}"),
    );
    known.add_checks(&mut page, remembered);
    known.add_decision(&mut page, remembered, verdict);
    known.add_budget(&mut page, remembered);
    known.add_strategies(&mut page, remembered);
    known.add_restarts(&mut page);
    known.add_alerts(&mut page, remembered, verdict);
    page.into_text()
}

impl Known<'_> {
    /// A time with its distance: `2026-11-22T01:02:03Z (12m ago)`.
    fn ago(&self, time: DateTime<Utc>) -> String {
        if time > self.now {
            format!("{} (in {})", stamp(time), rough(age(time, self.now)))
        } else {
            format!("{} ({} ago)", stamp(time), rough(age(self.now, time)))
        }
    }

    /// What each check saw, with the limits it was held against.
    fn add_checks(&self, page: &mut Page, remembered: &ServiceState) {
        let report = &remembered.report;
        let seen = report
            .time
            .map(|time| format!(", {}", self.ago(time)))
            .unwrap_or_default();
        page.line(0, &format!("seen by the last run{seen}:"));
        let mut left: Vec<&Finding> = report.findings.iter().collect();
        let mut show = |page: &mut Page, what: &str, mine: &dyn Fn(&Finding) -> bool| {
            page.line(4, what);
            let mut any = false;
            left.retain(|finding| {
                let is_its = mine(finding);
                if is_its {
                    any = true;
                    let bad = severity(finding.severity);
                    page.line(8, &format!("{bad}: {} ({})", finding.message, finding.code));
                }
                !is_its
            });
            if !any {
                page.line(8, "nothing wrong");
            }
        };
        if let Some(what) = self.process_check(remembered) {
            show(page, &what, &|finding| finding.check == Kind::Process);
        }
        if let Some(unit) = &self.service.unit {
            let has_process = self.service.process.is_some();
            let what = unit::explain(unit, remembered.unit.as_ref(), has_process);
            show(page, &what, &|finding| finding.check == Kind::Unit);
        }
        if let Some(rule) = &self.service.container {
            let what = container::explain(rule, remembered.container.as_deref());
            show(page, &what, &|finding| finding.check == Kind::Container);
        }
        let last = LastLook {
            time: report.time,
            clock: self.state.clock.as_ref(),
        };
        for check in &self.service.checks {
            let what = check
                .rule
                .explain(remembered.state_of(check, None).as_ref(), last);
            show(page, &what, &|finding| finding.id == check.id);
        }
        for finding in left {
            let bad = severity(finding.severity);
            page.line(4, &format!("{bad}: {} ({})", finding.message, finding.code));
        }
    }

    fn process_check(&self, remembered: &ServiceState) -> Option<String> {
        let rule = self.service.process.as_ref();
        let method = self.service.method.as_ref();
        let started = method.and_then(RestartMethod::started).is_some();
        let is_known = rule.is_some() || started;
        is_known.then(|| process::explain(rule, remembered.report.pid))
    }

    fn add_decision(&self, page: &mut Page, remembered: &ServiceState, verdict: Verdict) {
        let policy = &self.service.policy;
        let report = &remembered.report;
        page.line(0, "decided:");
        let meaning = match verdict {
            Verdict::Healthy => "nothing is wrong, so nothing was done",
            Verdict::Starting => "it is starting, and is given its time",
            Verdict::Degraded => "warnings alone never restart anything",
            Verdict::Unknown => "what could not be seen never restarts anything",
            Verdict::Paused => "a person wants it left alone",
            Verdict::Disabled => "it is not looked at",
            Verdict::Failing => "it is broken, and not restarted yet",
            Verdict::Waiting => "it is broken, and its restart has to wait",
            Verdict::Exhausted => "it is broken, and its restart budget is spent",
            Verdict::Down => "it is broken, and the watchdog may not restart it",
            Verdict::Restarted => "it was broken, and was restarted",
            Verdict::RestartFailed => "it was broken, and its restart failed",
            Verdict::Repaired => "it was broken, and was repaired",
            Verdict::RepairFailed => "it was broken, and its repair failed",
            Verdict::Steady | Verdict::Scaled | Verdict::AtMax | Verdict::ScaleFailed => {
                "its replicas are scaled"
            }
        };
        page.line(4, meaning);
        for note in &report.notes {
            page.line(4, note);
        }
        if verdict != Verdict::Paused
            && let Some(pause) = remembered.pause_note(self.now)
        {
            page.line(4, &format!("since then {pause}"));
        }
        if let Some(action) = &report.action {
            page.line(4, &describe(action));
            for line in &action.stderr {
                page.quoted(6, line);
            }
            if !action.facts.is_empty() {
                page.line(4, "before it was stopped:");
            }
            for fact in &action.facts {
                page.line(8, fact);
            }
        }
        if remembered.consecutive_failures > 0 {
            let began = remembered
                .trouble_since
                .map(|since| format!("; the trouble began {}", self.ago(since)))
                .unwrap_or_default();
            let needed = match (policy.after_failures, policy.window()) {
                _ if self.service.method.is_none() || policy.max_per_hour == 0 => String::new(),
                (1, _) => ", the first one is reason for a restart".to_owned(),
                (needed, window) if window > needed => {
                    format!(", {needed} of the last {window} are reason for a restart")
                }
                (needed, _) => format!(", {needed} are reason for a restart"),
            };
            page.line(
                4,
                &format!(
                    "{} in a row{needed}{began}",
                    count(remembered.consecutive_failures as usize, "failing run")
                ),
            );
        }
    }

    fn add_budget(&self, page: &mut Page, remembered: &ServiceState) {
        let policy = &self.service.policy;
        let used = remembered.attempts_in_hour(self.now);
        page.line(0, "restart budget:");
        if !self.service.has_remedy() {
            page.line(
                4,
                "none: no restart method is configured (spawn, systemd, container or restart.command)",
            );
            return;
        }
        if policy.max_per_hour == 0 {
            page.line(4, "max_per_hour = 0: it is never restarted");
            return;
        }
        page.line(4, &format!("{used} of {} used", policy.max_per_hour));
        let give_up = policy.on_exhausted == OnExhausted::GiveUp;
        if let Some(at) = remembered.given_up.filter(|_| give_up) {
            page.line(
                4,
                &format!(
                    "given up {}; `watchdog reset {}` lets it be restarted again",
                    self.ago(at),
                    self.service.name
                ),
            );
        } else if let Some(frees) = remembered.budget_frees_at(self.now, policy.max_per_hour) {
            let what = if give_up {
                "it is given up if it fails before"
            } else {
                "the next can be made at"
            };
            page.line(4, &format!("{what} {}", self.ago(frees)));
        }
        let own = (remembered.last_attempt(), remembered.incident_attempts);
        self.add_limits(page, 4, policy, own);
    }

    /// What an incident and a cooldown leave, where the last attempt was then and the incident has had so many.
    fn add_limits(
        &self,
        page: &mut Page,
        indent: usize,
        policy: &Policy,
        (last, attempts): (Option<DateTime<Utc>>, u32),
    ) {
        if policy.max_attempts > 0 {
            let line = format!("{attempts} of {} in this incident", policy.max_attempts);
            page.line(indent, &line);
        }
        let cooldown = policy.cooldown_after(attempts);
        let cooled = last
            .and_then(|last| last.checked_add_signed(TimeDelta::from_std(cooldown).ok()?))
            .filter(|&cooled| cooled > self.now);
        if let Some(cooled) = cooled {
            let line = format!("cooldown of {} until {}", rough(cooldown), self.ago(cooled));
            page.line(indent, &line);
        }
    }

    /// What is done for which findings, and what is left of the limits of each.
    fn add_strategies(&self, page: &mut Page, remembered: &ServiceState) {
        for strategy in &self.service.strategies {
            let what = match &strategy.remedy {
                Remedy::Restart => "it is restarted".to_owned(),
                Remedy::Alert => "it is only alerted about".to_owned(),
                Remedy::Repair(repair) => {
                    format!("it is repaired by {}", repair.command.command.join(" "))
                }
            };
            page.line(0, &format!("strategy for {}: {what}", strategy.title()));
            if strategy.remedy == Remedy::Alert {
                continue;
            }
            let nothing = StrategyAttempts::default();
            let own = remembered.attempts_by(&strategy.id).unwrap_or(&nothing);
            let (used, max) = (own.in_hour(self.now), strategy.policy.max_per_hour);
            page.line(4, &format!("{used} of {max} used"));
            self.add_limits(page, 4, &strategy.policy, (own.last(), own.of_incident));
        }
    }

    fn add_restarts(&self, page: &mut Page) {
        let tried: Vec<(&Entry, String)> = self
            .journal
            .iter()
            .rev()
            .filter(|entry| entry.service == self.service.name)
            .filter_map(|entry| match (&entry.action, &entry.event) {
                (Some(action), _) => Some((entry, describe(action))),
                (None, JournalEvent::Interrupted) => Some((entry, entry.message.clone()?)),
                _ => None,
            })
            .take(RESTARTS)
            .collect();
        let what = if self.service.strategies.is_empty() {
            "restarts"
        } else {
            "restarts and repairs"
        };
        if tried.is_empty() {
            page.line(0, &format!("last {what}: none in the journal"));
            return;
        }
        page.line(0, &format!("last {what}, the latest first:"));
        for (entry, how) in tried {
            page.line(4, &format!("{}: {how}", self.ago(entry.time)));
            let evidence = entry.action.as_ref().and_then(|it| it.evidence.as_ref());
            if let Some(path) = evidence {
                page.line(8, &format!("what it was doing: {path}"));
            }
        }
    }

    fn add_alerts(&self, page: &mut Page, remembered: &ServiceState, verdict: Verdict) {
        if self.channels.is_empty() {
            page.line(0, "mail:");
            page.line(
                4,
                "the config has no [mail] table: nobody is alerted by mail",
            );
        }
        let nothing = ChannelState::default();
        for channel in self.channels {
            let known = self.state.channels.get(&channel.name).unwrap_or(&nothing);
            page.line(0, &format!("{}:", channel.name));
            self.add_channel(page, channel, known, remembered, verdict);
        }
    }

    fn add_channel(
        &self,
        page: &mut Page,
        channel: &Channel,
        known: &ChannelState,
        remembered: &ServiceState,
        verdict: Verdict,
    ) {
        page.line(4, &self.alerted(channel, known, remembered, verdict));
        let held = known.pending.iter();
        let held = held.filter(|alert| alert.waits && alert.service == self.service.name);
        let held = held.count();
        if held > 0 {
            page.line(
                4,
                &format!(
                    "{} about it held back, by quiet or escalate_after of [{}]",
                    count(held, "message"),
                    channel.table()
                ),
            );
        }
        let unsent = self.unsent(channel, known) - held;
        if unsent > 0 {
            let why = self
                .journal
                .iter()
                .rev()
                .find(|entry| match entry.delivery() {
                    Some((name, DeliveryEvent::Deferred | DeliveryEvent::Refused)) => {
                        name == channel.name
                    }
                    _ => false,
                })
                .and_then(|entry| Some((entry.time, entry.message.as_ref()?)))
                .map(|(time, why)| format!("; the last failure was {}: {why}", self.ago(time)))
                .unwrap_or_default();
            page.line(
                4,
                &format!("{} about it not sent yet{why}", count(unsent, "message")),
            );
        }
        let hour = clock_hour();
        let sent = known
            .sent
            .iter()
            .filter(|&&at| self.now - at < hour)
            .count();
        let most = channel.routing().max_per_hour;
        if sent >= usize::try_from(most).unwrap_or(usize::MAX) {
            page.line(
                4,
                &format!(
                    "{sent} of {most} messages were sent in the last hour: more are held back"
                ),
            );
        }
    }

    /// How many messages about it are still to be sent.
    fn unsent(&self, channel: &Channel, known: &ChannelState) -> usize {
        let pending = known.pending.iter();
        pending
            .filter(|alert| alert.service == self.service.name)
            .count()
            + self.waiting.get(&channel.name).unwrap_or(&0)
    }

    /// What a time of an alert is where the message may still be here.
    fn was_alerted(&self, channel: &Channel, known: &ChannelState) -> &'static str {
        if self.unsent(channel, known) > 0 {
            "was to be sent"
        } else {
            "was sent"
        }
    }

    /// Whether a message went out about this verdict, and why not.
    fn alerted(
        &self,
        channel: &Channel,
        known: &ChannelState,
        remembered: &ServiceState,
        verdict: Verdict,
    ) -> String {
        let alerts = known.services.get(&self.service.name);
        let Some(event) = event_of(alerts, verdict) else {
            return match verdict {
                Verdict::Paused => {
                    let until = remembered
                        .paused_until
                        .map(|until| format!(" until {}", self.ago(until)))
                        .unwrap_or_default();
                    format!("none while it is paused{until}")
                }
                Verdict::Healthy => self.alerted_before(channel, known),
                _ => format!(
                    "none about `{}`: only what comes of it is alerted about",
                    verdict.name()
                ),
            };
        };
        let routing = channel.routing();
        if !routing.concerns(&self.service.name) {
            return format!(
                "none, because `{}` is not among `services` of [{}]",
                self.service.name,
                channel.table()
            );
        }
        if !routing.on.contains(&event) {
            return format!(
                "none, because `{}` is not in `on` of [{}]",
                event.name(),
                channel.table()
            );
        }
        let incident = remembered.incident.as_deref();
        match alerts.and_then(|alerts| alerts.last(event, incident)) {
            Some(at) if event.is_once_an_incident() => {
                let was = self.was_alerted(channel, known);
                let at = self.ago(at);
                format!(
                    "`{}` {was} {at}; there is one alert while it lasts",
                    event.name()
                )
            }
            Some(at) => {
                let again = (routing.reminds_after())
                    .and_then(|every| TimeDelta::from_std(every).ok())
                    .and_then(|every| at.checked_add_signed(every))
                    .map(|again| {
                        let lasting = if matches!(event, Event::Restarted | Event::Repaired) {
                            "the next such alert of this incident can be sent"
                        } else {
                            "while it lasts, again"
                        };
                        format!(
                            "; {lasting} from {} on (remind_every {})",
                            self.ago(again),
                            rough(routing.remind_every)
                        )
                    })
                    .unwrap_or_default();
                let was = self.was_alerted(channel, known);
                format!("`{}` {was} {}{again}", event.name(), self.ago(at))
            }
            None => {
                let flapping = alerts.and_then(|alerts| alerts.flapping);
                let why = match flapping {
                    Some(reported) => self.flapping(event, reported, channel),
                    None => "the run had --no-mail, or was `watchdog restart`".to_owned(),
                };
                format!("none about `{}`: {why}", event.name())
            }
        }
    }

    /// Why nothing is said of one that breaks again and again, which was reported with such an event at such a time.
    fn flapping(
        &self,
        event: Event,
        (reported, at): (Event, DateTime<Utc>),
        channel: &Channel,
    ) -> String {
        if event == Event::Recovered {
            return "it fails again and again; its recovery is reported once it stays well"
                .to_owned();
        }
        let again = match channel.routing().reminds_after() {
            Some(every) => format!("again after remind_every ({})", rough(every)),
            None => "again only where it is worse".to_owned(),
        };
        format!(
            "it fails again and again, which was reported with `{}` {}; {again}",
            reported.name(),
            self.ago(at)
        )
    }

    fn alerted_before(&self, channel: &Channel, known: &ChannelState) -> String {
        let alerts = known.services.get(&self.service.name);
        let last = alerts.and_then(|it| it.alerted.iter().max_by_key(|(_, at)| **at));
        match last {
            Some((event, &at)) => format!(
                "nothing to alert about now; `{}` {} {}",
                event.name(),
                self.was_alerted(channel, known),
                self.ago(at)
            ),
            None => "nothing to alert about now".to_owned(),
        }
    }
}

fn clock_hour() -> TimeDelta {
    TimeDelta::from_std(crate::state::HOUR).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests;
