//! `exec`: a command that is given the facts as JSON, and does with them what it wants.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::facts::facts;
use super::kind::Private;
use super::report::{DeliveryReport, Outcome};
use super::{ChannelKind, Common, Notification, Routing, Thread};
use crate::check::command_traps::{cannot_start, not_executable, of_program, of_words};
use crate::check::trap::Trap;
use crate::child::{describe_status, last_lines};
use crate::clock::rough;
use crate::guard::{self, Answer, End, Task};
use crate::table::{Account, Base, Filled, Flat, Program, table};
use crate::text::{cut, visible};

table! {
    /// Whom to tell by a command that is given JSON on its standard input.
    pub struct Settings like "type = \"exec\"" {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""exec""#;
        /// The program and its arguments; no shell reads them. It is given the event, the service and so on in WATCHDOG_EVENT,
        /// WATCHDOG_SERVICE, WATCHDOG_SEVERITY, WATCHDOG_ID and WATCHDOG_SUBJECT. Exit status 0: delivered; 65, 78: never to
        /// be tried again; any other, a signal, or no end within `timeout`: tried again.
        command: Vec<String> as Program, example r#"["/usr/local/bin/tell"]"#;
        /// Who runs it; default: the watchdog's own user.
        user: Option<String> as Option<Account>, commented r#""nobody""#;
        /// Where it is run, absolute.
        working_dir: Arc<Path> => Base;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// The key that a trap is about.
const KEY: &str = "command";

/// So many characters of a command are shown.
const SHOWN: usize = 80;

/// So much of its output is kept, in bytes: a line of it is shown.
const KEPT: usize = 8 << 10;

/// So many processes may it have at a time.
const MOST_PROCESSES: usize = 256;

/// How much longer than its limit is waited for the answer of who guards it.
const ENDING: Duration = Duration::from_secs(2);

/// The exit statuses that say that a message is never taken: `EX_DATAERR` and `EX_CONFIG` of sysexits.h.
const REFUSES: [i32; 2] = [65, 78];

/// What a command is given.
#[derive(Clone, Debug)]
pub struct Given {
    input: String,
    env: Vec<(String, String)>,
}

impl Settings {
    fn brief(&self) -> String {
        cut(&visible(&self.command.join(" ")), SHOWN)
    }

    fn task(&self, given: Option<Given>, limit: Duration) -> Task {
        let (input, env) = match given {
            Some(given) => (Some(given.input), given.env),
            None => (None, Vec::new()),
        };
        Task {
            command: self.command.clone(),
            working_dir: self.working_dir.as_os_str().to_owned(),
            user: self.user.clone(),
            group: None,
            env,
            env_file: None,
            input,
            limit,
            most_processes: MOST_PROCESSES,
            kept: KEPT,
        }
    }
}

impl ChannelKind for Settings {
    type Request = Given;

    fn routing(&self) -> &Routing {
        &self.common.routing
    }

    fn recipients(&self) -> Vec<String> {
        vec![self.kind.clone()]
    }

    fn timeout(&self) -> Duration {
        self.common.timeout
    }

    fn describe(&self) -> String {
        match &self.user {
            Some(user) => format!("by the command `{}` as {user}", self.brief()),
            None => format!("by the command `{}`", self.brief()),
        }
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        Vec::new()
    }

    fn traps(&self) -> Vec<Trap> {
        let task = self.task(None, self.common.timeout);
        let program = task.program();
        let mut traps = of_words(KEY, &self.command);
        match program.prepare() {
            Ok(prepared) => {
                traps.extend(not_executable(KEY, &prepared.path));
                traps.extend(
                    of_program(&program, KEY, &prepared).map(|trap| Trap {
                        help: "let root alone write it and its directories, or name another `user`"
                            .into(),
                        ..trap
                    }),
                );
            }
            Err(why) => traps.push(cannot_start(KEY, "run", &why)),
        }
        traps
    }

    fn message_id(&self, _: &Notification) -> Option<String> {
        None
    }

    fn render(&self, notification: &Notification, _: &Thread) -> Result<Given, String> {
        let service = notification.services.first();
        let severity = json!(notification.severity);
        let variable = |name: &str, value: &str| {
            // one line without a control character: whoever pastes it into something is spared the worst
            (format!("WATCHDOG_{name}"), visible(value))
        };
        Ok(Given {
            input: format!("{}\n", facts(notification, false)),
            env: vec![
                variable("EVENT", notification.event.name()),
                variable("SERVICE", service.map_or("", String::as_str)),
                variable("SEVERITY", severity.as_str().unwrap_or_default()),
                variable("ID", &notification.id),
                variable("SUBJECT", &notification.subject),
            ],
        })
    }

    fn send(
        &self,
        given: Given,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        let shown = self.brief();
        let task = self.task(Some(given), limit);
        let (outcome, transport_failed) = match guard::run(&task, Instant::now() + limit + ENDING) {
            Ok(answer) => came_to(&shown, &answer, limit),
            Err(why) => (Outcome::deferred(format!("`{shown}`: {why}")), true),
        };
        if outcome == Outcome::Delivered {
            step(&format!("`{shown}` took the message"));
        }
        DeliveryReport {
            transport_failed,
            ..DeliveryReport::all(recipients, &outcome)
        }
    }
}

/// What the end of a command means for the message, and whether another message would fail as well now.
fn came_to(shown: &str, answer: &Answer, limit: Duration) -> (Outcome, bool) {
    // what is left of a timeout is a little less
    let limit = Duration::from_millis(100)
        * u32::try_from(limit.as_millis().div_ceil(100)).unwrap_or(u32::MAX);
    let said = last_lines(&answer.stderr, 1).pop();
    let said = said.map_or_else(String::new, |line| format!(": {line}"));
    let uncertain = |why: String| Outcome::Deferred {
        why,
        maybe_delivered: true,
    };
    match &answer.end {
        End::Ended(status) => {
            let status = ExitStatus::from_raw(*status);
            let why = format!("`{shown}` {}{said}", describe_status(status));
            let outcome = match status.code() {
                Some(0) => Outcome::Delivered,
                Some(code) if REFUSES.contains(&code) => Outcome::Never(why),
                Some(_) => Outcome::deferred(why),
                None => uncertain(why),
            };
            // it may be this message that it cannot take: the others are not kept waiting for it
            (outcome, false)
        }
        End::TimedOut => {
            let limit = rough(limit);
            let why = format!("`{shown}` did not end within {limit}, and was killed{said}");
            (uncertain(why), true)
        }
        End::Stalled(stalled) => {
            let why = format!(
                "`{shown}` did not end within {}, and was killed; but this host was too busy: nothing got on for {} of that",
                rough(limit),
                rough(*stalled)
            );
            (uncertain(why), true)
        }
        End::TooMany => {
            let why =
                format!("`{shown}` had more than {MOST_PROCESSES} processes, and was killed{said}");
            (uncertain(why), true)
        }
        End::Abandoned => (
            uncertain(format!("`{shown}` was killed before its end{said}")),
            true,
        ),
        End::Unstarted(why) => (Outcome::deferred(format!("`{shown}`: {why}")), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "exec".to_owned(),
            command: vec!["tell".to_owned(), "-v".to_owned()],
            user: None,
            working_dir: Path::new("/").into(),
            common: crate::fixtures::common(),
        }
    }

    #[test]
    fn each_end_of_a_command_has_its_meaning() {
        let exit = |code: i32| End::Ended(code << 8);
        for (end, kind, why, fails_others) in [
            (exit(0), "delivered", "", false),
            (
                exit(65),
                "refused",
                "`tell -v` exited with status 65: bad",
                false,
            ),
            (
                exit(78),
                "refused",
                "`tell -v` exited with status 78: bad",
                false,
            ),
            (
                exit(1),
                "later",
                "`tell -v` exited with status 1: bad",
                false,
            ),
            (
                exit(75),
                "later",
                "`tell -v` exited with status 75: bad",
                false,
            ),
            (
                exit(127),
                "later",
                "`tell -v` exited with status 127: bad",
                false,
            ),
            (
                End::Ended(9),
                "perhaps",
                "`tell -v` was ended by signal 9 (SIGKILL): bad",
                false,
            ),
            (
                End::TimedOut,
                "perhaps",
                "`tell -v` did not end within 10s, and was killed: bad",
                true,
            ),
            (
                End::TooMany,
                "perhaps",
                "`tell -v` had more than 256 processes, and was killed: bad",
                true,
            ),
            (
                End::Unstarted("no such program".to_owned()),
                "later",
                "`tell -v`: no such program",
                true,
            ),
            (
                End::Abandoned,
                "perhaps",
                "`tell -v` was killed before its end: bad",
                true,
            ),
        ] {
            let answer = Answer {
                end,
                stdout: b"ignored".to_vec(),
                stderr: b"first\nbad\n\n".to_vec(),
                left: Vec::new(),
                took: Duration::ZERO,
            };
            let (outcome, failed) = came_to("tell -v", &answer, Duration::from_secs(10));
            let expected = match kind {
                "delivered" => Outcome::Delivered,
                "refused" => Outcome::Never(why.to_owned()),
                kind => Outcome::Deferred {
                    why: why.to_owned(),
                    maybe_delivered: kind == "perhaps",
                },
            };
            assert_eq!((outcome, failed), (expected, fails_others));
        }
    }

    #[test]
    fn a_command_is_given_the_facts_and_five_variables() {
        let given = settings()
            .render(&notification("It is down.\n"), &Thread::default())
            .unwrap();
        let env: Vec<(&str, &str)> = (given.env.iter())
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(
            env,
            [
                ("WATCHDOG_EVENT", "down"),
                ("WATCHDOG_SERVICE", "trader"),
                ("WATCHDOG_SEVERITY", "critical"),
                ("WATCHDOG_ID", "20261122T010203Z.trader.1"),
                ("WATCHDOG_SUBJECT", "[watchdog] box1: trader down"),
            ]
        );
        assert_eq!(given.input.matches('\n').count(), 1, "one line of JSON");
        let json: serde_json::Value = serde_json::from_str(&given.input).unwrap();
        assert_eq!(json["text"], "It is down.\n");
    }

    proptest! {
        #[test]
        fn no_variable_has_a_control_character(notification in hostile(), name in "(?s).{0,20}") {
            let notification = Notification {
                subject: name.clone(),
                services: vec![name],
                ..notification
            };
            let given = settings().render(&notification, &Thread::default()).unwrap();
            for (_, value) in &given.env {
                prop_assert!(!value.chars().any(char::is_control), "{value:?}");
            }
        }
    }
}
