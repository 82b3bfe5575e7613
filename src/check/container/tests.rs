//! What an engine's answer means, by tables.

use std::time::Duration;

use chrono::TimeDelta;

use super::judge::judge;
use super::*;
use crate::check::Kind;
use crate::client::engine::{Details, Health, HealthResult, Listed, State, Trouble};
use crate::fixtures::at;

const ID: &str = "2bb4f39b04599424472aa8e4c4d817c9ced95e23407e4406a590cd59a6503e87";
const MINUTE: Duration = Duration::from_secs(60);

fn rule() -> Rule {
    Rule {
        name: Some("web".to_owned()),
        project: None,
        service: None,
        exit_ok: vec![0],
    }
}

fn listed(name: &str, made: i64) -> Listed {
    Listed {
        id: ID.to_owned(),
        names: vec![format!("/{name}")],
        image: "nginx".to_owned(),
        created: at(made).timestamp(),
        ..Listed::default()
    }
}

fn details(status: &str) -> Details {
    Details {
        id: ID.to_owned(),
        state: State {
            status: status.to_owned(),
            running: status == "running",
            finished_at: Some(at(-90)),
            started_at: Some(at(-900)),
            ..State::default()
        },
        ..Details::default()
    }
}

/// One that ended by itself, 90 s ago.
fn exited(exit_code: i64) -> Details {
    let mut details = details("exited");
    details.state.exit_code = exit_code;
    details
}

fn answer(details: Details) -> Answer {
    Answer {
        listed: vec![listed("web", -1000)],
        details: vec![(ID.to_owned(), Ok(details))],
        ..Answer::default()
    }
}

fn judged(answer: &Answer, known: Option<&LastSeen>) -> Seen {
    judge(&rule(), answer, known, at(0), MINUTE, |pid, _| pid == 4711)
}

fn codes(seen: &Seen) -> Vec<&str> {
    seen.findings.iter().map(|finding| &*finding.code).collect()
}

fn known(state: &str, restart_count: u64) -> LastSeen {
    LastSeen {
        id: ID.to_owned(),
        state: state.to_owned(),
        restart_count,
        ..LastSeen::default()
    }
}

#[test]
fn each_state_has_its_finding() {
    let with = |status: &str, change: &dyn Fn(&mut Details)| {
        let mut details = details(status);
        change(&mut details);
        details
    };
    let nothing = |_: &mut Details| {};
    for (details, before, code, presence, part) in [
        (
            with("running", &nothing),
            None,
            None,
            Presence::Up(None),
            "",
        ),
        (
            with("running", &|it| it.state.pid = 4711),
            None,
            None,
            Presence::Up(Some(4711)),
            "",
        ),
        // a number of another PID namespace
        (
            with("running", &|it| it.state.pid = 59),
            None,
            None,
            Presence::Up(None),
            "",
        ),
        (
            with("exited", &|it| it.state.exit_code = 137),
            None,
            Some(EXITED),
            Presence::Down,
            "web exited with code 137 1m 30s ago",
        ),
        (
            with("exited", &|it| {
                it.state.exit_code = 137;
                it.state.oom_killed = true;
            }),
            None,
            Some(EXITED),
            Presence::Down,
            "(memory ran out)",
        ),
        (
            with("exited", &|it| {
                it.state.exit_code = 127;
                it.state.error = "exec: not found\n".to_owned();
            }),
            None,
            Some(EXITED),
            Presence::Down,
            "ago: exec: not found",
        ),
        // it ended on purpose
        (with("exited", &nothing), None, None, Presence::Down, ""),
        (
            with("dead", &nothing),
            None,
            Some(DEAD),
            Presence::Down,
            "web is dead",
        ),
        (
            with("paused", &nothing),
            None,
            Some(PAUSED),
            Presence::Up(None),
            "docker unpause web",
        ),
        (with("restarting", &nothing), None, None, Presence::Down, ""),
        (
            with("restarting", &nothing),
            Some(known("restarting", 0)),
            Some(RESTARTING),
            Presence::Down,
            "again and again",
        ),
        (
            with("created", &nothing),
            None,
            Some(CREATED),
            Presence::Down,
            "never started",
        ),
        (with("removing", &nothing), None, None, Presence::Down, ""),
        (
            with("hibernating", &nothing),
            None,
            Some(UNREADABLE),
            Presence::Unseen,
            "`hibernating`",
        ),
    ] {
        let shown = format!("{details:?}");
        let seen = judged(&answer(details), before.as_ref());
        assert_eq!(
            codes(&seen),
            code.into_iter().collect::<Vec<_>>(),
            "{shown}"
        );
        assert_eq!(seen.presence, presence, "{shown}");
        if let Some(finding) = seen.findings.first() {
            assert!(finding.message.contains(part), "{}", finding.message);
            assert_eq!(finding.check, Kind::Container);
        }
        // what runs or ended is told, what is on its way is waited for
        let is_waited_for = ["restarting", "created", "removing"]
            .iter()
            .any(|it| shown.contains(&format!("status: \"{it}\"")));
        assert_eq!(
            seen.activating.is_some(),
            is_waited_for && code.is_none(),
            "{shown}"
        );
        let last_seen = seen.last_seen.unwrap();
        assert_eq!((&*last_seen.id, &*last_seen.image), (ID, "nginx"));
    }
}

