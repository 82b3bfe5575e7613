//! What alerts and expressions come to, by tables.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::look::Raw;
use super::*;
use crate::client::alertmanager::Suppressed;
use crate::client::prometheus::{Alert, Labels, Rule as AlertRule, Value};
use crate::fixtures::at;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs.map(|&(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn settings() -> Prometheus {
    Prometheus {
        match_: Some(labels(&[("auto_repair", "true")])),
        ..Prometheus::of("http://p:9090")
    }
}

/// The check that `[prometheus]` makes for `api`.
fn repairs(settings: Prometheus) -> Rule {
    Rule::repairs("api", &Arc::new(settings), Duration::from_secs(10)).unwrap()
}

fn probe(alert: Option<&[(&str, &str)]>, query: Option<&str>) -> Rule {
    let mut rule = Rule::of(Probe {
        url: None,
        alert: alert.map(labels),
        query: query.map(str::to_owned),
        severity: Severity::Critical,
        timeout: None,
        for_: Duration::ZERO,
    });
    rule.settings = Some(Arc::new(Prometheus::of("http://p:9090")));
    rule
}

/// A rule that was evaluated a second ago, as one is for repairs.
fn alerting(alerts: Vec<Alert>) -> AlertRule {
    AlertRule {
        name: "Down".to_owned(),
        group: "g".to_owned(),
        labels: labels(&[("auto_repair", "true"), ("service", "{{ $labels.job }}")]),
        health: "ok".to_owned(),
        last_error: String::new(),
        evaluated: Some(at(-1)),
        interval: Duration::from_secs(15),
        alerts,
    }
}

/// An alert of `api` that has been active since then and fires, with these labels beside.
fn firing(since: i64, more: &[(&str, &str)]) -> Alert {
    let mut all = labels(&[
        ("alertname", "Down"),
        ("auto_repair", "true"),
        ("service", "api"),
    ]);
    all.extend(labels(more));
    Alert {
        labels: all,
        is_firing: true,
        active_at: Some(at(since)),
        summary: Some("api is down".to_owned()),
    }
}

fn raw(rules: Vec<AlertRule>, held: Option<Result<Vec<Suppressed>, String>>) -> Raw {
    Raw {
        said: Said::Rules(
            Arc::new(Ok(Rules { rules, clock: None })),
            held.map(Arc::new),
        ),
        took: None,
        host: "web1".into(),
    }
}

fn now() -> Reading {
    Reading {
        wall: at(0),
        ..Reading::take()
    }
}

/// What a look comes to in a line: the findings with their severity, and the notes.
fn came_to(rule: &Rule, raw: &Raw, repaired: Option<&Repaired>) -> String {
    let checked = judge(rule, raw, &State::default(), repaired, &now());
    let finding = |it: &Finding| {
        let only = if it.only_alerts { " only told" } else { "" };
        format!("{} {}{only}: {}", it.code, it.severity.name(), it.message)
    };
    let mut told: Vec<String> = checked.findings.iter().map(finding).collect();
    told.extend(checked.notes.iter().map(|note| format!("note: {note}")));
    told.join(" | ")
}

const FIRES: &str = "alert_firing critical: alert Down fires, active for 1m 40s: api is down";

#[test]
fn which_alerts_are_reasons_for_a_repair() {
    let one = |alert: Alert| raw(vec![alerting(vec![alert])], None);
    let pending = Alert {
        is_firing: false,
        ..firing(-20, &[])
    };
    let without = |name: &str| {
        let mut alert = firing(-100, &[]);
        alert.labels.remove(name);
        alert
    };
    for (what, raw, expected) in [
        ("nothing fires", raw(vec![alerting(vec![])], None), ""),
        ("no rule at all", raw(vec![], None), ""),
        ("it fires", one(firing(-100, &[])), FIRES),
        (
            "it is pending",
            one(pending),
            "note: alert Down is pending for 20s: it counts once it fires",
        ),
        ("without the labels", one(without("auto_repair")), ""),
        ("nobody's", one(without("service")), ""),
        (
            "another service's",
            one(firing(-100, &[("service", "api2")])),
            "",
        ),
        (
            "another value",
            one(firing(-100, &[("auto_repair", "false")])),
            "",
        ),
        (
            "this host",
            one(firing(-100, &[("instance", "web1")])),
            FIRES,
        ),
        (
            "this host with a port",
            one(firing(-100, &[("instance", "WEB1:9100")])),
            FIRES,
        ),
        (
            "another host",
            one(firing(-100, &[("instance", "web10:9100")])),
            "",
        ),
        (
            "this name within",
            one(firing(-100, &[("instance", "web1.example")])),
            "",
        ),
        (
            "a restart is wanted",
            one(firing(-100, &[("action", "restart")])),
            FIRES,
        ),
        (
            "a start is wanted",
            one(firing(-100, &[("action", "start")])),
            FIRES,
        ),
        (
            "something else is wanted",
            one(firing(-100, &[("action", "investigate")])),
            "alert_firing critical only told: alert Down fires, active for 1m 40s: api is down; its action is not a restart, so it is only alerted about",
        ),
        (
            "several",
            raw(
                vec![alerting(
                    ["a", "b", "c", "d", "e"]
                        .map(|it| Alert {
                            summary: None,
                            ..firing(-1, &[("x", it)])
                        })
                        .to_vec(),
                )],
                None,
            ),
            "alert_firing critical: alert Down fires, active for 1s: {alertname=\"Down\", auto_repair=\"true\", service=\"api\", x=\"a\"}; \
             alert Down fires, active for 1s: {alertname=\"Down\", auto_repair=\"true\", service=\"api\", x=\"b\"}; \
             alert Down fires, active for 1s: {alertname=\"Down\", auto_repair=\"true\", service=\"api\", x=\"c\"}; and 2 more",
        ),
    ] {
        assert_eq!(
            came_to(&repairs(settings()), &raw, None),
            expected,
            "{what}"
        );
    }
}

#[test]
fn an_alert_is_evidence_only_where_its_rule_is_evaluated_without_an_error_and_lately() {
    let with = |change: &dyn Fn(&mut AlertRule)| {
        let mut rule = alerting(vec![firing(-100, &[])]);
        change(&mut rule);
        raw(vec![rule], None)
    };
    let of = |service: &str, health: &str| {
        let mut rule = alerting(vec![]);
        health.clone_into(&mut rule.health);
        rule.labels.insert("service".to_owned(), service.to_owned());
        raw(vec![rule], None)
    };
    for (what, raw, expected) in [
        ("well", with(&|_| ()), "alert_firing critical"),
        (
            "an error",
            with(&|it| {
                it.health = "err".to_owned();
                it.last_error = "many-to-many\u{1b}".to_owned();
            }),
            "prometheus_unreachable unknown: http://p:9090/: the rule Down cannot be evaluated: many-to-many\\x1b",
        ),
        (
            "not yet evaluated",
            with(&|it| it.health = "unknown".to_owned()),
            "prometheus_unreachable unknown: http://p:9090/: the rule Down has not been evaluated yet",
        ),
        (
            "three intervals ago",
            with(&|it| it.evaluated = Some(at(-46))),
            "alert_firing critical",
        ),
        (
            "more than that",
            with(&|it| it.evaluated = Some(at(-47))),
            "prometheus_unreachable unknown: http://p:9090/: the rule Down was last evaluated 47s ago, and should be every 15s",
        ),
        (
            "an interval that is not known",
            with(&|it| {
                it.interval = Duration::ZERO;
                it.evaluated = Some(at(-179));
            }),
            "alert_firing critical",
        ),
        (
            "no time",
            with(&|it| it.evaluated = None),
            "prometheus_unreachable unknown: http://p:9090/: when the rule Down was evaluated is not known",
        ),
        (
            "ahead",
            with(&|it| it.evaluated = Some(at(60))),
            "prometheus_unreachable unknown: http://p:9090/: the rule Down was evaluated 1m from now: the clock there, or here, is wrong",
        ),
        // a rule that says nothing may be of any service that its template names
        (
            "of any",
            of("{{ $labels.job }}", "err"),
            "prometheus_unreachable unknown",
        ),
        (
            "of this one",
            of("api", "err"),
            "prometheus_unreachable unknown",
        ),
        ("of another one", of("db", "err"), ""),
        (
            "not for repairs",
            with(&|it| {
                it.health = "err".to_owned();
                it.labels.remove("auto_repair");
                it.alerts.clear();
            }),
            "",
        ),
    ] {
        let told = came_to(&repairs(settings()), &raw, None);
        assert!(
            told.starts_with(expected) && (told.is_empty() == expected.is_empty()),
            "{what}: {told}"
        );
    }
    // one that fails hides nothing of another
    let both = vec![
        AlertRule {
            health: "err".to_owned(),
            ..alerting(vec![])
        },
        AlertRule {
            name: "Down".to_owned(),
            ..alerting(vec![firing(-100, &[])])
        },
    ];
    let told = came_to(&repairs(settings()), &raw(both, None), None);
    assert!(
        told.starts_with(FIRES) && told.contains("| prometheus_unreachable unknown"),
        "{told}"
    );
}

#[test]
fn the_clock_of_the_server_is_the_one_that_counts_there() {
    // it is an hour ahead
    let ahead = |alerts: Vec<Alert>, evaluated: i64| {
        let rules = Rules {
            rules: vec![AlertRule {
                evaluated: Some(at(evaluated)),
                ..alerting(alerts)
            }],
            clock: Some(at(3600)),
        };
        Raw {
            said: Said::Rules(Arc::new(Ok(rules)), None),
            ..raw(vec![], None)
        }
    };
    let rule = repairs(settings());
    assert_eq!(
        came_to(&rule, &ahead(vec![firing(3500, &[])], 3595), None),
        FIRES
    );
    assert!(came_to(&rule, &ahead(vec![], 0), None).contains("was last evaluated 1h ago"));
    let repaired = |seconds| Repaired {
        at: at(seconds),
        alerts: Vec::new(),
    };
    let told = came_to(
        &rule,
        &ahead(vec![firing(3500, &[])], 3595),
        Some(&repaired(-90)),
    );
    assert!(told.starts_with("note: alert Down still fires"), "{told}");
    let told = came_to(
        &rule,
        &ahead(vec![firing(3500, &[])], 3595),
        Some(&repaired(-110)),
    );
    assert_eq!(told, FIRES);
}

#[test]
fn an_alert_of_before_the_last_repair_counts_again_only_after_settle_for() {
    let fires = |since| raw(vec![alerting(vec![firing(since, &[])])], None);
    let acted = |since| {
        let alert = firing(since, &[]);
        alerts::acted(&[&alert])
    };
    let repaired = |seconds, alerts: Vec<Acted>| Repaired {
        at: at(seconds),
        alerts,
    };
    for (what, since, repaired, counts) in [
        ("active before", -100, repaired(-50, vec![]), false),
        ("active since then", -50, repaired(-50, vec![]), false),
        ("active after", -49, repaired(-50, vec![]), true),
        // clocks differ, and it is the same
        ("acted upon", -49, repaired(-50, acted(-49)), false),
        ("another one was", -49, repaired(-50, acted(-48)), true),
        ("nearly settled", -700, repaired(-599, vec![]), false),
        ("settled", -700, repaired(-600, vec![]), true),
        (
            "acted upon and settled",
            -700,
            repaired(-600, acted(-700)),
            true,
        ),
    ] {
        for rule in [
            repairs(settings()),
            probe(Some(&[("alertname", "Down")]), None),
        ] {
            let told = came_to(&rule, &fires(since), Some(&repaired));
            assert_eq!(
                told.starts_with("alert_firing critical"),
                counts,
                "{what}: {told}"
            );
            assert_eq!(
                told.starts_with("note: alert Down still fires"),
                !counts,
                "{what}: {told}"
            );
        }
    }
    let told = came_to(
        &repairs(settings()),
        &fires(-100),
        Some(&repaired(-50, vec![])),
    );
    assert_eq!(
        told,
        "note: alert Down still fires, and was active before the repair 50s ago: it counts again in 9m 10s"
    );
    // since when it is active is not known
    let mut unknown = firing(0, &[]);
    unknown.active_at = None;
    let told = came_to(
        &repairs(settings()),
        &raw(vec![alerting(vec![unknown])], None),
        Some(&repaired(-50, vec![])),
    );
    assert!(told.starts_with("note: "), "{told}");
}

#[test]
fn what_alertmanager_holds_back_repairs_nothing() {
    let alerts = || vec![alerting(vec![firing(-100, &[])])];
    let held = |pairs: &[(&str, &str)], how| {
        Ok(vec![Suppressed {
            labels: labels(pairs),
            how,
        }])
    };
    let same = [
        ("alertname", "Down"),
        ("auto_repair", "true"),
        ("service", "api"),
        ("cluster", "eu"),
    ];
    for how in ["silenced", "inhibited", "muted"] {
        assert_eq!(
            came_to(
                &repairs(settings()),
                &raw(alerts(), Some(held(&same, how))),
                None
            ),
            format!("note: alert Down fires, and is {how} in Alertmanager: it repairs nothing")
        );
    }
    let other = held(&[("alertname", "Down"), ("service", "db")], "silenced");
    for held in [other, Ok(Vec::new())] {
        assert_eq!(
            came_to(&repairs(settings()), &raw(alerts(), Some(held)), None),
            FIRES
        );
    }
    let away = || Err("the Alertmanager at http://a:9093/ refused the connection".to_owned());
    assert_eq!(
        came_to(&repairs(settings()), &raw(alerts(), Some(away())), None),
        "prometheus_unreachable unknown: http://p:9090/: alert Down fires, and whether it is silenced is not known: \
         the Alertmanager at http://a:9093/ refused the connection"
    );
    assert_eq!(
        came_to(
            &repairs(settings()),
            &raw(vec![alerting(vec![])], Some(away())),
            None
        ),
        ""
    );
}

#[test]
fn a_named_alert_has_to_have_a_rule() {
    let down = alerting(vec![]);
    let fires = || vec![alerting(vec![firing(-100, &[])])];
    for (alert, rules, expected) in [
        (&[("alertname", "Down")][..], vec![down.clone()], ""),
        (&[("alertname", "Down")], fires(), FIRES),
        (&[("alertname", "Down"), ("service", "api")], fires(), FIRES),
        (&[("alertname", "Down"), ("service", "db")], fires(), ""),
        // whatever its action is: the config says what it is for
        (
            &[("service", "api")],
            vec![alerting(vec![firing(-100, &[("action", "investigate")])])],
            FIRES,
        ),
        (
            &[("alertname", "Dwon")],
            vec![down.clone()],
            "prometheus_unreachable unknown: http://p:9090/: there is no alerting rule `Dwon` with these labels: renamed, or its file is not loaded",
        ),
        (
            &[("alertname", "Down"), ("auto_repair", "yes")],
            vec![down.clone()],
            "prometheus_unreachable unknown: http://p:9090/: there is no alerting rule `Down` with these labels: renamed, or its file is not loaded",
        ),
        (&[("severity", "page")], vec![down.clone()], ""),
    ] {
        let rule = probe(Some(alert), None);
        assert_eq!(
            came_to(&rule, &raw(rules, None), None),
            expected,
            "{alert:?}"
        );
    }
}

#[test]
fn no_answer_is_unknown_whatever_was_asked() {
    let why = || "http://p:9090/ refused the connection: nothing listens there".to_owned();
    let expected = format!("prometheus_unreachable unknown: {}", why());
    let rules = Raw {
        said: Said::Rules(Arc::new(Err(why())), None),
        ..raw(vec![], None)
    };
    let value = Raw {
        said: Said::Value(Arc::new(Err(why()))),
        ..raw(vec![], None)
    };
    assert_eq!(came_to(&repairs(settings()), &rules, None), expected);
    assert_eq!(
        came_to(&probe(Some(&[("a", "b")]), None), &rules, None),
        expected
    );
    assert_eq!(came_to(&probe(None, Some("up")), &value, None), expected);
}

#[test]
fn what_an_expression_gives_fails_once_it_has_lasted() {
    let gives = |value| Raw {
        said: Said::Value(Arc::new(Ok(value))),
        ..raw(vec![], None)
    };
    let one = || gives(Value::Scalar("1".to_owned()));
    let mut rule = probe(None, Some("scalar(x)"));
    assert_eq!(
        came_to(&rule, &one(), None),
        "query_matched critical: `scalar(x)` gives 1"
    );
    assert_eq!(came_to(&rule, &gives(Value::Vector(0, vec![])), None), "");
    assert_eq!(
        came_to(&rule, &gives(Value::Scalar("NaN".to_owned())), None),
        "prometheus_unreachable unknown: http://p:9090/: `scalar(x)` gives NaN: there is no data for it"
    );
    if let What::Probe(probe) = &mut rule.what {
        probe.for_ = Duration::from_mins(5);
        probe.severity = Severity::Warning;
    }
    assert_eq!(
        came_to(&rule, &one(), None),
        "note: `scalar(x)` gives 1; that counts once it has lasted 5m (0ms so far)"
    );
    let state = State {
        failing: Failing {
            failing_since: Some(at(-301).into()),
            ..Failing::default()
        },
        ..State::default()
    };
    let checked = judge(&rule, &one(), &state, None, &now());
    assert_eq!(checked.findings[0].severity, Severity::Warning);
}

#[test]
fn what_counted_is_remembered_until_something_else_was_seen() {
    let rule = repairs(settings());
    let since: DateTime<Utc> = at(-100);
    let fires = raw(vec![alerting(vec![firing(-100, &[])])], None);
    let state = judge(&rule, &fires, &State::default(), None, &now())
        .state
        .unwrap();
    assert_eq!(state.counted.len(), 1);
    assert_eq!(state.counted[0].active_at, Some(since));
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    let away = Raw {
        said: Said::Rules(Arc::new(Err("away".to_owned())), None),
        ..raw(vec![], None)
    };
    let unseen = judge(&rule, &away, &state, None, &now()).state.unwrap();
    assert_eq!(unseen.counted, state.counted);
    let well = judge(
        &rule,
        &raw(vec![alerting(vec![])], None),
        &unseen,
        None,
        &now(),
    );
    assert_eq!(well.state, Some(State::default()));
    // of many only some are
    let many: Vec<Alert> = (0..100).map(|it| firing(-100 - it, &[])).collect();
    let state = judge(
        &rule,
        &raw(vec![alerting(many)], None),
        &State::default(),
        None,
        &now(),
    );
    assert_eq!(state.state.unwrap().counted.len(), 16);
}

#[test]
fn with_confirm_an_alert_alone_is_a_warning() {
    use Severity::{Critical, Unknown, Warning};

    let own = || CheckId::from("prometheus:[prometheus]".to_owned());
    let alert = || Finding {
        id: own(),
        ..finding(ALERT_FIRING, Severity::Critical, "it fires".to_owned())
    };
    let severities = |mut findings: Vec<Finding>| -> Vec<Severity> {
        confirm(&mut findings);
        findings.iter().map(|it| it.severity).collect()
    };
    let other = |kind, severity| Finding::new(kind, "x", severity, "");
    assert_eq!(severities(vec![alert()]), [Warning]);
    for (kind, severity, expected) in [
        (Kind::Port, Critical, Critical),
        (Kind::Log, Warning, Warning),
        (Kind::Process, Unknown, Warning),
        // the same Prometheus is no second witness
        (Kind::Prometheus, Critical, Warning),
    ] {
        let found = severities(vec![alert(), other(kind, severity)]);
        assert_eq!(found, [expected, severity], "{kind:?}");
    }
    // what a table of the service asks for needs no second one
    let table = Finding {
        id: CheckId::from("prometheus:up == 0".to_owned()),
        ..alert()
    };
    assert_eq!(severities(vec![table]), [Critical]);
    let told = Finding {
        only_alerts: true,
        ..alert()
    };
    assert_eq!(severities(vec![told]), [Critical]);
}

#[test]
fn why_says_what_is_asked() {
    let last = LastLook {
        time: Some(at(0)),
        clock: None,
    };
    let why = |rule: &Rule| Prometheuses::explain(rule, None, last);
    assert_eq!(
        why(&repairs(settings())),
        "prometheus http://p:9090/: an alert that fires with {auto_repair=\"true\", service=\"api\"} is a reason for a repair"
    );
    assert_eq!(
        why(&probe(Some(&[("alertname", "Down")]), None)),
        "prometheus http://p:9090/ has to have no firing alert {alertname=\"Down\"}, and to say so within 10s"
    );
    assert_eq!(
        why(&probe(None, Some("up\n== 0"))),
        "prometheus http://p:9090/ has to give nothing for `up == 0`, and to say so within 10s"
    );
    assert_eq!(probe(None, Some("up\n== 0")).target(), "up == 0");
    let long = probe(None, Some(&"up + ".repeat(100))).target();
    assert!(long.chars().count() < 150, "{long}");
}
