//! Which alerts count: pure, from the rules of a Prometheus and what its Alertmanager holds back.
//!
//! An alert is evidence only where its rule is there, was evaluated lately and without an error: the alerts of a rule that
//! fails stay as they were.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::rule::{Rule, What};
use crate::client::alertmanager::Suppressed;
use crate::client::prometheus::{Alert, Labels, Rule as AlertRule, Rules, in_braces};
use crate::clock::{age, rough};
use crate::text::{cut, visible};

/// An evaluation that is older than so many intervals says nothing about now.
const INTERVALS: u32 = 3;

/// The interval of a group that does not say its own: the default of Prometheus.
const USUAL: Duration = Duration::from_mins(1);

/// Times over HTTP are of whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// Of what others say, so many characters are shown.
const SHOWN: usize = 200;

/// An alert that a repair was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// All its labels.
    pub labels: Labels,
    /// Since when it was active, as Prometheus says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_at: Option<DateTime<Utc>>,
}

/// The last repair of a service, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// When it was begun.
    pub at: DateTime<Utc>,
    /// The alerts that counted then.
    pub alerts: Vec<Acted>,
}

/// Which alerts are meant.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    /// What they have all of.
    labels: &'a Labels,
    /// The label that names the service, and the service.
    service: Option<(&'a str, &'a str)>,
    /// The label that names a host, and this one.
    host: Option<(&'a str, &'a str)>,
    /// An alert that was active before the last repair counts again after so long.
    settle_for: Duration,
}

impl<'a> Wanted<'a> {
    /// Those of a check; nothing where it asks for an expression. `host` is how labels name this one.
    pub(super) fn by(rule: &'a Rule, host: &'a str) -> Option<Self> {
        let settings = rule.settings.as_deref();
        match &rule.what {
            What::Probe(probe) => Some(Self {
                labels: probe.alert.as_ref()?,
                service: None,
                host: None,
                settle_for: settings.map_or(SETTLE_FOR, |it| it.settle_for),
            }),
            What::Repairs(service) => {
                let settings = settings?;
                Some(Self {
                    labels: settings.match_.as_ref()?,
                    service: Some((&settings.service_label, service)),
                    host: Some((&settings.host_label, host)),
                    settle_for: settings.settle_for,
                })
            }
        }
    }

    /// Whether an alert is meant.
    fn is(&self, labels: &Labels) -> bool {
        let has = |name: &str, value: &str| labels.get(name).is_some_and(|it| it == value);
        let names_host = |(label, host): (&str, &str)| {
            labels.get(label).is_none_or(|value| is_host(value, host))
        };
        self.labels.iter().all(|(name, value)| has(name, value))
            && self.service.is_none_or(|(label, name)| has(label, name))
            && self.host.is_none_or(names_host)
    }

    /// Whether the alerts of a rule may be meant, by what the rule says.
    fn may_be_of(&self, rule: &AlertRule) -> bool {
        let own = self
            .labels
            .iter()
            .map(|(name, value)| says(rule, name, value));
        let own: Vec<Says> = own.collect();
        let service = self.service.map(|(label, name)| says(rule, label, name));
        let contradicts = own.iter().chain(&service).any(|it| *it == Says::Other);
        // of what a rule leaves to its series nothing is known, and most rules have nothing to do with repairs
        !contradicts && own.contains(&Says::Perhaps)
    }
}

/// What holds without a table `[prometheus]`.
const SETTLE_FOR: Duration = Duration::from_mins(10);

/// What a rule says of a label.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    /// It has this value, or a template that may give it.
    Perhaps,
    /// It has another one.
    Other,
    /// Nothing: the series may have it.
    Nothing,
}

fn says(rule: &AlertRule, name: &str, value: &str) -> Says {
    let own = if name == "alertname" {
        Some(&rule.name)
    } else {
        rule.labels.get(name)
    };
    match own {
        Some(own) if own == value || own.contains("{{") => Says::Perhaps,
        Some(_) => Says::Other,
        None => Says::Nothing,
    }
}

/// Whether a label names a host: `host`, or `host:port`.
pub(super) fn is_host(value: &str, host: &str) -> bool {
    let bare = match value.rsplit_once(':') {
        Some((bare, port))
            if port.bytes().all(|it| it.is_ascii_digit())
                && (!bare.contains(':') || bare.ends_with(']')) =>
        {
            bare
        }
        _ => value,
    };
    let unbracketed = |text: &str| -> String {
        let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        inner.unwrap_or(text).to_ascii_lowercase()
    };
    unbracketed(bare) == unbracketed(host)
}

/// What the rules of a server come to.
#[derive(Debug, Default)]
pub(super) struct Alerts<'a> {
    /// Alerts that fire, and count.
    pub(super) counted: Vec<&'a Alert>,
    /// Alerts that fire, and that people are only alerted about.
    pub(super) reported: Vec<&'a Alert>,
    /// What could not be seen, as sentences.
    pub(super) unseen: Vec<String>,
    /// What a person should know beside.
    pub(super) notes: Vec<String>,
    /// One of before the last repair fires, and does not count yet.
    pub(super) unsettled: bool,
}

