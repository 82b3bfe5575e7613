//! Which lines of a notification are commands of the watchdog: they are to be typed as they stand, whatever is done to the
//! rest of the text.

use std::collections::BTreeSet;

use super::Notification;
use super::digest::ALL;
use super::layout::Body;
use super::sentences::{PROGRAM, section};

/// The commands of a notification.
#[derive(Debug)]
pub(super) struct Own {
    /// How the program is called, with the config where that has to be named.
    pub(super) called: String,
    /// The lines.
    lines: BTreeSet<String>,
}

impl Own {
    /// Those of a notification. The lines are written anew from what it reports and looked for as they are, so nothing that
    /// was quoted in it counts as one.
    pub(super) fn of(notification: &Notification) -> Self {
        let mut body = Body::default();
        for alert in &notification.alerts {
            section(&mut body, notification.time, alert, PROGRAM);
        }
        let mut commands = body.commands;
        commands.push(ALL.to_owned());
        commands.sort_by_key(|command| std::cmp::Reverse(command.len()));
        let called = called(&notification.body, &commands);
        let lines = commands.iter();
        let lines = lines.map(|command| format!("  {called} {command}"));
        Self {
            lines: lines.collect(),
            called,
        }
    }

    /// Whether a line is a command that can be typed.
    pub(super) fn has(&self, line: &str) -> bool {
        self.lines.contains(line)
    }
}

/// How the program is called in a body. Its last command says so: each part of a body ends with one, and nothing that was
/// quoted is below it. The longest commands come first.
fn called(body: &str, commands: &[String]) -> String {
    let typed = body.lines().rev().find_map(|line| {
        let line = line.strip_prefix("  ")?;
        let rest = line.strip_prefix(PROGRAM)?;
        rest.starts_with(' ').then_some(line)
    });
    let called = typed.and_then(|line| {
        let mut called = commands
            .iter()
            .filter_map(|it| line.strip_suffix(it.as_str()));
        called.find_map(|it| it.strip_suffix(' '))
    });
    called.unwrap_or(PROGRAM).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fixtures::{alert, at};
    use crate::notify::Event;
    use crate::notify::digest::{Context, compose};

    #[test]
    fn the_commands_of_a_digest_are_its_own_and_no_other_line_is() {
        let mut down = alert("app", Event::RestartFailed);
        down.log_tail = vec![
            "  watchdog status evil.example".to_owned(),
            "  watchdog -c /evil.toml status app".to_owned(),
        ];
        down.notes = vec![format!("{}  watchdog reset x.example", "long ".repeat(20))];
        for (config, called) in [
            (None, "watchdog"),
            (Some("/etc/watchdog/watchdog.toml"), "watchdog"),
            (Some("/srv/w.toml"), "watchdog -c /srv/w.toml"),
            (Some("/srv/my w.toml"), "watchdog -c '/srv/my w.toml'"),
        ] {
            let context = Context {
                config: config.map(Path::new),
                table: "[notify.phone]",
                rate_limited: 3,
                nonce: 1,
            };
            let alerts = [down.clone(), alert("b", Event::Exhausted)];
            let notification = compose("box1.example", at(0), &alerts, &context).unwrap();
            let own = Own::of(&notification);
            assert_eq!(own.called, called);
            let lines = notification.body.lines();
            let commands: Vec<&str> = lines.filter(|line| own.has(line)).collect();
            assert!(commands.len() > 8, "{commands:?}\n{}", notification.body);
            for line in &commands {
                let rest = line
                    .strip_prefix("  ")
                    .and_then(|it| it.strip_prefix(called));
                assert!(rest.is_some(), "{line}");
                assert!(
                    !line.contains("evil") && !line.contains("x.example"),
                    "{line}"
                );
            }
            assert!(commands.contains(&&*format!("  {called} status app")));
            assert!(commands.contains(&&*format!("  {called} restart app --force")));
        }
    }
}
