//! Output of containers as runs see it, one look after the other.

use std::time::Duration;

use proptest::prelude::*;

use super::super::super::{Expect, Forbid};
use super::super::{new, read};
use super::*;
use crate::check::pattern::Pattern;
use crate::client::engine::{Lines, Stream};
use crate::clock::Reading;
use crate::fixtures::at;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

fn rule() -> Rule {
    Rule {
        container: true,
        shown: String::new(),
        max_age: Some(Duration::from_secs(300)),
        lines: 3,
        forbid: vec![Forbid {
            pattern: pattern("ERROR"),
            at_most: 0,
            except: Vec::new(),
        }],
        ..Rule::fixture("unused")
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

fn line(second: i64, stream: Stream, text: &str) -> Line {
    Line {
        time: at(second),
        stream,
        text: text.as_bytes().to_vec(),
    }
}

/// A container, what it has written, and what is remembered of it.
struct Scene {
    rule: Rule,
    id: String,
    run: Run,
    author: Author,
    output: Vec<Line>,
    position: Option<LogPosition>,
}

impl Scene {
    fn new(rule: Rule) -> Self {
        Self {
            rule,
            id: "one".to_owned(),
            run: Run {
                is_up: true,
                since: Some(at(0)),
            },
            author: Author::Present,
            output: Vec::new(),
            position: None,
        }
    }

    fn says(&mut self, second: i64, text: &str) {
        self.output.push(line(second, Stream::Output, text));
    }

    fn look(&mut self, second: i64) -> Seen {
        let now = reading(second);
        let known = (self.position.as_ref()).and_then(|position| position.container.clone());
        let known = known.map(|known| {
            if known.id == self.id {
                return known;
            }
            OutputPosition {
                id: self.id.clone(),
                ..OutputPosition::default()
            }
        });
        let all = &self.output;
        let ask = |count: usize| {
            Ok(Lines {
                lines: all[all.len().saturating_sub(count)..].to_vec(),
                is_cut: false,
            })
        };
        let enough = |lines: &[Line]| new::is_enough(lines, known.as_ref());
        let output = read::read(self.rule.lines, enough, ask).unwrap();
        let judgement = Judgement {
            rule: &self.rule,
            name: "out",
            context: Context {
                now: &now,
                jumped_at: None,
                author: self.author,
                shown: false,
            },
            run: self.run,
            id: &self.id,
        };
        let seen = judgement.judge(&output, known.as_ref(), self.position.as_ref());
        self.position.clone_from(&seen.state);
        seen
    }

    /// The codes and severities of what a look finds.
    fn finds(&mut self, second: i64) -> Vec<(String, Severity)> {
        let findings = self.look(second).findings;
        let short = |it: super::super::super::Finding| (it.code.into_owned(), it.severity);
        findings.into_iter().map(short).collect()
    }
}

fn error(severity: Severity) -> Vec<(String, Severity)> {
    vec![("log_error".to_owned(), severity)]
}

#[test]
fn a_line_counts_once_and_by_who_wrote_it() {
    let mut scene = Scene::new(rule());
    scene.says(10, "ERROR of long ago");
    assert_eq!(scene.finds(20), error(Severity::Warning));
    assert_eq!(scene.finds(21), []);
    scene.says(22, "ERROR");
    assert_eq!(scene.finds(23), error(Severity::Critical));
    assert_eq!(scene.finds(24), []);
    // the engine itself has started it anew: the last words of the one before are a warning
    scene.says(25, "ERROR, and out");
    scene.run.since = Some(at(26));
    assert_eq!(scene.finds(27), error(Severity::Warning));
    // one that has ended
    scene.says(28, "ERROR");
    scene.run.is_up = false;
    assert_eq!(scene.finds(29), error(Severity::Warning));
    // a restart of ours is the end of what was
    scene.says(30, "ERROR of what was stopped");
    scene.position = Some(super::super::at_end(scene.position.as_ref()));
    scene.says(31, "ERROR while it ended");
    scene.run = Run {
        is_up: true,
        since: Some(at(32)),
    };
    assert_eq!(scene.finds(33), []);
    scene.says(34, "ERROR of the new one");
    assert_eq!(scene.finds(35), error(Severity::Critical));
    // a restart that failed leaves the old one
    scene.position = Some(super::super::at_end(scene.position.as_ref()));
    scene.says(36, "ERROR of the old one");
    assert_eq!(scene.finds(37), error(Severity::Critical));
    // made anew: all that it has is new
    scene.id = "two".to_owned();
    scene.output.clear();
    scene.says(40, "ERROR at once");
    scene.run.since = Some(at(39));
    assert_eq!(scene.finds(41), error(Severity::Critical));
    assert_eq!(scene.finds(42), []);
    // of a run of which nothing is known the process decides
    scene.run.since = None;
    scene.author = Author::Perhaps;
    scene.says(43, "ERROR");
    assert_eq!(scene.finds(44), error(Severity::Warning));
}

#[test]
fn lines_of_one_time_and_of_a_clock_that_was_set_back_count_once() {
    let mut scene = Scene::new(rule());
    scene.says(10, "fine");
    scene.look(11);
    scene.says(12, "ERROR");
    assert_eq!(scene.finds(13), error(Severity::Critical));
    // at the same instant, behind it
    scene.says(12, "ERROR");
    assert_eq!(scene.finds(14), error(Severity::Critical));
    scene.output.push(line(12, Stream::Error, "ERROR"));
    assert_eq!(scene.finds(15), error(Severity::Critical));
    assert_eq!(scene.finds(16), []);
    // the clock is set back, and what is new looks older than what was judged
    scene.says(5, "ERROR");
    assert_eq!(scene.finds(17), error(Severity::Critical));
    assert_eq!(scene.finds(18), []);
    scene.says(18, "tick");
    scene.look(19);
    // one stream is written later than the other one with an earlier time
    scene.output.push(line(17, Stream::Error, "ERROR"));
    assert_eq!(scene.finds(20), error(Severity::Critical));
}

#[test]
fn what_is_gone_is_said_and_what_is_left_is_judged() {
    let mut scene = Scene::new(rule());
    scene.says(10, "fine");
    scene.look(11);
    scene.output.clear();
    scene.says(12, "ERROR");
    let seen = scene.look(13);
    assert_eq!(seen.findings[0].severity, Severity::Critical);
    assert!(
        seen.notes[0].contains("is not in it any more"),
        "{:?}",
        seen.notes
    );
    assert!(scene.look(14).notes.is_empty());
}

#[test]
fn more_lines_than_are_asked_for_first_are_all_judged() {
    let mut scene = Scene::new(rule());
    scene.says(10, "fine");
    scene.look(11);
    scene.says(12, "ERROR far back");
    for _ in 0..5000 {
        scene.says(13, "tick");
    }
    let seen = scene.look(14);
    assert_eq!(seen.findings[0].code, "log_error");
    assert!(seen.notes.is_empty(), "{:?}", seen.notes);
    // beyond what is read in a run the newest are, and that is said
    scene.says(15, "ERROR too far back");
    let long = "x".repeat(60 << 10);
    for _ in 0..200 {
        scene.says(16, &long);
    }
    scene.says(17, "ERROR new");
    let seen = scene.look(18);
    assert_eq!(seen.findings.len(), 1);
    assert!(seen.findings[0].message.contains("1 new line matches"));
    assert!(
        seen.notes[0].contains("only the newest 8 MiB"),
        "{:?}",
        seen.notes
    );
}

#[test]
fn the_age_is_that_of_the_newest_line_or_its_stamp_or_the_start() {
    let stale = vec![("log_stale".to_owned(), Severity::Critical)];
    let mut scene = Scene::new(rule());
    assert_eq!(scene.finds(300), []);
    assert_eq!(scene.finds(301), stale);
    scene.says(302, "tick");
    assert_eq!(scene.finds(602), []);
    assert_eq!(scene.finds(603), stale);
    scene.says(2000, "tick");
    let ahead = vec![("log_in_future".to_owned(), Severity::Warning)];
    assert_eq!(scene.finds(604), ahead);
    // the output of a program that repeats old lines, by their own stamps
    scene.rule.stamp = Some(Stamp {
        format: "unix".to_owned(),
        after: String::new(),
        zone: super::super::super::Zone::Utc,
    });
    let stamp = |second| format!("{} tick", at(second).timestamp());
    scene.output.clear();
    scene.says(2000, &stamp(1700));
    assert_eq!(scene.finds(2000), []);
    assert_eq!(scene.finds(2001), stale);
    scene.output.clear();
    scene.says(2001, "no stamp");
    let unstamped = vec![("log_unstamped".to_owned(), Severity::Warning)];
    assert_eq!(scene.finds(2002), unstamped);
}

#[test]
fn what_is_expected_is_looked_for_in_the_last_lines() {
    let mut scene = Scene::new(Rule {
        expect: vec![Expect {
            pattern: pattern("tick"),
            at_least: 2,
            except: Vec::new(),
        }],
        forbid: Vec::new(),
        ..rule()
    });
    let quiet = vec![("log_quiet".to_owned(), Severity::Critical)];
    scene.says(1, "tick");
    assert_eq!(scene.finds(2), quiet);
    scene.says(3, "\u{1b}[32mtick\u{1b}[0m");
    assert_eq!(scene.finds(4), []);
    scene.says(5, "else");
    scene.says(6, "else");
    let seen = scene.look(7);
    assert_eq!(seen.findings[0].code, "log_quiet");
    assert_eq!(seen.tail.lines(), ["tick", "tick", "else", "else"]);
}

#[test]
fn a_run_begins_between_the_end_of_the_last_and_its_own_start() {
    let state = |started, finished: Option<i64>| State {
        running: true,
        started_at: Some(at(started)),
        finished_at: finished.map(at),
        ..State::default()
    };
    for (started, finished, since) in [
        (100, None, 99_000),
        (100, Some(50), 99_000),
        (100, Some(99), 99_500),
        // paused and the like: the end is of this run
        (100, Some(120), 99_000),
    ] {
        let found = Run::of(&state(started, finished)).since.unwrap();
        let expected = at(0) + TimeDelta::milliseconds(since);
        assert_eq!(found, expected, "{started} {finished:?}");
    }
    assert_eq!(Run::of(&State::default()), Run::default());
}

/// What happens to a container between two looks.
#[derive(Clone, Debug)]
enum Step {
    Writes { error: bool, later: i64 },
    Rotates,
    Looks,
    IsMadeAnew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), -2..4_i64).prop_map(|(error, later)| Step::Writes { error, later }),
        1 => Just(Step::Rotates),
        4 => Just(Step::Looks),
        1 => Just(Step::IsMadeAnew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However lines come, and whatever is rotated or made anew: what was written after the first look and is there at the
    /// next is judged once. A rotation keeps the line that was judged last, or comes after all was judged.
    #[test]
    fn each_line_is_judged_once(steps in proptest::collection::vec(step(), 1..60)) {
        let mut scene = Scene::new(Rule { max_age: None, ..rule() });
        // whose lines they are is not the matter
        scene.run.since = None;
        // from then on
        scene.look(0);
        let (mut time, mut written, mut judged, mut unseen) = (1000, 0, 0, 0);
        for step in steps {
            match step {
                Step::Writes { error, later } => {
                    // a clock that is set back does not come upon a time that was
                    time += if later < 0 { -1000 * 7 - 13 } else { later };
                    let stream = if error { Stream::Error } else { Stream::Output };
                    scene.output.push(line(time, stream, "ERROR"));
                    written += 1;
                    unseen += 1;
                }
                Step::Rotates => {
                    let keep = scene.output.len().min(unseen + 4);
                    let first = scene.output.len() - keep;
                    // lines of one time stay together
                    let same = |line: &Line| first > 0 && line.time == scene.output[first - 1].time;
                    if !scene.output.iter().skip(first).any(same) {
                        scene.output.drain(..first);
                    }
                }
                Step::IsMadeAnew if unseen == 0 => {
                    scene.id.push('x');
                    scene.output.clear();
                }
                Step::IsMadeAnew => {}
                Step::Looks => {
                    judged += count(&scene.look(time));
                    unseen = 0;
                }
            }
        }
        judged += count(&scene.look(time));
        prop_assert_eq!(judged, written);
    }
}

/// How many lines a look has judged.
fn count(seen: &Seen) -> u64 {
    let found = seen.findings.iter().find(|it| it.code == "log_error");
    found.map_or(0, |found| {
        let number = found.message.trim_start_matches("out: ");
        let number = number.split(' ').next().unwrap_or_default();
        number.parse().unwrap()
    })
}
