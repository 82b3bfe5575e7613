use std::fmt::Write;

use super::*;
use crate::check::{Finding, Kind, Severity};
use crate::fixtures::{action, at, stale};
use crate::restart::Action;
use crate::state::journal::JournalEvent;

/// The time of the page.
const NOW: i64 = 100_000;

fn named(name: &str, verdict: Verdict) -> ServiceReport {
    ServiceReport {
        name: name.to_owned(),
        verdict,
        since: Some(at(NOW - 754)),
        pid: None,
        findings: Vec::new(),
        action: None,
        restarts_last_hour: 0,
        max_per_hour: 3,
        usage: BTreeMap::new(),
        container: None,
        notes: Vec::new(),
        would: None,
    }
}

fn report(services: Vec<ServiceReport>) -> RunReport {
    RunReport {
        version: 1,
        host: "box-1".to_owned(),
        time: Some(at(NOW)),
        duration_ms: Some(7),
        exit_code: 0,
        services,
        scales: Vec::new(),
        mail: None,
        notify: None,
    }
}

/// A page of these services and entries.
fn page(services: Vec<ServiceReport>, entries: &[Entry]) -> String {
    let none = BTreeMap::new();
    render(&Facts {
        report: &report(services),
        unseen: &[],
        descriptions: &BTreeMap::new(),
        entries,
        now: at(NOW),
        config: Path::new("/etc/watchdog/watchdog.toml"),
        trouble: &[],
        waiting: &none,
    })
}

/// The text between two pieces of markup.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let begin = page
        .find(from)
        .unwrap_or_else(|| panic!("no {from} in {page}"))
        + from.len();
    let rest = &page[begin..];
    &rest[..rest.find(to).unwrap()]
}

#[test]
fn the_title_says_how_it_stands() {
    use Verdict::{Degraded, Disabled, Down, Healthy, Paused, Restarted, Starting, Unknown};
    for (verdicts, title, class) in [
        (vec![Healthy, Starting], "box-1: all well", "ok"),
        (vec![], "box-1: all well", "ok"),
        (
            vec![Healthy, Paused, Disabled],
            "box-1: 1 of 3 services are well",
            "ok",
        ),
        (vec![Down], "box-1: 1 critical of 1 service", "crit"),
        (
            vec![Healthy, Degraded, Unknown, Down, Down, Restarted],
            "box-1: 2 critical, 1 unknown, 2 warning of 6 services",
            "crit",
        ),
        (
            vec![Healthy, Unknown],
            "box-1: 1 unknown of 2 services",
            "unk",
        ),
    ] {
        let services = (0..).zip(&verdicts);
        let services = services.map(|(n, verdict)| named(&format!("s{n}"), *verdict));
        let page = page(services.collect(), &[]);
        assert_eq!(between(&page, "<h1>", "</h1>"), title, "{verdicts:?}");
        assert_eq!(between(&page, "<title>", "</title>"), title);
        assert_eq!(between(&page, "<header class=\"", "\""), class);
    }
}

#[test]
fn trouble_of_the_watchdog_itself_comes_before_all_else() {
    let none = BTreeMap::new();
    let waiting = BTreeMap::from([("phone".to_owned(), 2), ("mail".to_owned(), 1)]);
    let empty = RunReport {
        time: None,
        ..report(Vec::new())
    };
    let facts = |report, trouble, waiting| {
        render(&Facts {
            report,
            unseen: &["trader"],
            descriptions: &BTreeMap::new(),
            entries: &[],
            now: at(NOW),
            config: Path::new("/etc/w.toml"),
            trouble,
            waiting,
        })
    };
    let page = facts(&empty, &[], &none);
    assert_eq!(
        between(&page, "<h1>", "</h1>"),
        "box-1: no run has been recorded yet"
    );
    assert!(page.contains("<th scope=\"row\">trader</th><td>not looked at yet</td>"));
    let trouble = ["cannot write the state: no space left".to_owned()];
    let page = facts(
        &report(vec![named("a", Verdict::Healthy)]),
        &trouble,
        &waiting,
    );
    assert_eq!(
        between(&page, "<h1>", "</h1>"),
        "box-1: the watchdog itself is in trouble; 1 of 2 services are well"
    );
    let [trouble, phone, wrong] = [
        "cannot write the state: no space left",
        "2 messages wait to be sent on the channel phone",
        "Nothing is wrong",
    ]
    .map(|text| page.find(text).unwrap_or_else(|| panic!("{text}: {page}")));
    assert!(trouble < phone && phone < wrong);
    assert!(page.contains("1 message waits to be sent on the channel mail"));
}

