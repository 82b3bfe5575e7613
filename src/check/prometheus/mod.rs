//! Prometheus: alerts that must not fire, and expressions that must give nothing.
//!
//! A check is a table of a service, or made for each service where `[prometheus]` says which alerts want services repaired.
//! Whoever asks for alerts asks for all rules with their states, once a run for all services: an answer without an alert is
//! good news only where its rule is there and was evaluated lately. What that means is judged by a pure function.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::lasting::{self, Failing, Outcome};
use super::trap::Trap;
use super::{
    Can, CheckId, CheckKind, Checked, Code, Finding, Grace, JobOf, Kind, LastLook, Looking,
    ServiceContext, Severity,
};
use crate::client::prometheus::{Rules, in_braces};
use crate::clock::{Reading, exact};
use crate::secret::Kept;

mod alerts;
mod expression;
pub mod handed_in;
mod look;
mod rule;
mod settings;
#[cfg(test)]
mod tests;
mod traps;

pub use self::alerts::{Acted, Repaired};
pub use self::rule::{Probe, Rule, What};
pub use self::settings::Prometheus;
pub use self::traps::of_settings;

use self::alerts::Wanted;
use self::look::{Raw, Said, look};

/// An alert fires.
pub const ALERT_FIRING: &str = "alert_firing";
/// An expression gives something.
pub const QUERY_MATCHED: &str = "query_matched";
/// There is no answer that is whole.
pub const UNREACHABLE: &str = "prometheus_unreachable";

/// What is remembered of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Since when it fails.
    #[serde(flatten)]
    pub failing: Failing,
    /// The alerts that counted in the last look: what is done is done for these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<Acted>,
}

/// The Prometheus check.
#[derive(Debug)]
pub struct Prometheuses;

impl CheckKind for Prometheuses {
    type Rule = Rule;
    type State = State;

