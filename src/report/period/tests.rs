//! What a stretch of time came to, by tables: an entry is its second, its service and its event.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::check::Severity;
use crate::check::{Finding, Kind};
use crate::fixtures::{action, at, stale};
use crate::report::page::Style;
use crate::restart::Action;

const HOUR: i64 = 3600;

/// The time of the reports here begins at 0.
fn read(entries: &[Entry], now: i64) -> PeriodReport {
    let mut reader = Reader::new(at(0), at(now));
    for entry in entries {
        reader.add(entry);
    }
    reader.finish("h".to_owned(), &["a", "b"], Runs::default())
}

fn of_a(entries: &[Entry], now: i64) -> ServicePeriod {
    read(entries, now).services.swap_remove(0)
}

fn verdict(seconds: i64, verdict: Verdict) -> Entry {
    Entry::new(at(seconds), "a", JournalEvent::Verdict(verdict))
}

fn recovered(seconds: i64) -> Entry {
    Entry::new(at(seconds), "a", JournalEvent::Recovered)
}

fn made(seconds: i64, ok: bool) -> Entry {
    let (what, error) = if ok {
        (Verdict::Restarted, None)
    } else {
        (Verdict::RestartFailed, Some("exited".to_owned()))
    };
    Entry {
        findings: vec![stale()],
        action: Some(Action {
            ok,
            error,
            ..action()
        }),
        ..verdict(seconds, what)
    }
}

#[test]
fn trouble_is_counted_as_far_as_it_is_in_the_time_of_the_report() {
    use Verdict::{Degraded, Disabled, Down, Failing, Healthy, Paused, Starting, Unknown};
    // the entries; how often it failed, how long it was not well, the longest trouble, and whether it goes on
    type Case = (Vec<Entry>, usize, i64, Option<(i64, Option<i64>)>, bool);
    let cases: Vec<Case> = vec![
        (vec![], 0, 0, None, false),
        (
            vec![verdict(100, Down), recovered(400)],
            1,
            300,
            Some((100, Some(400))),
            false,
        ),
        // one that began before is counted from the border on, and is as long as it was
        (
            vec![verdict(-500, Down), recovered(400)],
            1,
            400,
            Some((-500, Some(400))),
            false,
        ),
        // one that ended at the very border is in it, one that ended before is not
        (
            vec![verdict(-500, Down), recovered(0)],
            1,
            0,
            Some((-500, Some(0))),
            false,
        ),
        (vec![verdict(-500, Down), recovered(-1)], 0, 0, None, false),
        // one that is open
        (
            vec![verdict(HOUR - 60, Failing)],
            1,
            60,
            Some((HOUR - 60, None)),
            true,
        ),
        (
            vec![verdict(-60, Failing)],
            1,
            HOUR,
            Some((-60, None)),
            true,
        ),
        // what begins at the end is in it
        (vec![verdict(HOUR, Down)], 1, 0, Some((HOUR, None)), true),
        // a start in between ends nothing, and is no time of trouble
        (
            vec![
                verdict(100, Failing),
                verdict(160, Starting),
                verdict(400, Failing),
                recovered(500),
            ],
            1,
            160,
            Some((100, Some(500))),
            false,
        ),
        // what it ends with is the end
        (
            vec![
                verdict(100, Failing),
                verdict(160, Starting),
                verdict(400, Healthy),
            ],
            1,
            60,
            Some((100, Some(160))),
            false,
        ),
        (
            vec![verdict(100, Failing), verdict(160, Paused)],
            1,
            60,
            Some((100, Some(160))),
            false,
        ),
        (
            vec![verdict(100, Disabled), verdict(160, Healthy)],
            0,
            0,
            None,
            false,
        ),
        // warnings are trouble, and no failure
        (
            vec![verdict(100, Degraded), recovered(400)],
            0,
            300,
            Some((100, Some(400))),
            false,
        ),
        (
            vec![verdict(100, Unknown), verdict(200, Down), recovered(400)],
            1,
            300,
            Some((100, Some(400))),
            false,
        ),
        // the longest of several
        (
            vec![
                verdict(10, Down),
                recovered(20),
                verdict(30, Down),
                recovered(300),
                verdict(310, Down),
                recovered(320),
            ],
            3,
            290,
            Some((30, Some(300))),
            false,
        ),
    ];
    for (entries, failures, not_well, longest, goes_on) in cases {
        let sum = of_a(&entries, HOUR);
        let times: Vec<i64> = entries
            .iter()
            .map(|it| (it.time - at(0)).num_seconds())
            .collect();
        assert_eq!(sum.failures, failures, "{times:?}");
        assert_eq!(
            sum.not_well,
            Duration::from_secs(not_well.unsigned_abs()),
            "{times:?}"
        );
        let seconds = |time: DateTime<Utc>| (time - at(0)).num_seconds();
        let found = sum
            .longest_trouble
            .map(|it| (seconds(it.from), it.to.map(seconds)));
        assert_eq!(found, longest, "{times:?}");
        assert_eq!(sum.in_trouble, goes_on, "{times:?}");
    }
}