#[test]
fn what_is_wrong_has_why_since_done_and_what_to_type() {
    let failed = ServiceReport {
        findings: vec![stale()],
        action: Some(Action {
            ok: false,
            new_pid: None,
            error: Some("exited with status 1".to_owned()),
            stderr: vec!["ImportError: <b>ccxt</b>".to_owned()],
            ..action()
        }),
        restarts_last_hour: 3,
        notes: vec!["a note".to_owned()],
        ..named("bot", Verdict::RestartFailed)
    };
    let page = page(vec![named("feed", Verdict::Degraded), failed], &[]);
    let article = between(&page, "<article class=\"crit\"", "</article>");
    for text in [
        "<span class=\"v crit\">restart failed</span>",
        "<li>critical: logs/trader.log: no write for 7m 12s (limit 5m) <code>log_stale</code></li>",
        "<li>a note</li>",
        "for 12m 34s",
        "exited with status 1",
        "ImportError: &lt;b&gt;ccxt&lt;/b&gt;",
        "3 of 3 attempts in the last hour",
        "<code>watchdog why bot</code>",
        "<code>watchdog restart bot --force</code>",
        "<code>watchdog pause bot --for 2h --reason &#39;being mended&#39;</code>",
    ] {
        assert!(article.contains(text), "{text}: {article}");
    }
    // the worst first
    assert!(page.find("<article class=\"crit\"") < page.find("<article class=\"warn\""));
}

