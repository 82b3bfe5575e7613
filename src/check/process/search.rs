//! The search for a service's process: by its PID file, its command line, what was remembered and what was started.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::{Role, is_wrapper, role};
use super::pid_file::{PidFile, is_fresh};
use super::script::FirstLine;
use super::{
    Family, Identity, LastSeen, MAIN_ENDED, MISSING, PID_FILE_STALE, ProcessStatus, Rule, Running,
    STOPPED, Seen, Started, TOO_MANY, Target, UNREADABLE, ZOMBIE, resolve_user,
};
use crate::check::pattern::Pattern;
use crate::check::{Finding, Kind, Severity};
use crate::clock::Reading;
use crate::process_table::{self, Lookup, Process, ProcessState, ProcessTable};
use crate::text::printable;

/// How long after the first reading the second one comes.
pub(super) const REREAD_AFTER: Duration = Duration::from_millis(100);
/// A PID file is older than the boot only if it is so by more than this: both times are rounded.
pub(super) const BOOT_SLACK: Duration = Duration::from_secs(5);
/// How much of a command line a message quotes, in bytes.
const QUOTED: usize = 120;
/// How many of the processes that match are kept as evidence.
const MATCHES_LIMIT: usize = 4096;

/// What the search for a main process came to.
pub(super) enum Outcome {
    Found {
        main: Process,
        all: Vec<Process>,
        named_by: Option<(PathBuf, PidFile)>,
    },
    /// The main process has ended, and what runs are its workers.
    Ended(String),
    Zombie(i32),
    Absent(String),
    Unseen(String),
    NotApplicable,
}

impl Outcome {
    /// Found, without others and not by a PID file.
    pub(super) fn alone(main: Process) -> Self {
        Self::Found {
            all: vec![main.clone()],
            main,
            named_by: None,
        }
    }
}