#[test]
fn attempts_are_counted_from_the_border_on_with_what_they_met() {
    let interrupted = Entry {
        message: Some("a run was cut short".to_owned()),
        ..Entry::new(at(500), "a", JournalEvent::Interrupted)
    };
    let repaired = Entry {
        action: Some(Action {
            kind: Operation::Repair,
            ..action()
        }),
        ..verdict(600, Verdict::Repaired)
    };
    let restarting = Entry::new(at(100), "a", JournalEvent::Restarting);
    let entries = [
        made(-1, true),
        made(0, true),
        restarting,
        made(100, false),
        made(300, true),
        interrupted,
        repaired,
    ];
    let sum = of_a(&entries, HOUR);
    assert_eq!((sum.restarts, sum.restarts_failed), (3, 1));
    assert_eq!((sum.repairs, sum.repairs_failed), (1, 0));
    assert_eq!(sum.mean_between_restarts, Some(Duration::from_secs(150)));
    let told: Vec<String> = sum.attempts.iter().map(text::attempt).collect();
    assert_eq!(
        told,
        [
            "2027-01-15T08:00:00Z  restarted for logs/trader.log: no write for 7m 12s (limit 5m) (log_stale)",
            "2027-01-15T08:01:40Z  restart failed for logs/trader.log: no write for 7m 12s (limit 5m) (log_stale): exited",
            "2027-01-15T08:05:00Z  restarted for logs/trader.log: no write for 7m 12s (limit 5m) (log_stale)",
            "2027-01-15T08:08:20Z  cut short: a run was cut short",
            "2027-01-15T08:10:00Z  repaired",
        ]
    );
    assert_eq!(of_a(&[made(0, true)], HOUR).mean_between_restarts, None);
}

#[test]
fn a_clock_that_was_set_makes_no_time_of_trouble() {
    // back by an hour: the end is before the beginning
    let sum = of_a(
        &[verdict(2 * HOUR, Verdict::Down), recovered(HOUR)],
        3 * HOUR,
    );
    assert_eq!((sum.failures, sum.not_well), (1, Duration::ZERO));
    // forward by a year, and back: that is now
    let sum = of_a(
        &[verdict(9000 * HOUR, Verdict::Down), recovered(HOUR)],
        2 * HOUR,
    );
    assert_eq!((sum.failures, sum.not_well), (1, Duration::ZERO));
    assert!(sum.longest_trouble.is_some_and(|it| it.lasted.is_zero()));
    let sum = of_a(&[made(9000 * HOUR, true)], 2 * HOUR);
    assert_eq!((sum.restarts, sum.attempts[0].time), (1, at(2 * HOUR)));
}

#[test]
fn what_the_journal_does_not_reach_back_to_is_said() {
    let known = |entries: &[Entry]| text::known_from(&read(entries, HOUR));
    assert!(known(&[]).unwrap().contains("the journal is empty"));
    assert_eq!(known(&[recovered(-1)]), None);
    assert_eq!(known(&[recovered(0)]), None);
    let begins = known(&[recovered(60), recovered(120)]).unwrap();
    assert_eq!(
        begins,
        "the journal begins 2027-01-15T08:01:00Z: what was before is not known"
    );
}

