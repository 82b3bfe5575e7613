//! Journals as a run sees them, one look after the other.

use std::ops::ControlFlow;
use std::time::Duration;

use super::super::super::{Expect, Forbid, Unit};
use super::super::read::Wanted;
use super::*;
use crate::check::pattern::Pattern;
use crate::fixtures::at;
use crate::systemctl::Manager;

const UNIT: &str = "trader.service";

fn rule() -> Rule {
    Rule {
        journal: true,
        shown: String::new(),
        unit: Some(Unit {
            name: UNIT.to_owned(),
            manager: Manager::System,
        }),
        max_age: Some(Duration::from_secs(300)),
        lines: 3,
        forbid: vec![Forbid {
            pattern: Pattern::new("ERROR").unwrap(),
            at_most: 0,
            except: Vec::new(),
        }],
        ..Rule::fixture("unused")
    }
}

/// A message that was logged at a second, by a run of the unit.
fn entry(second: i64, run: &str, text: &str) -> Entry {
    let micros = at(second).timestamp_micros();
    Entry {
        cursor: format!("s=s;i={micros:x};b=b;m={micros:x};t={micros:x};x=1"),
        time: micros,
        invocation: (!run.is_empty()).then(|| run.to_owned()),
        text: text.as_bytes().to_vec(),
    }
}

fn reading(second: i64) -> Reading {
    Reading {
        wall: at(second),
        boot_ms: 0,
        awake_ms: 0,
        boot_id: "".into(),
    }
}

/// A unit of which `present` is the run, and what was logged.
struct Scene {
    rule: Rule,
    run: Run,
    begins: Option<DateTime<Utc>>,
    author: Author,
    journal: Vec<Entry>,
    position: Option<LogPosition>,
}

impl Scene {
    fn new() -> Self {
        Self {
            rule: rule(),
            run: Run {
                id: Some("now".to_owned()),
                began: None,
            },
            begins: None,
            author: Author::Present,
            journal: Vec::new(),
            position: None,
        }
    }

    /// Looks at a second, and says what is found and noted.
    fn look(&mut self, second: i64) -> Vec<String> {
        let wanted = Wanted {
            known: self.position.as_ref().and_then(|it| it.journal.as_ref()),
            new: true,
            lines: 10,
        };
        let mut messages = Messages::default();
        for entry in self.journal.iter().rev() {
            let flow = messages.take(entry.clone(), &wanted);
            messages.stopped = flow == ControlFlow::Break(());
            if messages.stopped {
                break;
            }
        }
        let now = reading(second);
        let judgement = Judgement {
            rule: &self.rule,
            name: "j",
            context: Context {
                now: &now,
                jumped_at: None,
                author: self.author,
                shown: false,
            },
            run: &self.run,
            begins: self.begins,
        };
        let seen = judgement.judge(&messages, self.position.as_ref());
        self.position = seen.state;
        let findings = seen.findings.iter().map(|finding| {
            let severity = format!("{:?}", finding.severity).to_lowercase();
            format!("{severity} {}: {}", finding.code, finding.message)
        });
        findings.chain(seen.notes).collect()
    }
}

#[test]
fn each_message_is_judged_once_and_by_the_run_that_logged_it() {
    let mut scene = Scene::new();
    scene.journal = vec![entry(0, "old", "ERROR 0"), entry(1, "now", "ERROR 1\nfine")];
    assert_eq!(
        scene.look(10),
        [
            "warning log_error: j: 2 of the last lines, perhaps of an earlier process, match `ERROR` (limit 0), the first: ERROR 0"
        ]
    );
    assert_eq!(scene.look(20), [""; 0]);
    scene.journal.push(entry(21, "now", "fine"));
    scene.journal.push(entry(22, "now", "ERROR 2"));
    assert_eq!(
        scene.look(30),
        ["critical log_error: j: 1 new line matches `ERROR` (limit 0), the first: ERROR 2"]
    );
    assert_eq!(scene.look(40), [""; 0]);
    scene.journal.push(entry(41, "old", "ERROR 3"));
    assert_eq!(
        scene.look(50),
        [
            "warning log_error: j: 1 new line, perhaps of an earlier process, matches `ERROR` (limit 0), the first: ERROR 3"
        ]
    );
    // without a run in it, it is as with a file
    for (author, severity) in [(Author::Present, "critical"), (Author::Perhaps, "warning")] {
        scene.author = author;
        let last = scene.journal.last().unwrap().time;
        scene.journal.push(Entry {
            time: last + 1_000_000,
            cursor: entry((last - at(0).timestamp_micros()) / 1_000_000 + 1, "", "").cursor,
            ..entry(0, "", "ERROR 4")
        });
        let found = scene.look(60);
        assert!(found[0].starts_with(severity), "{found:?}");
    }
}