/// One look for a service's process, and what was found on the way.
pub(super) struct Search<'a> {
    pub(super) last_seen: &'a LastSeen,
    pub(super) table: &'a ProcessTable,
    pub(super) now: &'a Reading,
    taken: &'a BTreeSet<Identity>,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// Since when a process may run that is taken for a service by its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Born {
    /// At any time.
    Ever,
    /// Since the main process was last seen, where one is remembered: what is older may be a child that it left behind.
    SinceLastSight,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        last_seen: &'a LastSeen,
        table: &'a ProcessTable,
        now: &'a Reading,
        taken: &'a BTreeSet<Identity>,
    ) -> Self {
        Self {
            last_seen,
            table,
            now,
            taken,
            findings: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn identity(&self, process: &Process) -> Identity {
        Identity {
            pid: process.pid,
            start: process.start,
            boot_id: self.now.boot_id.clone(),
        }
    }

    /// The process with a PID, and whose it is where it must be a certain user's.
    fn process(&self, pid: i32, uid: Option<u32>) -> Lookup {
        match uid {
            Some(_) => self.table.process_with_user(pid),
            None => self.table.process(pid),
        }
    }

    fn found(&mut self, code: &'static str, severity: Severity, message: String) {
        self.findings
            .push(Finding::new(Kind::Process, code, severity, message));
    }

    /// Turns the outcome into findings, evidence for a restart, and what to remember.
    pub(super) fn conclude(mut self, outcome: Outcome) -> Seen {
        let mut last_seen = None;
        let process_status = match outcome {
            Outcome::Found {
                main,
                all,
                named_by,
            } => {
                for process in &all {
                    match process.state {
                        ProcessState::Stopped => self.found(
                            STOPPED,
                            Severity::Critical,
                            format!("PID {} is stopped by a signal (state T)", process.pid),
                        ),
                        ProcessState::Traced => self.found(
                            STOPPED,
                            Severity::Warning,
                            format!("PID {} is held by a debugger (state t)", process.pid),
                        ),
                        ProcessState::Alive | ProcessState::Zombie => {}
                    }
                }
                let identity = self.identity(&main);
                last_seen = Some(LastSeen {
                    main: Some(identity.clone()),
                    leads_group: main.group == main.pid,
                    seen_ms: self.now.boot_ms,
                    pid_file: match &named_by {
                        Some((_, file)) => Some(file.mark(identity.clone(), self.now)),
                        None => self.last_seen.pid_file.clone(),
                    },
                    started: self.last_seen.started.clone(),
                    family: Family::of(&main, self.last_seen, self.table, self.now),
                });
                ProcessStatus::Running(Running {
                    age: age(&main, self.now),
                    all: all.iter().map(|process| self.identity(process)).collect(),
                    main: identity,
                    named_by: named_by.map(|(path, _)| path),
                })
            }
            Outcome::Zombie(pid) => {
                self.found(
                    ZOMBIE,
                    Severity::Critical,
                    format!("PID {pid} has ended and is a zombie: its parent has not collected it"),
                );
                ProcessStatus::NotRunning
            }
            Outcome::Ended(why) => {
                self.found(MAIN_ENDED, Severity::Critical, why);
                ProcessStatus::NotRunning
            }
            Outcome::Absent(why) => {
                match self.left_behind() {
                    Some((_, shown)) => {
                        let why = format!("{why}; its main process {shown}");
                        self.found(MAIN_ENDED, Severity::Critical, why);
                    }
                    None => self.found(MISSING, Severity::Critical, why),
                }
                ProcessStatus::NotRunning
            }
            Outcome::Unseen(why) => {
                self.found(UNREADABLE, Severity::Unknown, why);
                ProcessStatus::Unknown
            }
            Outcome::NotApplicable => ProcessStatus::NotApplicable,
        };
        Seen {
            findings: self.findings,
            notes: self.notes,
            process_status,
            last_seen: last_seen.unwrap_or_else(|| self.last_seen.clone()),
        }
    }

    /// A service with a `process` table.
    pub(super) fn by_rule(&mut self, rule: &Rule, target: &Target<'_>) -> Outcome {
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
        let Missed { gap, hosts } = missed.unwrap_or_default();
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
        let sure = match self.living(self.last_seen.started.as_ref(), uid) {
            Some(main) => Some((main, "is what was started last")),
            None => self
                .with_own_command(target, uid)
                .map(|main| (main, "runs just the command of `spawn`")),
        };
        if let Some((main, why)) = sure {
            let pid = main.pid;
            match (&stale, &rule.command_line) {
                (None, Some(pattern)) => {
                    let source = pattern.source();
                    let note = format!("PID {pid} does not match `{source}`, but {why}");
                    self.notes.push(note);
                }
                (stale, _) => self.told_otherwise(stale.as_ref(), &format!("but PID {pid} {why}")),
            }
            return Outcome::alone(main);
        }
        if let Some(pid) = zombie {
            return Outcome::Zombie(pid);
        }
        if let Some(gap) = gap {
            return Outcome::Unseen(format!("no process was found, but {gap}"));
        }
        let none_matches = rule
            .command_line
            .as_ref()
            .map(|pattern| none_matches(pattern, &hosts));
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

    /// A service that is known by what the watchdog started.
    pub(super) fn by_start(&mut self, started: Started<'_>, target: &Target<'_>) -> Outcome {
        let known = [&self.last_seen.main, &self.last_seen.started];
        let known = known.map(Option::as_ref);
        if let Some(main) = known.into_iter().find_map(|it| self.living(it, None)) {
            return Outcome::alone(main);
        }
        let of_this_boot = |it: &&Identity| it.boot_id == self.now.boot_id;
        let known = known.into_iter().flatten().find(of_this_boot);
        // nothing is remembered, as the state is new or lost; or what is remembered is the one that a run was about
        // to replace when it was cut short. What was started then may still run
        if known.is_none() || target.may_have_started {
            match self.with_command_of(started, Born::Ever) {
                Ok(Some(main)) => {
                    return Outcome::alone(main);
                }
                Ok(None) => {}
                Err(why) => return Outcome::Unseen(why),
            }
        }
        if let Some(main) = self.with_own_command(target, None) {
            return Outcome::alone(main);
        }
        let Some(known) = known else {
            return Outcome::Absent(
                "it has not been started yet, or not since the last boot".to_owned(),
            );
        };
        match self.table.process(known.pid) {
            Lookup::Found(process) if process.start == known.start => Outcome::Zombie(known.pid),
            Lookup::Hidden(why) => Outcome::Unseen(why),
            _ => Outcome::Absent(format!(
                "PID {}, which ran at the last check, has ended",
                known.pid
            )),
        }
    }

    /// A process that an earlier run knew, if it lives.
    fn living(&self, known: Option<&Identity>, uid: Option<u32>) -> Option<Process> {
        let known = known.filter(|known| known.boot_id == self.now.boot_id)?;
        match self.process(known.pid, uid) {
            Lookup::Found(process)
                if process.start == known.start
                    && process.state != ProcessState::Zombie
                    && uid.is_none_or(|uid| process.uid == Some(uid)) =>
            {
                Some(process)
            }
            _ => None,
        }
    }

    /// What runs the very command of the service, where nothing else was found: somebody has started it by hand. One that
    /// may have been missed is no reason to wait: this is a second look.
    fn with_own_command(&self, target: &Target<'_>, uid: Option<u32>) -> Option<Process> {
        let started = target.started.filter(|_| target.by_command)?;
        let found = self.with_command_of(started, Born::SinceLastSight);
        found
            .ok()?
            .filter(|process| uid.is_none_or(|uid| process.uid == Some(uid)))
    }

    /// Whether a process is known to be another service's.
    fn is_anothers(&self, process: &Process) -> bool {
        let identity = self.identity(process);
        let own = [&self.last_seen.main, &self.last_seen.started];
        self.taken.contains(&identity) && !own.into_iter().flatten().any(|it| *it == identity)
    }

    /// Whether a process began too early to be surely none that the main process has left behind.
    fn may_be_left_behind(&self, process: &Process) -> bool {
        let Some(main) = self
            .last_seen
            .main
            .as_ref()
            .filter(|main| main.boot_id == self.now.boot_id)
        else {
            return false;
        };
        let seen = self
            .last_seen
            .seen_ms
            .saturating_mul(process_table::ticks_per_second())
            / 1000;
        let is_itself = self.identity(process) == *main;
        !is_itself && (process.start <= seen || process.group == main.pid)
    }

    /// Whether a process has just the arguments, the directory and the user that the watchdog would start.
    fn runs_command_of(&self, pid: i32, started: Started<'_>) -> bool {
        let Lookup::Found(process) = process_table::look_up_whole(pid) else {
            return false;
        };
        let uid = match started.user {
            Some(user) => resolve_user(user).ok(),
            None => Some(nix::unistd::geteuid().as_raw()),
        };
        process.uid == uid
            && is_own_command(&process, Some(started))
            && !self.is_anothers(&process)
            && process_table::working_dir(pid).is_ok_and(|cwd| {
                fs::canonicalize(started.working_dir).is_ok_and(|directory| directory == cwd)
            })
    }

    /// The oldest process with just the arguments, the directory and the user that the watchdog would start. The error is
    /// why one may have been missed.
    pub(super) fn with_command_of(
        &self,
        started: Started<'_>,
        born: Born,
    ) -> Result<Option<Process>, String> {
        let uid = match started.user {
            Some(user) => resolve_user(user)?,
            None => nix::unistd::geteuid().as_raw(),
        };
        let directory = match fs::canonicalize(started.working_dir) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(format!(
                    "its working directory {} cannot be looked at: {error}",
                    started.working_dir.display()
                ));
            }
        };
        let wanted = started.command.join(" ").into_bytes();
        let program = started.command.first().map_or("", String::as_str);
        let first_line = FirstLine::of(program, &directory)
            .map_err(|error| format!("its program {program} cannot be looked at: {error}"))?;
        let candidates = self.table.with_command(
            None,
            MATCHES_LIMIT,
            |pid| self.table.process_with_user(pid),
            |command| first_line.runs(command, &wanted),
            |process| {
                process.uid == Some(uid)
                    && self.eligible(process)
                    && (born == Born::Ever || !self.may_be_left_behind(process))
                    && process_table::working_dir(process.pid).is_ok_and(|cwd| cwd == directory)
                    && !self.is_anothers(process)
            },
        );
        match (
            eldest(&roots(&candidates.found, self.table)),
            candidates.gap,
        ) {
            (None, Some(gap)) => Err(format!("no process was found, but {gap}")),
            (found, _) => Ok(found),
        }
    }

    /// All processes that a pattern matches and that may be the service's, and what was found beside them.
    fn matching(
        &self,
        pattern: &Pattern,
        uid: Option<u32>,
        at_hand: Option<&Process>,
        started: Option<Started<'_>>,
    ) -> (Vec<Process>, Missed) {
        let at_hand_or_anew = |pid: i32| match at_hand.filter(|named| named.pid == pid) {
            Some(named) => Lookup::Found(named.clone()),
            None => self.process(pid, uid),
        };
        let hosts = RefCell::new(Vec::new());
        let matches = self.table.with_command(
            pattern.needle(),
            MATCHES_LIMIT,
            at_hand_or_anew,
            |command| pattern.matches(command),
            |process| {
                // the PID file answers for its own
                if at_hand.is_some_and(|named| named.pid == process.pid) {
                    return true;
                }
                if uid.is_some_and(|uid| process.uid != Some(uid)) || !self.eligible(process) {
                    return false;
                }
                let role = role_for(pattern, process, started);
                if role != Role::Itself {
                    hosts.borrow_mut().push((process.clone(), role));
                }
                role == Role::Itself
            },
        );
        let (mut found, mut hosts) = (matches.found, hosts.into_inner());
        if !hosts.is_empty() {
            self.leave_out_wrappers_of(&mut hosts, &mut found, started);
        }
        let gap = matches.gap;
        (found, Missed { gap, hosts })
    }

    /// Moves those wrappers to the hosts that have nothing below them but hosts.
    fn leave_out_wrappers_of(
        &self,
        hosts: &mut Vec<(Process, Role)>,
        found: &mut Vec<Process>,
        started: Option<Started<'_>>,
    ) {
        let above = |processes: &mut dyn Iterator<Item = i32>| -> BTreeSet<i32> {
            processes
                .flat_map(|pid| ancestors(pid, self.table))
                .collect()
        };
        let above_hosts = above(&mut hosts.iter().map(|(host, _)| host.pid));
        let above_others = above(
            &mut found
                .iter()
                .filter(|process| !is_wrapper(process))
                .map(|process| process.pid),
        );
        let wraps_a_host = |process: &mut Process| {
            is_wrapper(process)
                && above_hosts.contains(&process.pid)
                && !above_others.contains(&process.pid)
                && !is_own_command(process, started)
        };
        let client = Role::Host {
            is_multiplexer: false,
        };
        let wrappers = found.extract_if(.., wraps_a_host);
        hosts.extend(wrappers.map(|process| (process, client)));
    }

    /// Never the watchdog, what started it, a kernel thread, a zombie, or what lives in a container.
    fn eligible(&self, process: &Process) -> bool {
        !process.kernel
            && process.state != ProcessState::Zombie
            && !self.table.is_lineage(process.pid)
            && !self.table.is_this_program(process.pid)
            && !self.table.is_in_other_namespace(process.pid)
    }

    /// The process was found, though not by its PID file: which named another, or could not be read.
    fn told_otherwise(&mut self, stale: Option<&(String, bool)>, found: &str) {
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

    /// The processes of one main process's tree among all that match; others are told as too many.
    fn with_family(&mut self, main: &Process, matches: &[Process]) -> Vec<Process> {
        let strangers: Vec<i32> = roots(matches, self.table)
            .iter()
            .map(|root| root.pid)
            .filter(|&pid| pid != main.pid && !related(pid, main.pid, self.table))
            .collect();
        if !strangers.is_empty() {
            let mut pids: Vec<String> = strangers.iter().take(10).map(i32::to_string).collect();
            if strangers.len() > pids.len() {
                pids.push(format!("{} more", strangers.len() - pids.len()));
            }
            self.found(
                TOO_MANY,
                Severity::Warning,
                format!(
                    "{} unrelated processes match the command line: PID {} and {}",
                    strangers.len() + 1,
                    main.pid,
                    pids.join(", ")
                ),
            );
        }
        let mut all = vec![main.clone()];
        all.extend(
            matches
                .iter()
                .filter(|process| process.pid != main.pid)
                .cloned(),
        );
        all
    }

    /// What a PID file names, read a second time where it may be in the middle of being written.
    fn named(
        &self,
        path: &Path,
        rule: &Rule,
        uid: Option<u32>,
        started: Option<Started<'_>>,
    ) -> Named {
        let first = self.named_now(path, rule, uid, started);
        match first {
            Named::Not(_) if is_fresh(path, self.now) => {
                std::thread::sleep(REREAD_AFTER);
                self.named_now(path, rule, uid, started)
            }
            named => named,
        }
    }

    fn named_now(
        &self,
        path: &Path,
        rule: &Rule,
        uid: Option<u32>,
        started: Option<Started<'_>>,
    ) -> Named {
        // the usual: the file was not touched, and the process that it named still runs
        if let Some(mark) = &self.last_seen.pid_file
            && mark.named.boot_id == self.now.boot_id
            && let Some(file) = PidFile::unchanged(path, mark)
            && let Named::Own(process, file) = self.named_by(file, rule, uid, started)
            && process.start == mark.named.start
        {
            return Named::Own(process, file);
        }
        let shown = &rule.shown;
        match PidFile::read(path) {
            Ok(Some(file)) => self.named_by(file, rule, uid, started),
            Ok(None) => Named::Not(format!("there is no PID file {shown}")),
            Err(error) => Named::Unreadable(format!("PID file {shown} cannot be read: {error}")),
        }
    }

    fn named_by(
        &self,
        file: PidFile,
        rule: &Rule,
        uid: Option<u32>,
        started: Option<Started<'_>>,
    ) -> Named {
        let shown = &rule.shown;
        let Some(pid) = file.pid else {
            return Named::Not(format!("PID file {shown} {}", file.why_nothing));
        };
        if pid == self.table.me() {
            return Named::Not(format!("PID file {shown} names the watchdog itself"));
        }
        let process = match self.process(pid, uid) {
            Lookup::Found(process) => process,
            Lookup::Gone => {
                return Named::Not(format!(
                    "PID file {shown} names PID {pid}, which does not run"
                ));
            }
            Lookup::Thread(leader) => {
                return Named::Not(format!(
                    "PID file {shown} names {pid}, a thread of PID {leader}, not a process"
                ));
            }
            Lookup::Hidden(why) => {
                return Named::Unreadable(format!("PID file {shown} names PID {pid}, but {why}"));
            }
        };
        if process.state == ProcessState::Zombie {
            return Named::Zombie(pid);
        }
        if let Some(uid) = uid.filter(|&uid| process.uid != Some(uid)) {
            return Named::Not(format!(
                "PID file {shown} names PID {pid}, a process of user {}, not {}",
                process.uid.map_or_else(|| "?".to_owned(), user_name),
                user_name(uid),
            ));
        }
        let pattern = rule.command_line.as_ref();
        if process.kernel || pattern.is_some_and(|pattern| !pattern.matches(&process.command)) {
            return Named::Not(format!(
                "PID file {shown} names PID {pid}, which is another program: `{}`",
                printable(&process.command, QUOTED)
            ));
        }
        if let Some(pattern) = pattern
            && let stranger = role_for(pattern, &process, started)
            && stranger != Role::Itself
        {
            return Named::Not(format!(
                "PID file {shown} names PID {pid}, which {}",
                what_it_does(&process, stranger)
            ));
        }
        match self.recycled(&file, &process, rule.command_line.is_some(), started) {
            Some(why) => Named::Not(format!("PID file {shown} {why}")),
            None => Named::Own(process, file),
        }
    }

    /// Why the process behind a PID is not the one that the file was written for.
    fn recycled(
        &self,
        file: &PidFile,
        process: &Process,
        command_line_matches: bool,
        started: Option<Started<'_>>,
    ) -> Option<String> {
        let pid = process.pid;
        let is_its_command =
            || started.is_some_and(|started| self.runs_command_of(process.pid, started));
        if let Some(mark) = self
            .last_seen
            .pid_file
            .as_ref()
            .filter(|mark| file.is_same(mark))
        {
            if mark.named.boot_id == self.now.boot_id {
                let reused = mark.named.pid == pid && mark.named.start != process.start;
                return reused.then(|| {
                    format!("names PID {pid}, which another process has got since (it was reused)")
                });
            }
            return (!command_line_matches && !is_its_command()).then(|| {
                format!("names PID {pid} of before the last boot; another process has it now")
            });
        }
        let identity = self.identity(process);
        let known = [&self.last_seen.main, &self.last_seen.started];
        if command_line_matches || known.into_iter().flatten().any(|it| *it == identity) {
            return None;
        }
        let slack = chrono::TimeDelta::from_std(BOOT_SLACK).unwrap_or_default();
        // what is in memory does not survive a boot, whatever its time: a board without a battery clock boots
        // in the past and jumps ahead when it finds the network
        let outlived = self.now.booted_at() - file.modified_at() > slack && !file.is_in_memory();
        (outlived && !is_its_command())
            .then(|| format!("is older than the last boot; PID {pid} is another process"))
    }
}

/// What a PID file came to.
enum Named {
    Own(Process, PidFile),
    Zombie(i32),
    Not(String),
    Unreadable(String),
}

/// What a search for command lines did not give, and why.
#[derive(Default)]
struct Missed {
    /// Why a process that matches may be missing.
    gap: Option<String>,
    /// Those that have the command in their arguments and are not the service.
    hosts: Vec<(Process, Role)>,
}

/// What a process that a pattern matches is to a service: the very command that it is started with is its own, but for
/// the server of a multiplexer, which goes by the command of the first program that it serves.
fn role_for(pattern: &Pattern, process: &Process, started: Option<Started<'_>>) -> Role {
    let role = role(pattern, process);
    let may_be_own = match role {
        Role::Itself => false,
        Role::Host { is_multiplexer } => !is_multiplexer,
        Role::Quotes => true,
    };
    if may_be_own && is_own_command(process, started) {
        Role::Itself
    } else {
        role
    }
}

/// Whether a process has just the arguments that the service is started with.
fn is_own_command(process: &Process, started: Option<Started<'_>>) -> bool {
    started.is_some_and(|started| {
        let program = started.command.first().map_or("", String::as_str);
        let wanted = started.command.join(" ").into_bytes();
        FirstLine::of(program, started.working_dir)
            .unwrap_or_default()
            .runs(&process.command, &wanted)
    })
}

/// What a process does that is not the service, and has its command in its arguments.
fn what_it_does(process: &Process, role: Role) -> String {
    let command = printable(&process.command, QUOTED);
    match role {
        Role::Quotes => format!("only has the command in one of its arguments: `{command}`"),
        Role::Host { .. } | Role::Itself => format!("only hosts the command: `{command}`"),
    }
}

/// That no process matches, and who has the command in its arguments all the same.
fn none_matches(pattern: &Pattern, hosts: &[(Process, Role)]) -> String {
    let mut text = format!("no process matches `{}`", pattern.source());
    if let Some((host, role)) = hosts.first() {
        let what = what_it_does(host, *role);
        let _ = write!(text, " (PID {} does not count: it {what})", host.pid);
    }
    text
}

/// The processes that no other of them descends to: a parent and its children count as one.
fn roots<'a>(processes: &'a [Process], table: &ProcessTable) -> Vec<&'a Process> {
    // the usual, and nobody need be asked for its parents
    if processes.len() < 2 {
        return processes.iter().collect();
    }
    let pids: BTreeSet<i32> = processes.iter().map(|process| process.pid).collect();
    processes
        .iter()
        .filter(|process| !ancestors(process.pid, table).any(|pid| pids.contains(&pid)))
        .collect()
}

