//! What of a Prometheus check may not do what was meant: each is made once, as the next run will make it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::look::{Raw, Said, ask_alertmanager, look};
use super::rule::{Rule, What};
use super::settings::Prometheus;
use super::{State, expression, judge};
use crate::check::trap::Trap;
use crate::check::{Looking, ServiceContext, Severity};
use crate::client::prometheus::{Alert, Labels, Rules};
use crate::clock::exact;
use crate::text::{cut, visible};

/// Asks for all services at once.
pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    // those that `[prometheus]` makes are its own matter
    let probes = rules.iter().filter(|(rule, _)| rule.probe().is_some());
    let asked: Vec<_> = probes.map(|(rule, _)| (Arc::clone(rule), None)).collect();
    let mut raws = look(&asked, looking).into_iter();
    let found = rules.iter().map(|(rule, service)| match &rule.what {
        What::Repairs(_) => Vec::new(),
        What::Probe(_) => match raws.next() {
            Some(raw) => in_probe(rule, service, &raw, looking),
            None => Vec::new(),
        },
    });
    found.collect()
}

fn in_probe(
    rule: &Rule,
    service: &ServiceContext<'_>,
    raw: &Raw,
    looking: &Looking<'_>,
) -> Vec<Trap> {
    let Some(probe) = rule.probe() else {
        return Vec::new();
    };
    let key = if probe.alert.is_some() {
        "alert"
    } else {
        "query"
    };
    // what lasts is no matter here
    let mut at_once = rule.clone();
    if let What::Probe(probe) = &mut at_once.what {
        probe.for_ = std::time::Duration::ZERO;
    }
    let findings = judge(&at_once, raw, &State::default(), None, looking.now).findings;
    let mut traps: Vec<Trap> = (findings.iter())
        .map(|finding| match finding.severity {
            Severity::Unknown => Trap::of(
                key,
                format!(
                    "{}; until that is mended the check is unknown in each run, and finds nothing",
                    finding.message
                ),
                "see that this is the Prometheus that is meant, and that it can be reached from here",
            ),
            _ => Trap::of(
                key,
                format!(
                    "{}: it would be {} in the next run",
                    finding.message, finding.code
                ),
                "see what is wrong, or what the expression gives where all is well",
            ),
        })
        .collect();
    let range = probe.query.as_deref().and_then(expression::range);
    if let Some(range) = range.filter(|it| *it > service.start_grace)
        && probe.severity == Severity::Critical
        && service.has_method
    {
        traps.push(Trap::of(
            "query",
            format!(
                "the expression looks back {}, and start_grace is {}: after a restart it still gives what was before, and the service is restarted again",
                exact(range),
                exact(service.start_grace)
            ),
            "set start_grace to more than that, or let Prometheus have an alert for it, and write alert = { … }: an alert of before a repair counts again only after settle_for",
        ));
    }
    traps
}

/// What of the table `[prometheus]` may not do what was meant, where services are repaired for alerts. `names` are those of
/// all services.
pub fn of_settings(
    settings: &Arc<Prometheus>,
    names: &BTreeSet<&str>,
    looking: &Looking<'_>,
) -> Vec<Trap> {
    let any = names.iter().next().copied().unwrap_or_default();
    let Some(rule) = Rule::repairs(any, settings, looking.check_timeout) else {
        return Vec::new();
    };
    let raws = look(&[(Arc::new(rule), None)], looking);
    let Some(Raw { said, host, .. }) = raws.into_iter().next() else {
        return Vec::new();
    };
    let Said::Rules(rules, _) = said else {
        return Vec::new();
    };
    let mut traps = match &*rules {
        Err(why) => vec![Trap::of(
            "url",
            format!(
                "{why}; until that is mended every service is unknown where nothing else is wrong with it"
            ),
            "see that this is the Prometheus that is meant, and that it can be reached from here",
        )],
        Ok(rules) => in_rules(settings, names, rules, &host),
    };
    if settings.alertmanager.is_none() {
        traps.push(Trap::of(
            "match",
            "without `alertmanager` what is silenced there repairs services all the same: Prometheus knows nothing of silences",
            "write alertmanager = \"http://127.0.0.1:9093\", say",
        ));
    } else if let Err(why) = ask_alertmanager(settings, looking.check_timeout, looking) {
        traps.push(Trap::of(
            "alertmanager",
            format!(
                "{why}; until that is mended an alert that fires is unknown, and repairs nothing"
            ),
            "see that this is the Alertmanager that is meant, and that it can be reached from here",
        ));
    }
    traps
}

fn in_rules(settings: &Prometheus, names: &BTreeSet<&str>, rules: &Rules, host: &str) -> Vec<Trap> {
    let nothing = Labels::new();
    let wanted = settings.match_.as_ref().unwrap_or(&nothing);
    let may_have = |labels: &Labels, rule: &str| {
        wanted.iter().all(|(name, value)| {
            let own = if name == "alertname" {
                Some(rule)
            } else {
                labels.get(name).map(String::as_str)
            };
            own.is_none_or(|own| own == value || own.contains("{{"))
        }) && wanted
            .keys()
            .any(|name| name == "alertname" || labels.contains_key(name))
    };
    let ours: Vec<_> = (rules.rules.iter())
        .filter(|rule| {
            may_have(&rule.labels, &rule.name)
                || rule.alerts.iter().any(|it| has(&it.labels, wanted))
        })
        .collect();
    let mut traps = Vec::new();
    if ours.is_empty() {
        traps.push(Trap::of(
            "match",
            "no alerting rule has these labels: nothing is ever repaired for an alert",
            "add them to the rules that are reasons for repairs; contrib/prometheus has some",
        ));
    }
    for rule in ours {
        let service = rule.labels.get(&settings.service_label);
        let service = service.filter(|it| !it.contains("{{") && !names.contains(it.as_str()));
        if let Some(service) = service {
            traps.push(Trap::of(
                "service_label",
                format!(
                    "the alerts of the rule {} are of the service `{}`, which this config does not have: they repair nothing here",
                    shown(&rule.name),
                    shown(service)
                ),
                "that is well where the service is another host's; else give both the same name",
            ));
        }
        for alert in rule.alerts.iter().filter(|it| has(&it.labels, wanted)) {
            traps.extend(in_alert(settings, names, alert, host));
        }
    }
    traps
}

fn in_alert(
    settings: &Prometheus,
    names: &BTreeSet<&str>,
    alert: &Alert,
    host: &str,
) -> Option<Trap> {
    let label = |name: &str| alert.labels.get(name).map(String::as_str);
    let name = shown(label("alertname").unwrap_or_default());
    let Some(service) = label(&settings.service_label) else {
        return Some(Trap::of(
            "service_label",
            format!(
                "the alert {name} has no label `{}`: it is nobody's, and repairs nothing",
                settings.service_label
            ),
            "add it to the rule, or set service_label to the label that it has",
        ));
    };
    let there = label(&settings.host_label)?;
    let is_other = !super::alerts::is_host(there, host);
    (is_other && names.contains(service)).then(|| {
        Trap::of(
            "host",
            format!(
                "the alert {name} is of `{}`, and this host is `{}`: it repairs nothing here",
                shown(there),
                shown(host)
            ),
            "that is well where it is another host's; else set host to how the label names this one",
        )
    })
}

fn has(labels: &Labels, wanted: &Labels) -> bool {
    (wanted.iter()).all(|(name, value)| labels.get(name) == Some(value))
}

fn shown(text: &str) -> String {
    cut(&visible(text), 100)
}