    const KIND: Kind = Kind::Prometheus;
    const CODES: &'static [Code] = &[
        Code::new(ALERT_FIRING, Grace::Young, Can::Settable),
        Code::new(QUERY_MATCHED, Grace::Young, Can::Settable),
        Code::new(UNREACHABLE, Grace::Young, Can::Unknown),
    ];
    const IS_PROBE: bool = true;
    // it takes minutes until an alert ends
    const CAN_LOOK_AGAIN: bool = false;
    const SHOWS_LIFE: bool = false;
    const ASKS_LAST_REPAIR: bool = true;

    fn is_warning(rule: &Rule) -> bool {
        match &rule.what {
            What::Probe(probe) => probe.severity == Severity::Warning,
            What::Repairs(_) => false,
        }
    }

    fn fill_in(rule: &mut Rule, check_timeout: Duration) {
        rule.limit = check_timeout;
    }

    fn target(rule: &Rule) -> String {
        rule.target()
    }

    fn judge_at_once(rule: &mut Rule) {
        if let What::Probe(probe) = &mut rule.what {
            probe.for_ = Duration::ZERO;
        }
    }

    fn secrets(rule: &Rule) -> Vec<Kept<'_>> {
        let own = rule.probe().and_then(|probe| probe.url.as_ref());
        let own = own.filter(|url| url.has_password());
        let kept = own.map(|_| Kept {
            key: vec!["url".to_owned()],
            file: None,
        });
        kept.into_iter().collect()
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<State>> {
        let asked: Vec<_> = (jobs.iter())
            .map(|job| (Arc::clone(&job.rule), job.circumstances.repaired.clone()))
            .collect();
        let raws = look(&asked, looking);
        let checked = jobs.iter().zip(&raws).map(|(job, raw)| {
            let nothing = State::default();
            let former = job.state.as_deref().unwrap_or(&nothing);
            let repaired = job.circumstances.repaired.as_deref();
            let mut checked = judge(&job.rule, raw, former, repaired, looking.now);
            if let Some(state) = &mut checked.state {
                state.failing = state.failing.clone().after(raw.took);
            }
            checked
        });
        checked.collect()
    }

    fn catch_up(state: &mut State, later: &State) {
        state.failing.took_us = later.failing.took_us;
    }

    fn took(state: &State) -> Option<Duration> {
        state.failing.took()
    }

    fn when_stopped(_rule: &Rule, state: Option<&State>) -> Option<State> {
        // what fails from now on is the new process's
        Some(State {
            failing: Failing::default(),
            counted: state.map(|state| state.counted.clone()).unwrap_or_default(),
        })
    }

    fn evidence(state: &State) -> &[Acted] {
        &state.counted
    }

    fn traps(rules: &[(&Arc<Rule>, &ServiceContext<'_>)], looking: &Looking<'_>) -> Vec<Vec<Trap>> {
        traps::traps(rules, looking)
    }

    fn explain(rule: &Rule, state: Option<&State>, last: LastLook<'_>) -> String {
        let nothing = State::default();
        explain(rule, state.unwrap_or(&nothing), last).join("; ")
    }
}

fn finding(code: &'static str, severity: Severity, message: String) -> Finding {
    Finding::new(Kind::Prometheus, code, severity, message)
}

fn unseen(message: String) -> Finding {
    finding(UNREACHABLE, Severity::Unknown, message)
}

/// Judges what was said. `repaired` is the last repair of the service.
fn judge(
    rule: &Rule,
    raw: &Raw,
    former: &State,
    repaired: Option<&Repaired>,
    now: &Reading,
) -> Checked<State> {
    match &raw.said {
        Said::Value(value) => {
            let probe = rule.probe();
            let query = probe.and_then(|probe| probe.query.as_deref());
            let judged = (value.as_ref().as_ref().map_err(Clone::clone)).and_then(|value| {
                let judged = expression::judge(query.unwrap_or_default(), value);
                judged.map_err(|why| format!("{}: {why}", rule.server()))
            });
            let severity = probe.map_or(Severity::Critical, |probe| probe.severity);
            let outcome = match judged {
                Ok(None) => Outcome::Passed(Vec::new()),
                Ok(Some(message)) => Outcome::Failed(finding(QUERY_MATCHED, severity, message)),
                Err(why) => Outcome::Unseen(unseen(why)),
            };
            lasting(rule, outcome, former, now)
        }
        Said::Rules(rules, held) => match (&**rules, Wanted::by(rule, &raw.host)) {
            (Ok(rules), Some(wanted)) => {
                let held = held.as_deref();
                let found = alerts::judge(&wanted, rules, held, repaired, now.wall);
                of_alerts(rule, rules, &found, former, now)
            }
            (Err(why), _) => lasting(rule, Outcome::Unseen(unseen(why.clone())), former, now),
            (Ok(_), None) => Checked::default(),
        },
    }
}

fn lasting(rule: &Rule, outcome: Outcome, former: &State, now: &Reading) -> Checked<State> {
    let limit = rule.probe().map_or(Duration::ZERO, |probe| probe.for_);
    let unseen = matches!(outcome, Outcome::Unseen(_));
    let checked = lasting::judge(outcome, limit, &former.failing, now);
    Checked {
        findings: checked.findings,
        notes: checked.notes,
        state: checked.state.map(|failing| State {
            failing,
            counted: if unseen {
                former.counted.clone()
            } else {
                Vec::new()
            },
        }),
        ..Checked::default()
    }
}

/// What the alerts of a check come to.
fn of_alerts(
    rule: &Rule,
    rules: &Rules,
    found: &alerts::Alerts<'_>,
    former: &State,
    now: &Reading,
) -> Checked<State> {
    let theirs: DateTime<Utc> = rules.clock.unwrap_or(now.wall);
    let mut unseen_too =
        (found.unseen.iter()).map(|why| unseen(format!("{}: {why}", rule.server())));
    let severity = rule.probe().map_or(Severity::Critical, |it| it.severity);
    let outcome = if found.counted.is_empty() {
        match unseen_too.next() {
            Some(first) => Outcome::Unseen(first),
            None => Outcome::Passed(Vec::new()),
        }
    } else {
        let message = alerts::describe(&found.counted, theirs);
        Outcome::Failed(finding(ALERT_FIRING, severity, message))
    };
    let mut checked = lasting(rule, outcome, former, now);
    let counts = checked.findings.iter().any(|it| it.code == ALERT_FIRING);
    if let Some(state) = &mut checked.state
        && (counts || found.unseen.is_empty())
    {
        state.counted = alerts::acted(if counts { &found.counted } else { &[] });
    }
    checked.findings.extend(unseen_too);
    if !found.reported.is_empty() {
        let message = format!(
            "{}; its action is not a restart, so it is only alerted about",
            alerts::describe(&found.reported, theirs)
        );
        checked.findings.push(Finding {
            only_alerts: true,
            ..finding(ALERT_FIRING, Severity::Critical, message)
        });
    }
    checked.notes.extend(found.notes.iter().cloned());
    checked.unsettled = found.unsettled && severity == Severity::Critical;
    checked
}

/// Makes of alerts that want a service repaired warnings, where no other check of it fails: `confirm = true`.
pub fn confirm(findings: &mut [Finding]) {
    let fails = (findings.iter())
        .any(|it| it.check != Kind::Prometheus && it.severity == Severity::Critical);
    if fails {
        return;
    }
    let own = CheckId::from(format!("prometheus:{}", rule::REPAIRS));
    let asked = |it: &&mut Finding| it.code == ALERT_FIRING && it.id == own && !it.only_alerts;
    for finding in findings.iter_mut().filter(asked) {
        if finding.severity == Severity::Critical {
            finding.severity = Severity::Warning;
            finding
                .message
                .push_str("; no check of the service itself fails (confirm = true)");
        }
    }
}

/// What it asks and how that stood, in lines for `why`.
fn explain(rule: &Rule, state: &State, last: LastLook<'_>) -> Vec<String> {
    let whom = rule.server();
    let timeout = exact(rule.timeout());
    let what = match &rule.what {
        What::Probe(probe) => match (&probe.alert, &probe.query) {
            (Some(labels), _) => format!(
                "prometheus {whom} has to have no firing alert {}, and to say so within {timeout}",
                in_braces(labels)
            ),
            (None, query) => format!(
                "prometheus {whom} has to give nothing for `{}`, and to say so within {timeout}",
                expression::shown(query.as_deref().unwrap_or_default())
            ),
        },
        What::Repairs(service) => {
            let wanted = rule.settings.as_deref().and_then(|settings| {
                let mut labels = settings.match_.clone()?;
                labels.insert(settings.service_label.clone(), service.clone());
                Some(labels)
            });
            format!(
                "prometheus {whom}: an alert that fires with {} is a reason for a repair",
                in_braces(&wanted.unwrap_or_default())
            )
        }
    };
    let mut lines = vec![what];
    let limit = rule.probe().map_or(Duration::ZERO, |probe| probe.for_);
    lines.extend(lasting::explain(&state.failing, limit, last));
    lines
}