/// Judges the alerts that are meant. `held` is what an Alertmanager holds back, where one was asked; the error is a sentence.
pub(super) fn judge<'a>(
    wanted: &Wanted<'_>,
    rules: &'a Rules,
    held: Option<&Result<Vec<Suppressed>, String>>,
    repaired: Option<&Repaired>,
    now: DateTime<Utc>,
) -> Alerts<'a> {
    let theirs = rules.clock.unwrap_or(now);
    let mut alerts = Alerts::default();
    let mut is_there = false;
    for rule in &rules.rules {
        let may_be = wanted.may_be_of(rule);
        is_there |= may_be;
        let meant = rule.alerts.iter().filter(|it| wanted.is(&it.labels));
        let mut meant = meant.peekable();
        if !may_be && meant.peek().is_none() {
            continue;
        }
        if let Some(why) = trouble(rule, theirs) {
            alerts.unseen.push(why);
            continue;
        }
        for alert in meant {
            alerts.take(wanted, alert, held, repaired, (now, theirs));
        }
    }
    if let Some(name) = wanted.labels.get("alertname")
        && !is_there
    {
        let name = cut(&visible(name), SHOWN);
        alerts.unseen.push(format!(
            "there is no alerting rule `{name}` with these labels: renamed, or its file is not loaded"
        ));
    }
    alerts
}

impl<'a> Alerts<'a> {
    fn take(
        &mut self,
        wanted: &Wanted<'_>,
        alert: &'a Alert,
        held: Option<&Result<Vec<Suppressed>, String>>,
        repaired: Option<&Repaired>,
        (now, theirs): (DateTime<Utc>, DateTime<Utc>),
    ) {
        let name = name(alert);
        if !alert.is_firing {
            let since = alert.active_at.map(|at| rough(age(theirs, at)));
            let since = since.map(|it| format!(" for {it}")).unwrap_or_default();
            self.notes.push(format!(
                "alert {name} is pending{since}: it counts once it fires"
            ));
            return;
        }
        match held {
            Some(Ok(held)) => {
                if let Some(held) = held.iter().find(|it| it.is(&alert.labels)) {
                    self.notes.push(format!(
                        "alert {name} fires, and is {} in Alertmanager: it repairs nothing",
                        held.how
                    ));
                    return;
                }
            }
            Some(Err(why)) => {
                self.unseen.push(format!(
                    "alert {name} fires, and whether it is silenced is not known: {why}"
                ));
                return;
            }
            None => {}
        }
        let only_alerts = wanted.service.is_some()
            && (alert.labels.get("action")).is_some_and(|it| it != "restart" && it != "start");
        if only_alerts {
            self.reported.push(alert);
            return;
        }
        if let Some(repaired) = repaired.filter(|it| was_before(alert, it, theirs - now))
            && let Some(left) = wanted.settle_for.checked_sub(age(now, repaired.at))
            && !left.is_zero()
        {
            self.unsettled = true;
            self.notes.push(format!(
                "alert {name} still fires, and was active before the repair {} ago: it counts again in {}",
                rough(age(now, repaired.at)),
                rough(left)
            ));
            return;
        }
        self.counted.push(alert);
    }
}

/// Whether an alert was active before a repair. `ahead` is how far the clock of the server is before ours.
fn was_before(alert: &Alert, repaired: &Repaired, ahead: TimeDelta) -> bool {
    let Some(active_at) = alert.active_at else {
        return true;
    };
    let is_same =
        |acted: &Acted| acted.active_at == Some(active_at) && acted.labels == alert.labels;
    let ours = active_at.checked_sub_signed(ahead).unwrap_or(active_at);
    ours <= repaired.at || repaired.alerts.iter().any(is_same)
}

/// Why a rule says nothing about now.
fn trouble(rule: &AlertRule, theirs: DateTime<Utc>) -> Option<String> {
    let name = cut(&visible(&rule.name), SHOWN);
    match &*rule.health {
        "ok" => {}
        "unknown" => return Some(format!("the rule {name} has not been evaluated yet")),
        _ => {
            let why = cut(&visible(&rule.last_error), SHOWN);
            let why = if why.is_empty() {
                "no reason is given"
            } else {
                &why
            };
            return Some(format!("the rule {name} cannot be evaluated: {why}"));
        }
    }
    let interval = if rule.interval.is_zero() {
        USUAL
    } else {
        rule.interval
    };
    let most = interval * INTERVALS + SECOND;
    let Some(evaluated) = rule.evaluated else {
        return Some(format!("when the rule {name} was evaluated is not known"));
    };
    let (old, ahead) = (age(theirs, evaluated), age(evaluated, theirs));
    if old > most {
        return Some(format!(
            "the rule {name} was last evaluated {} ago, and should be every {}",
            rough(old),
            rough(interval)
        ));
    }
    (ahead > most).then(|| {
        format!(
            "the rule {name} was evaluated {} from now: the clock there, or here, is wrong",
            rough(ahead)
        )
    })
}

fn name(alert: &Alert) -> String {
    let name = alert.labels.get("alertname").map_or("", String::as_str);
    cut(&visible(name), SHOWN)
}

/// Of alerts, so many are described.
const DESCRIBED: usize = 3;

/// What alerts say, for people.
pub(super) fn describe(alerts: &[&Alert], theirs: DateTime<Utc>) -> String {
    let one = |alert: &&Alert| {
        let since = alert.active_at.map(|at| rough(age(theirs, at)));
        let since = since
            .map(|it| format!(", active for {it}"))
            .unwrap_or_default();
        let said = match &alert.summary {
            Some(summary) => visible(summary),
            None => in_braces(&alert.labels),
        };
        format!("alert {} fires{since}: {}", name(alert), cut(&said, SHOWN))
    };
    let mut reported: Vec<String> = alerts.iter().take(DESCRIBED).map(one).collect();
    if alerts.len() > DESCRIBED {
        reported.push(format!("and {} more", alerts.len() - DESCRIBED));
    }
    reported.join("; ")
}

/// What of alerts is remembered where something is done about them: so many at most.
pub(super) fn acted(alerts: &[&Alert]) -> Vec<Acted> {
    const MOST: usize = 16;
    let alerts = alerts.iter().take(MOST).map(|alert| Acted {
        labels: alert.labels.clone(),
        active_at: alert.active_at,
    });
    alerts.collect()
}