#[test]
fn what_a_restart_has_stopped_is_not_judged_again_though_it_comes_late() {
    let mut scene = Scene::new();
    scene.journal = vec![entry(0, "old", "fine")];
    assert_eq!(scene.look(1), [""; 0]);
    let position = scene.position.as_mut().unwrap();
    position.restarted = true;
    scene.journal.push(entry(2, "old", "ERROR of the end"));
    scene.journal.push(entry(3, "now", "fine"));
    assert_eq!(scene.look(4), [""; 0]);
    scene.journal.push(entry(5, "old", "ERROR"));
    assert!(scene.look(6)[0].starts_with("warning"));
}

#[test]
fn where_no_cursor_could_be_had_the_time_tells_what_is_done_with() {
    let mut scene = Scene::new();
    scene.position = Some(LogPosition {
        journal: Some(JournalPosition {
            until: at(10).timestamp_micros(),
            ..JournalPosition::default()
        }),
        ..LogPosition::default()
    });
    scene.journal = vec![entry(9, "now", "ERROR"), entry(10, "now", "ERROR")];
    assert_eq!(scene.look(11), [""; 0]);
    scene.journal.push(entry(12, "now", "ERROR"));
    assert!(scene.look(13)[0].starts_with("critical log_error: j: 1 new line"));
    assert_eq!(scene.look(14), [""; 0]);
}

#[test]
fn a_journal_that_lost_what_was_judged_is_judged_from_there_and_it_is_told() {
    let gone = "j: the message that was judged last is not in it any more";
    let mut scene = Scene::new();
    scene.journal = vec![entry(0, "now", "fine"), entry(1, "now", "fine")];
    assert_eq!(scene.look(2), [""; 0]);
    scene.journal = vec![entry(3, "now", "ERROR")];
    let found = scene.look(4);
    assert!(found[0].starts_with("critical log_error: j: 1 new line"));
    assert!(found[1].starts_with(gone), "{found:?}");
    assert_eq!(scene.look(5), [""; 0]);
    // of a journal that is empty it is told once
    scene.journal.clear();
    assert!(scene.look(6)[0].starts_with(gone));
    assert_eq!(scene.look(7), [""; 0]);
    scene.journal.push(entry(8, "now", "ERROR"));
    assert!(scene.look(9)[0].starts_with("critical log_error: j: 1 new line"));
    assert_eq!(scene.look(10), [""; 0]);
    // and what is expected may have been there
    scene.rule.expect = vec![Expect {
        pattern: Pattern::new("tick").unwrap(),
        at_least: 1,
        except: Vec::new(),
    }];
    scene.journal = vec![entry(11, "now", "fine")];
    let found = scene.look(12);
    assert!(
        found.iter().any(|it| it.contains("`tick` is not judged")),
        "{found:?}"
    );
}

#[test]
fn the_age_is_that_of_the_newest_message() {
    let mut scene = Scene::new();
    scene.journal = vec![entry(0, "now", "fine")];
    assert_eq!(scene.look(300), [""; 0]);
    assert_eq!(
        scene.look(432),
        ["critical log_stale: j: no message for 7m 12s (limit 5m)"]
    );
    // the time that is known stays where the message is gone
    scene.journal.clear();
    assert!(scene.look(433)[0].starts_with("critical log_stale: j: no message for 7m 13s"));
    scene.journal.push(entry(1000, "now", "fine"));
    assert!(
        scene.look(440)[0]
            .starts_with("warning log_in_future: j: its newest message is 9m 20s ahead")
    );
}

#[test]
fn a_unit_without_a_message_is_as_old_as_its_run_or_the_first_look() {
    for (began, begins, found) in [
        (
            None,
            None,
            &[
                "",
                "critical log_stale: j: no message since it was first looked at, 5m 1s ago (limit 5m)",
            ],
        ),
        (
            Some(-60),
            Some(-900),
            &[
                "",
                "critical log_stale: j: no message since the unit was started, 6m 1s ago (limit 5m)",
            ],
        ),
        // a journal that is too short to tell
        (
            Some(-6000),
            Some(200),
            &[
                "",
                "j: there is no message, and its age is not judged: the journal goes back only 1m 41s",
            ],
        ),
    ] {
        let mut scene = Scene::new();
        scene.run.began = began.map(at);
        let mut looks = Vec::new();
        for second in [0, 301] {
            scene.begins = begins.filter(|begins| *begins < second).map(at);
            if begins == Some(200) && second == 0 {
                scene.begins = Some(at(-1));
            }
            let found = scene.look(second);
            let stale = |it: &&String| !it.contains("goes back only 1s");
            looks.push(found.iter().find(stale).cloned().unwrap_or_default());
        }
        assert_eq!(looks, *found);
    }
}
