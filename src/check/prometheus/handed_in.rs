//! Alerts that an Alertmanager hands in, judged by the same rules as those that a Prometheus is asked for.
//!
//! What is silenced, inhibited or muted it does not hand in, so nobody is asked about that.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::alerts::{Repaired, Wanted, judge};
use super::rule::Rule;
use super::settings::Prometheus;
use crate::client::prometheus::{Alert, Labels, Rule as AlertRule, Rules};
use crate::clock::Reading;

/// The service that a firing alert wants repaired, as `[prometheus]` says; the error is why there is none.
pub fn service_of<'a>(settings: &Prometheus, labels: &'a Labels) -> Result<&'a str, String> {
    let label = &settings.service_label;
    if settings.match_.is_none() {
        return Err("[prometheus] has no `match`".to_owned());
    }
    let service = labels.get(label).map(String::as_str);
    service.ok_or_else(|| format!("it has no label `{label}`"))
}

/// Why a firing alert that was handed in is no reason to repair the service now; nothing where it is one.
pub fn refusal(
    settings: &Arc<Prometheus>,
    service: &str,
    labels: &Labels,
    started: DateTime<Utc>,
    repaired: Option<&Repaired>,
    now: &Reading,
) -> Option<String> {
    let rule = Rule::repairs(service, settings, std::time::Duration::ZERO);
    let host = settings.host();
    let Some(wanted) = rule.as_ref().and_then(|rule| Wanted::by(rule, &host)) else {
        return Some("[prometheus] has no `match`".to_owned());
    };
    // as if a rule that is well had it
    let rules = Rules {
        rules: vec![AlertRule {
            name: labels.get("alertname").cloned().unwrap_or_default(),
            health: "ok".to_owned(),
            evaluated: Some(now.wall),
            labels: labels.clone(),
            alerts: vec![Alert {
                labels: labels.clone(),
                is_firing: true,
                active_at: Some(started),
                summary: None,
            }],
            ..AlertRule::default()
        }],
        clock: None,
    };
    let judged = judge(&wanted, &rules, None, repaired, now.wall);
    if !judged.counted.is_empty() {
        return None;
    }
    if !judged.reported.is_empty() {
        return Some("its label `action` says that it is only alerted about".to_owned());
    }
    let why = [judged.unseen, judged.notes].concat();
    if why.is_empty() {
        let label = &settings.host_label;
        return Some(format!(
            "the alert has not all labels of `match`, or its `{label}` is another host than {host}"
        ));
    }
    Some(why.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_rules_of_alerts_hold_for_those_that_are_handed_in() {
        let settings = Arc::new(Prometheus {
            match_: Some(labels(&[("auto_repair", "true")])),
            ..Prometheus::of("http://127.0.0.1:9090")
        });
        let base = [
            ("alertname", "High"),
            ("auto_repair", "true"),
            ("service", "api"),
        ];
        let with = |more: &[(&str, &str)]| labels(&[&base, more].concat());
        let now = Reading {
            wall: at(0),
            ..Reading::take()
        };
        let repaired = Repaired {
            at: at(-60),
            alerts: Vec::new(),
        };
        for (labels, started, repaired, why) in [
            (with(&[]), -90, None, None),
            (with(&[("instance", "web1:9100")]), -90, None, None),
            (with(&[("action", "restart")]), -90, None, None),
            (
                with(&[("instance", "web2:9100")]),
                -90,
                None,
                Some("is another host than web1"),
            ),
            (
                with(&[("action", "scale")]),
                -90,
                None,
                Some("only alerted about"),
            ),
            (
                with(&[("auto_repair", "false")]),
                -90,
                None,
                Some("has not all labels"),
            ),
            (
                with(&[("service", "db")]),
                -90,
                None,
                Some("has not all labels"),
            ),
            // it was there before the repair, and has not had the time to end
            (with(&[]), -90, Some(&repaired), Some("counts again in 9m")),
            (with(&[]), -30, Some(&repaired), None),
        ] {
            let refused = refusal(&settings, "api", &labels, at(started), repaired, &now);
            match why {
                None => assert_eq!(refused, None, "{labels:?}"),
                Some(why) => {
                    let refused = refused.unwrap_or_default();
                    assert!(refused.contains(why), "{labels:?}: {refused}");
                }
            }
        }
        assert_eq!(service_of(&settings, &with(&[])), Ok("api"));
        assert!(service_of(&settings, &labels(&[])).is_err());
        let none = Prometheus::of("http://127.0.0.1:9090");
        assert!(service_of(&none, &with(&[])).is_err());
    }
}