#[test]
fn a_check_of_its_own_counts_while_it_runs() {
    let with = |status: &str, failing_streak| {
        let mut details = details("running");
        details.state.health = Some(Health {
            status: status.to_owned(),
            failing_streak,
            log: vec![HealthResult {
                exit_code: 1,
                output: "no \u{1b}[1mfile\n".to_owned(),
            }],
        });
        details
    };
    let seen = judged(&answer(with("unhealthy", 4)), None);
    assert_eq!(codes(&seen), [UNHEALTHY]);
    let message = &seen.findings[0].message;
    assert!(
        message.contains("has failed 4 times in a row: `no ") && !message.contains('\u{1b}'),
        "{message}"
    );
    // what a paused one keeps
    assert!(
        judged(&answer(with("unhealthy", 0)), None)
            .findings
            .is_empty()
    );
    assert!(
        judged(&answer(with("healthy", 0)), None)
            .findings
            .is_empty()
    );
    let starting = judged(&answer(with("starting", 0)), None);
    assert!(starting.findings.is_empty() && starting.activating.is_some());
}

#[test]
fn what_the_engine_did_by_itself_is_counted_from_run_to_run() {
    for (before, now, code) in [
        (Some(known("running", 2)), 2, None),
        (
            Some(known("running", 2)),
            3,
            Some((RESTARTED, Severity::Warning)),
        ),
        (
            Some(known("running", 2)),
            4,
            Some((RESTARTED, Severity::Warning)),
        ),
        (
            Some(known("running", 2)),
            5,
            Some((RESTARTING, Severity::Critical)),
        ),
        // an order of ours sets it back
        (Some(known("running", 5)), 0, None),
        // the first look, and another container
        (None, 9, None),
        (
            Some(LastSeen {
                id: "other".to_owned(),
                ..known("running", 0)
            }),
            9,
            None,
        ),
    ] {
        let details = Details {
            restart_count: now,
            ..details("running")
        };
        let seen = judged(&answer(details), before.as_ref());
        let found = seen.findings.first().map(|it| (&*it.code, it.severity));
        assert_eq!(found, code, "{before:?} {now}");
    }
}

