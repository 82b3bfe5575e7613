//! A service with a `process` table: its PID file, its command line, and what is known of it beside.

use super::by_command_line::{Missed, eldest, none_matches, roots};
use super::by_pid_file::Named;
use super::{Born, Outcome, Search, own_user, user_name};
use crate::check::Severity;
use crate::check::process::{
    PID_FILE_STALE, Rule, Target, UNREADABLE, resolve_user, serves_others,
};
use crate::process_table::{Lookup, Process};

impl Search<'_> {
    /// A service with a `process` table.
    pub(in super::super) fn by_rule(&mut self, rule: &Rule, target: &Target<'_>) -> Outcome {
        let started = target.started;
        let uid = match rule.user.as_deref().map(resolve_user).transpose() {
            Ok(uid) => uid,
            Err(why) => return Outcome::Unseen(why),
        };
        let named = rule
            .pid_file
            .as_ref()
            .map(|path| (path, self.named(path, rule, uid, started)));
        let at_hand = match &named {
            Some((_, Named::Own(main, _))) => Some(main),
            _ => None,
        };
        let (matches, missed) = rule
            .command_line
            .as_ref()
            .map(|pattern| self.matching(pattern, uid, at_hand, started))
            .unzip();
        let Missed { unread, hosts } = missed.unwrap_or_default();
        let mut zombie = None;
        let stale = match named {
            Some((path, Named::Own(main, file))) => {
                let all = match &matches {
                    Some(matches) => self.with_family(&main, matches),
                    None => vec![main.clone()],
                };
                return Outcome::Found {
                    main,
                    all,
                    named_by: Some((path.clone(), file)),
                };
            }
            Some((_, Named::Not(why))) => Some((why, false)),
            Some((_, Named::Zombie(pid))) => {
                zombie = Some(pid);
                Some((
                    format!("PID file {} names PID {pid}, a zombie", rule.shown),
                    false,
                ))
            }
            Some((_, Named::Unreadable(why))) => Some((why, true)),
            None => None,
        };
        if let Some(matches) = &matches
            && let Some(why) = self.only_workers(matches, &roots(matches, self.table))
        {
            return Outcome::Ended(why);
        }
        // not by its PID file; perhaps by its command line
        if let Some(main) = matches
            .as_ref()
            .and_then(|matches| eldest(&roots(matches, self.table)))
        {
            self.told_otherwise(
                stale.as_ref(),
                &format!("but PID {} runs and matches the command line", main.pid),
            );
            let all = matches
                .map(|matches| self.with_family(&main, &matches))
                .unwrap_or_default();
            return Outcome::Found {
                main,
                all,
                named_by: None,
            };
        }
        // or by what the last run saw: a PID file that was lost ends no process
        if rule.command_line.is_none()
            && let Some(main) = self.living(self.last_seen.main.as_ref(), uid)
        {
            self.told_otherwise(
                stale.as_ref(),
                &format!("but PID {}, which it named before, still runs", main.pid),
            );
            return Outcome::alone(main);
        }
        // or it is only on its way to what it is known by
        if let Some(started) = started.filter(|_| target.may_have_started) {
            match self.with_command_of(started, Born::Ever) {
                Ok(Some(main)) => {
                    self.told_otherwise(
                        stale.as_ref(),
                        &format!(
                            "but PID {} runs, which a run that was cut short has started",
                            main.pid
                        ),
                    );
                    return Outcome::alone(main);
                }
                Ok(None) => {}
                Err(why) => return Outcome::Unseen(why),
            }
        }
        // or it is surely what was started, whatever it has become since
        let mut sure = self
            .living(self.last_seen.started.as_ref(), None)
            .map(|main| (main, "is what was started last"));
        if sure.is_none() {
            // or what has started it, and may do so again
            if let Some(wrapper) = self.living_wrapper(target) {
                return self.without_main(wrapper, stale.as_ref(), rule, target);
            }
            sure = self
                .with_own_command(target)
                .filter(|main| !serves_others(main.pid))
                .map(|main| (main, "runs just the command of `spawn`"));
        }
        if let Some((main, why)) = sure {
            let pid = main.pid;
            let other_user = uid.and_then(|uid| self.other_user(&main, uid));
            match (&stale, &rule.command_line, other_user) {
                (None, _, Some(users)) => {
                    self.notes.push(format!("PID {pid} {users}, but {why}"));
                }
                (None, Some(pattern), None) => {
                    let source = pattern.source();
                    let note = format!("PID {pid} does not match `{source}`, but {why}");
                    self.notes.push(note);
                }
                (stale, _, users) => {
                    self.told_otherwise(stale.as_ref(), &format!("but PID {pid} {why}"));
                    self.notes
                        .extend(users.map(|users| format!("PID {pid} {users}")));
                }
            }
            return Outcome::alone(main);
        }
        if let Some(pid) = zombie {
            return Outcome::Zombie(pid);
        }
        if let Some(unread) = unread {
            return Outcome::Unseen(format!("no process was found, but {unread}"));
        }
        let none_matches = rule
            .command_line
            .as_ref()
            .map(|pattern| none_matches(pattern, uid, &hosts));
        if none_matches.is_some() && self.table.hides_others() && !own_user(uid, started) {
            return Outcome::Unseen(
                "no process was found, but this user cannot see those of others (/proc is mounted with hidepid)"
                    .to_owned(),
            );
        }
        match (stale, none_matches) {
            (Some((why, true)), _) => Outcome::Unseen(why),
            (Some((why, false)), Some(none)) => Outcome::Absent(format!("{why}, and {none}")),
            (Some((why, false)), None) => Outcome::Absent(why),
            (None, none) => Outcome::Absent(none.unwrap_or_else(|| "no process".to_owned())),
        }
    }

    /// As which user a process runs, where that is another one than it must be.
    fn other_user(&self, process: &Process, uid: u32) -> Option<String> {
        let Lookup::Found(process) = self.process(process.pid, Some(uid)) else {
            return None;
        };
        let other = process.uid.filter(|other| *other != uid)?;
        Some(format!(
            "runs as user {}, not {}",
            user_name(other),
            user_name(uid)
        ))
    }

    /// The process was found, though not by its PID file: which named another, or could not be read.
    pub(in super::super) fn told_otherwise(&mut self, stale: Option<&(String, bool)>, found: &str) {
        match stale {
            Some((why, false)) => {
                self.found(PID_FILE_STALE, Severity::Warning, format!("{why}, {found}"));
            }
            Some((why, true)) => {
                self.found(UNREADABLE, Severity::Unknown, format!("{why}, {found}"));
            }
            None => {}
        }
    }
}