fn related(one: i32, other: i32, table: &ProcessTable) -> bool {
    ancestors(one, table).any(|pid| pid == other) || ancestors(other, table).any(|pid| pid == one)
}

/// The ancestors of a process, nearest first, and no more of them than a tree can have.
fn ancestors(pid: i32, table: &ProcessTable) -> impl Iterator<Item = i32> {
    let parent = move |pid: &i32| table.parent(*pid).filter(|&parent| parent > 0);
    std::iter::successors(parent(&pid), parent).take(256)
}

fn eldest(processes: &[&Process]) -> Option<Process> {
    processes
        .iter()
        .min_by_key(|process| (process.start, process.pid))
        .map(|&process| process.clone())
}

fn age(process: &Process, now: &Reading) -> Duration {
    let started_ms = process.start.saturating_mul(1000) / process_table::ticks_per_second();
    Duration::from_millis(now.boot_ms.saturating_sub(started_ms))
}

/// Whether a service's process can only be this user's own.
fn own_user(uid: Option<u32>, started: Option<Started<'_>>) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    match (uid, started) {
        (Some(uid), _) => uid == me,
        (None, Some(started)) => started
            .user
            .is_none_or(|user| resolve_user(user).is_ok_and(|uid| uid == me)),
        (None, None) => false,
    }
}