#[test]
fn runs_that_are_missing_are_told() {
    let silent = |seconds: i64, since: i64| Entry {
        since: Some(at(since)),
        ..Entry::new(at(seconds), "watchdog", JournalEvent::Silent)
    };
    let entries = [
        silent(-10, -900),
        silent(60, -3000),
        silent(3000, 1000),
        silent(9000, 8000),
    ];
    let report = read(&entries, 2 * HOUR);
    let spans: Vec<(i64, u64)> = (report.silent.iter())
        .map(|it| ((it.from - at(0)).num_seconds(), it.lasted.as_secs()))
        .collect();
    assert_eq!(spans, [(-3000, 3060), (1000, 2000), (7200, 0)]);
    // and the one that goes on
    for (last, interval, is_silent) in [
        (HOUR - 60, 60, false),
        (HOUR - 600, 60, false),
        (HOUR - 601, 60, true),
        (HOUR - 3000, 1000, false),
        (HOUR - 3001, 1000, true),
    ] {
        let runs = Runs {
            last: Some(at(last)),
            interval: Some(Duration::from_secs(interval)),
        };
        let report = Reader::new(at(0), at(HOUR)).finish("h".to_owned(), &[], runs);
        assert_eq!(!report.silent.is_empty(), is_silent, "{last} {interval}");
    }
}

#[test]
fn messages_and_the_watchdogs_own_troubles_are_told() {
    let delivery = |seconds, channel: &str, what| {
        Entry::of_delivery(
            at(seconds),
            channel,
            what,
            &["a".to_owned()],
            "m".to_owned(),
        )
    };
    let damaged = |seconds| Entry {
        message: Some("state.json was damaged".to_owned()),
        ..Entry::new(at(seconds), "watchdog", JournalEvent::StateDamaged)
    };
    let entries = [
        delivery(-1, "mail", DeliveryEvent::Sent),
        delivery(1, "mail", DeliveryEvent::Sent),
        delivery(2, "mail", DeliveryEvent::Deferred),
        delivery(3, "phone", DeliveryEvent::Refused),
        delivery(4, "phone", DeliveryEvent::GivenUp),
        damaged(-1),
        damaged(5),
    ];
    let report = read(&entries, HOUR);
    let lines = text::lines(&report);
    let has = |line: &str| lines.iter().any(|(_, it)| it == line);
    assert!(has("messages by mail: 1 sent"), "{lines:?}");
    assert!(
        has("messages by phone: 0 sent, 1 refused, 1 given up"),
        "{lines:?}"
    );
    assert!(
        has("2027-01-15T08:00:05Z  watchdog: state.json was damaged"),
        "{lines:?}"
    );
    assert_eq!(report.troubles.len(), 1);
}

#[test]
fn services_come_as_in_the_config_and_those_that_are_gone_behind_them() {
    let of =
        |name: &str, seconds| Entry::new(at(seconds), name, JournalEvent::Verdict(Verdict::Down));
    let report = read(&[of("z", 10), of("old", -10), of("b", 20)], HOUR);
    let names: Vec<&str> = report.services.iter().map(|it| it.name.as_str()).collect();
    // of one that is gone, and of which nothing was heard since, nobody knows how it is
    assert_eq!(names, ["a", "b", "z"]);
}

const PAGE: &str = "\
h, 2027-01-15T08:00:00Z to 2027-01-15T09:00:00Z
1 of 2 services had trouble in 1h: 2 restarts (1 failed), 1 failure, 5m not well
a: 2 restarts (1 failed), 1 failure, 5m not well, 1m between restarts on average
    longest trouble: 5m, from 2027-01-15T08:00:10Z to 2027-01-15T08:05:10Z
    2027-01-15T08:00:10Z  restart failed for logs/trader.log: no write for 7m 12s (limit 5m) (log_stale): exited
    2027-01-15T08:01:10Z  restarted for logs/trader.log: no write for 7m 12s (limit 5m) (log_stale)
        all 3 threads wait
        what it was doing: /s/evidence/a-20270115T080110Z.txt
no trouble: b
the journal begins 2027-01-15T08:00:10Z: what was before is not known
";