#[test]
fn nothing_that_came_from_elsewhere_is_markup() {
    let evil = "</style><script>alert(1)</script><!--warning--><img src=x onerror='x'>\"\u{202e}";
    let mut service = named("bot", Verdict::Down);
    service.findings = vec![Finding::new(
        Kind::Log,
        "log_error",
        Severity::Critical,
        evil,
    )];
    service.notes = vec![evil.to_owned()];
    service.action = Some(Action {
        error: Some(evil.to_owned()),
        stderr: vec![evil.to_owned()],
        ..action()
    });
    let mut entry = Entry::new(at(NOW - 60), evil, JournalEvent::Other(evil.to_owned()));
    entry.message = Some(evil.to_owned());
    let trouble = [evil.to_owned()];
    let waiting = BTreeMap::from([(evil.to_owned(), 1)]);
    let page = render(&Facts {
        report: &RunReport {
            host: evil.to_owned(),
            ..report(vec![service])
        },
        unseen: &[evil],
        descriptions: &BTreeMap::from([("bot", evil)]),
        entries: &[entry],
        now: at(NOW),
        config: Path::new(evil),
        trouble: &trouble,
        waiting: &waiting,
    });
    assert_eq!(page.matches("<style").count(), 1);
    assert_eq!(page.matches(WARNING_HERE).count(), 1);
    for markup in ["<script", "<img", "\u{202e}"] {
        assert!(!page.contains(markup), "{markup}");
    }
    // attributes are the page's own: no quote of another's ends one
    for tag in page.split('<').skip(1) {
        let tag = &tag[..tag.find('>').unwrap_or_else(|| panic!("no end of {tag}"))];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    let warned = with_warning(&page, "This page is old.", evil);
    assert_eq!(warned.matches("<style").count(), 1);
    assert!(warned.contains("This page is old.</strong> &lt;/style&gt;"));
}

/// A hundred services with long names, to which everything happens that can.
fn worst_day() -> (Vec<ServiceReport>, Vec<Entry>) {
    let long = "<&\"'>".repeat(200);
    let mut services = Vec::new();
    let mut entries = Vec::new();
    for number in 0..100 {
        let name = format!("{number:0>3}-{}", "x".repeat(60));
        for minute in 0..1440 {
            let verdict = Verdict::ALL[minute % Verdict::ALL.len()];
            let time = at(NOW - 86_400 + i64::try_from(minute).unwrap() * 60);
            if minute % 7 == 0 {
                let mut entry = Entry::new(time, &name, JournalEvent::Verdict(verdict));
                entry.message = Some(long.clone());
                entry.action = Some(action());
                entries.push(entry);
            }
        }
        let finding = Finding::new(Kind::Log, "log_stale", Severity::Critical, long.clone());
        services.push(ServiceReport {
            findings: vec![finding; 20],
            notes: vec![long.clone(); 20],
            action: Some(Action {
                stderr: vec![long.clone(); 20],
                ..action()
            }),
            since: Some(at(NOW)),
            ..named(&name, Verdict::Down)
        });
    }
    entries.sort_by_key(|entry| entry.time);
    (services, entries)
}

#[test]
fn a_hundred_services_fit_into_100_kb_whatever_happened_to_them() {
    let (services, entries) = worst_day();
    let names: Vec<String> = services.iter().map(|it| it.name.clone()).collect();
    let page = page(services, &entries);
    assert!(page.len() < 100_000, "{} bytes", page.len());
    assert!(page.ends_with("</html>\n"));
    // each of them is in it
    for name in names {
        let row = format!("<th scope=\"row\">{name}</th>");
        assert!(page.contains(&row), "{name}");
    }
    assert!(page.contains(" more</strong>: in the table below."));
    assert!(page.contains(" earlier ones: <code>watchdog history --since 1d</code>"));
}

#[test]
fn a_good_day_of_a_hundred_services_is_small() {
    let services = (0..100).map(|n| named(&format!("worker-{n}"), Verdict::Healthy));
    let page = page(services.collect(), &[]);
    assert!(page.len() < 40_000, "{} bytes", page.len());
    assert_eq!(
        page.matches("aria-label=\"well all the time\"").count(),
        100
    );
    assert!(page.contains("Nothing happened in the last 24 hours."));
}

#[test]
fn the_style_sheet_is_the_one_that_the_policy_allows() {
    let page = page(vec![named("a", Verdict::Healthy)], &[]);
    let style = between(&page, "<style>", "</style>");
    let digest = ring::digest::digest(&ring::digest::SHA256, style.as_bytes());
    let hash = BASE64_STANDARD.encode(digest);
    assert!(policy().contains(&format!("style-src 'sha256-{hash}'")));
    let mut meta = String::new();
    write!(meta, "Content-Security-Policy\" content=\"").unwrap();
    let shown = between(&page, &meta, "\"").replace("&#39;", "'");
    assert_eq!(shown, policy());
    for foreign in ["url(", "@import", "http:", "//"] {
        assert!(!style.contains(foreign), "{foreign}");
    }
    // styles in attributes would not be applied
    assert!(!page.contains("style=\""));
}

#[test]
fn events_come_newest_first_and_those_of_mere_success_are_left_out() {
    let entry = |ago: i64, event| {
        let mut entry = Entry::new(at(NOW - ago), "trader", event);
        entry.message = Some(format!("{ago} ago"));
        entry
    };
    let sent = Entry::of_delivery(
        at(NOW - 5),
        "phone",
        crate::state::journal::DeliveryEvent::Sent,
        &[],
        "told".to_owned(),
    );
    let entries = [
        entry(90_000, JournalEvent::Recovered),
        entry(80_000, JournalEvent::Verdict(Verdict::Down)),
        entry(10, JournalEvent::Recovered),
        sent,
    ];
    let page = page(vec![named("trader", Verdict::Healthy)], &entries);
    let events = between(&page, "id=\"events\"", "</section>");
    let [newest, older] = ["10 ago", "80000 ago"].map(|text| events.find(text).unwrap());
    assert!(newest < older);
    assert!(!events.contains("90000 ago") && !events.contains("told"));
    // the date stands where it is not today's
    assert!(events.contains(&format!(">{}<", at(NOW - 10).format("%H:%M:%S"))));
    assert!(events.contains(&format!(">{}<", at(NOW - 80_000).format("%m-%d %H:%M"))));
}