#[test]
fn what_is_not_there_alone_is_not_started() {
    let none = Answer::default();
    let seen = judged(&none, None);
    assert_eq!(
        (codes(&seen), seen.presence),
        (vec![MISSING], Presence::Down)
    );
    assert!(seen.left_alone.is_some());
    // Compose makes it anew: the old one is gone, and the new one has not its name yet
    let remaking = Answer {
        listed: vec![listed("0123456789ab_web", -10)],
        ..Answer::default()
    };
    let seen = judged(&remaking, None);
    assert!(seen.findings.is_empty() && seen.activating.is_some());
    // before version 2 the old one has another name, and has ended just now
    let mut renamed = answer(Details {
        state: State {
            finished_at: Some(at(-20)),
            ..details("exited").state
        },
        ..details("exited")
    });
    renamed.listed = vec![listed("0123456789ab_web", -3600)];
    let seen = judged(&renamed, None);
    assert!(seen.findings.is_empty() && seen.activating.is_some());
    if let Ok(details) = &mut renamed.details[0].1 {
        details.state.finished_at = Some(at(-31));
    }
    assert_eq!(codes(&judged(&renamed, None)), [LEFTOVER, MISSING]);
    // or has failed to
    let mut left = answer(details("running"));
    left.listed.push(listed("0123456789ab_web", -3600));
    let seen = judged(&left, None);
    assert_eq!(codes(&seen), [LEFTOVER]);
    assert!(seen.activating.is_none());
    // which runs: another one beside it would be a second copy
    left.listed[1].state = "running".to_owned();
    assert!(judged(&left, None).left_alone.is_none());
    left.listed[1].id = "other".to_owned();
    left.details[0].1 = Ok(exited(3));
    let seen = judged(&left, None);
    assert_eq!(codes(&seen), [LEFTOVER, EXITED]);
    assert!(seen.is_not_to_be_touched && seen.left_alone.unwrap().contains("runs in the place"));
    // the old one has ended, and Compose is about to start the new one
    let mut remaking = answer(exited(3));
    remaking.listed.push(Listed {
        id: "other".to_owned(),
        ..listed("0123456789ab_web", -10)
    });
    let seen = judged(&remaking, None);
    assert_eq!(codes(&seen), [EXITED]);
    assert!(seen.recreating.is_some() && seen.activating.is_none());
    // it still runs
    remaking.details[0].1 = Ok(details("running"));
    let seen = judged(&remaking, None);
    assert!(seen.recreating.is_some() && seen.activating.is_some());
    // removed between the list and its details
    let mut gone = answer(details("running"));
    gone.details[0].1 = Err(Trouble::NotFound("no".to_owned()));
    let seen = judged(&gone, None);
    assert!(seen.findings.is_empty() && seen.activating.is_some());
    gone.details[0].1 = Err(Trouble::Unreachable("silent".to_owned()));
    let seen = judged(&gone, None);
    assert_eq!(
        (codes(&seen), seen.presence),
        (vec![UNREADABLE], Presence::Unseen)
    );
    assert_eq!(codes(&unreachable("no engine")), [ENGINE_UNREACHABLE]);
    assert_eq!(unreachable("no engine").presence, Presence::Unseen);
}

#[test]
fn a_compose_service_is_known_by_its_labels() {
    let of = |pairs: &[(&str, &str)], name: &str| Listed {
        labels: pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..listed(name, 0)
    };
    let own = [
        ("com.docker.compose.project", "app"),
        ("com.docker.compose.service", "web"),
    ];
    let one_off = [own[0], own[1], ("com.docker.compose.oneoff", "True")];
    let other = [own[0], ("com.docker.compose.service", "db")];
    let all = [
        of(&own, "app-web-1"),
        of(&one_off, "app-web-run-1"),
        of(&other, "app-db-1"),
        of(&[], "web"),
    ];
    let by_labels = Rule {
        name: None,
        project: Some("app".to_owned()),
        service: Some("web".to_owned()),
        exit_ok: Vec::new(),
    };
    let names = |rule: &Rule| -> Vec<String> {
        let selected = select(rule, &all);
        selected
            .found
            .iter()
            .map(|it| it.name().to_owned())
            .collect()
    };
    assert_eq!(names(&by_labels), ["app-web-1"]);
    assert_eq!(names(&rule()), ["web"]);
    // two of them: nobody knows which is meant
    let two = Answer {
        listed: vec![of(&own, "app-web-1"), of(&own, "app-web-2")],
        ..Answer::default()
    };
    let seen = judge(&by_labels, &two, None, at(0), MINUTE, |_, _| false);
    assert_eq!(codes(&seen), [UNREADABLE]);
    assert!(seen.findings[0].message.contains("app-web-1, app-web-2"));
}