fn typical() -> PeriodReport {
    let mut second = made(70, true);
    if let Some(action) = &mut second.action {
        action.facts = vec!["all 3 threads wait".to_owned()];
        action.evidence = Some("/s/evidence/a-20270115T080110Z.txt".to_owned());
    }
    read(&[made(10, false), second, recovered(310)], HOUR)
}

#[test]
fn a_report_is_a_page_for_people() {
    let wide = Style {
        width: 200,
        ..Style::plain()
    };
    assert_eq!(text::page(&typical(), wide), PAGE);
    assert_eq!(
        text::headline(&read(&[], HOUR)),
        "2 services in 1h: no trouble"
    );
    let sentences = text::sentences(&typical());
    assert_eq!(sentences[0], text::headline(&typical()));
    assert!(sentences.contains(&"no trouble: b".to_owned()));
}

#[test]
fn a_report_is_json_for_programs() {
    let value = serde_json::to_value(typical()).unwrap();
    let service = &value["services"][0];
    assert_eq!(value["version"], 1);
    assert_eq!(value["from"], "2027-01-15T08:00:00Z");
    for (key, expected) in [
        ("name", serde_json::json!("a")),
        ("restarts", 2.into()),
        ("restarts_failed", 1.into()),
        ("failures", 1.into()),
        ("not_well_s", 300.into()),
        ("mean_between_restarts_s", 60.into()),
        ("in_trouble", false.into()),
    ] {
        assert_eq!(service[key], expected, "{key}");
    }
    assert_eq!(service["longest_trouble"]["seconds"], 300);
    let attempt = &service["attempts"][1];
    assert_eq!(attempt["kind"], "restart");
    assert_eq!(attempt["findings"][0]["code"], "log_stale");
    assert_eq!(attempt["evidence"], "/s/evidence/a-20270115T080110Z.txt");
    assert_eq!(
        value["services"][1]["longest_trouble"],
        serde_json::Value::Null
    );
}

#[test]
fn a_report_is_one_document_in_which_nothing_of_others_is_markup() {
    let evil = "</li><script>alert(1)</script>\"' & \x1b[2J";
    let mut entry = made(10, false);
    entry.findings = vec![Finding::new(
        Kind::Log,
        "log_error",
        Severity::Critical,
        evil,
    )];
    if let Some(action) = &mut entry.action {
        action.error = Some(evil.to_owned());
        action.facts = vec![evil.to_owned()];
    }
    let html = html::document(&read(&[entry], HOUR));
    assert!(html.starts_with("<!doctype html>\n") && html.ends_with("</html>\n"));
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("href="));
    assert!(
        html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; &amp; \\x1b[2J"),
        "{html}"
    );
    assert!(!html.contains(|c: char| c.is_control() && c != '\n'));
    for tag in [
        "html", "body", "table", "ul", "li", "h1", "h2", "p", "span", "tr", "td",
    ] {
        let count = |text: &str| html.matches(text).count();
        let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
        assert_eq!(opened, count(&format!("</{tag}>")), "{tag}\n{html}");
    }
}

proptest! {
    /// Whatever the journal has, and in whatever order of times, a service was not well for no longer than there was time.
    #[test]
    fn no_time_is_counted_twice(
        entries in prop::collection::vec((-HOUR..3 * HOUR, 0..6_u8), 0..40),
    ) {
        let entries: Vec<Entry> = entries
            .into_iter()
            .map(|(seconds, what)| match what {
                0 => recovered(seconds),
                1 => verdict(seconds, Verdict::Starting),
                2 => verdict(seconds, Verdict::Degraded),
                3 => made(seconds, true),
                4 => made(seconds, false),
                _ => verdict(seconds, Verdict::Down),
            })
            .collect();
        let mut ordered = entries.clone();
        ordered.sort_by_key(|entry| entry.time);
        let sum = of_a(&ordered, HOUR);
        prop_assert!(sum.not_well <= Duration::from_secs(HOUR.unsigned_abs()));
        let in_time = |entry: &&Entry| entry.time >= at(0) && entry.action.is_some();
        prop_assert_eq!(sum.restarts, ordered.iter().filter(in_time).count());
        prop_assert!(sum.failures <= ordered.len());
        // nor does any order of times end in a fault
        let _ = text::page(&read(&entries, HOUR), Style::plain());
    }
}