fn user_name(uid: u32) -> String {
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{now, process};
    use super::*;

    #[test]
    fn an_age_is_counted_from_the_start_in_clock_ticks() {
        let now = Reading {
            boot_ms: 100_000,
            ..now()
        };
        let mut it = process(600, 1, "app");
        it.start = 60 * process_table::ticks_per_second() + process_table::ticks_per_second() / 2;
        assert_eq!(age(&it, &now), Duration::from_millis(39_500));
        // one that started after the clock was read
        it.start = 101 * process_table::ticks_per_second();
        assert_eq!(age(&it, &now), Duration::ZERO);
    }

    #[test]
    fn whose_process_it_can_be_and_the_names_of_users() {
        let me = nix::unistd::geteuid().as_raw();
        let command = ["a".to_owned()];
        let as_user = |user| {
            Some(Started {
                command: &command,
                working_dir: Path::new("/"),
                user,
            })
        };
        let (mine, other) = (me.to_string(), (me + 1).to_string());
        for (uid, started, own) in [
            (Some(me), None, true),
            (Some(me + 1), None, false),
            (Some(me + 1), as_user(None), false),
            (None, None, false),
            (None, as_user(None), true),
            (None, as_user(Some(&*mine)), true),
            (None, as_user(Some(&*other)), false),
            (None, as_user(Some("no-such-user")), false),
        ] {
            assert_eq!(own_user(uid, started), own, "{uid:?} {started:?}");
        }
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "3999999999");
    }
}