#[test]
fn what_restarts_its_containers_itself_keeps_them() {
    for label in [
        "com.docker.swarm.task.id",
        "io.kubernetes.pod.name",
        "com.hashicorp.nomad.alloc_id",
        "PODMAN_SYSTEMD_UNIT",
    ] {
        let mut answer = answer(details("exited"));
        answer.listed[0]
            .labels
            .insert(label.to_owned(), "x".to_owned());
        let seen = judged(&answer, None);
        assert_eq!(
            (codes(&seen), seen.presence),
            (vec![MANAGED], Presence::Unseen),
            "{label}"
        );
    }
}

#[test]
fn a_young_one_that_is_not_started_is_waited_for() {
    let mut young = answer(details("created"));
    young.listed[0].created = (at(0) - TimeDelta::seconds(5)).timestamp();
    let seen = judged(&young, Some(&known("created", 0)));
    assert!(seen.findings.is_empty() && seen.activating.is_some());
}

#[test]
fn one_of_compose_that_is_not_started_is_seen_twice() {
    let mut made = answer(details("created"));
    for label in ["project", "service"] {
        let label = format!("com.docker.compose.{label}");
        made.listed[0].labels.insert(label, "web".to_owned());
    }
    for (before, code) in [
        (None, None),
        (Some(known("running", 0)), None),
        (Some(known("created", 0)), Some(CREATED)),
    ] {
        let seen = judged(&made, before.as_ref());
        assert_eq!(codes(&seen), code.into_iter().collect::<Vec<_>>());
        assert_eq!(seen.activating.is_some(), code.is_none());
    }
}

#[test]
fn of_what_has_not_changed_nothing_is_asked_and_it_runs() {
    let mut answer = answer(details("exited"));
    answer.details.clear();
    answer.unchanged.push(Unchanged {
        id: ID.to_owned(),
        pid: 4711,
        started_at: Some(at(-900)),
    });
    let known = known("running", 3);
    let seen = judged(&answer, Some(&known));
    assert_eq!(codes(&seen), [""; 0]);
    assert_eq!(seen.presence, Presence::Up(Some(4711)));
    assert_eq!(seen.last_seen.as_deref(), Some(&known));
    // nothing is known of it
    let seen = judged(&answer, None);
    assert_eq!(codes(&seen), [UNREADABLE]);
}

#[test]
fn a_network_that_is_lost_is_a_reason_to_restart_where_that_mends_it() {
    use network::Loss;
    for (loss, found, is_left_alone, is_awaited) in [
        (Loss::Restart("why".to_owned()), true, false, false),
        (Loss::Remake("why".to_owned()), true, true, false),
        (Loss::BeingMade("why".to_owned()), false, false, true),
    ] {
        let mut seen = Seen::default();
        seen.lost_network(&loss);
        let wanted: &[&str] = if found { &[NETWORK_LOST] } else { &[] };
        assert_eq!(codes(&seen), wanted, "{loss:?}");
        assert!(seen.findings.iter().all(|it| it.message == "why"));
        assert_eq!(seen.left_alone.is_some(), is_left_alone, "{loss:?}");
        assert_eq!(seen.activating.is_some(), is_awaited, "{loss:?}");
    }
}

#[test]
fn logs_and_probes_are_not_judged_while_it_is_paused_and_once_after_that() {
    let paused = judged(&answer(details("paused")), None);
    let why = paused.unjudged(None).unwrap();
    assert_eq!(
        why,
        "its logs and probes are not judged while web is paused"
    );
    let runs = judged(&answer(details("running")), None);
    let other = LastSeen {
        id: "other".to_owned(),
        ..known("paused", 0)
    };
    for (before, is_judged) in [
        (None, true),
        (Some(known("running", 0)), true),
        (Some(known("paused", 0)), false),
        (Some(other), true),
    ] {
        let why = runs.unjudged(before.as_ref());
        assert_eq!(why.is_none(), is_judged, "{before:?} {why:?}");
    }
}
