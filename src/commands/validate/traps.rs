//! The traps that a config can hold, each found by a function of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use crate::check::log;
use crate::check::process::{self, ProcessStatus, resolve_user};
use crate::clock::{Reading, age, rough};
use crate::config::{Config, Service, dependencies_first};
use crate::files::{self, Extent};
use crate::notify::mail::Transport;
use crate::observe::target;
use crate::process_table::ProcessTable;
use crate::restart::{RestartMethod, Spawn, spawn};
use crate::state::HOUR;
use crate::state::store::Store;
use crate::text::printable;

mod ports;
mod units;

/// The shortest time from one run to the next: cron knows no seconds.
const CRON: Duration = Duration::from_mins(1);

/// A watchdog that was run once and not for so long is forgotten by its timer.
const FORGOTTEN: Duration = Duration::from_mins(15);

/// What stands in a command only where a shell was thought of.
const SHELL_WORDS: [&str; 9] = ["&&", "||", "|", ">", ">>", "<", "&", ";", "2>&1"];

/// Something in a config that may not do what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trap {
    /// The tables and keys that lead to it.
    pub(super) place: Vec<String>,
    /// What it is.
    pub(super) message: String,
    /// What mends it.
    pub(super) help: String,
}

/// Collects traps.
#[derive(Default)]
struct Traps(Vec<Trap>);

impl Traps {
    /// Notes one of the config as a whole; `place` is a path of keys with dots.
    fn whole(&mut self, place: &str, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Trap {
            place: parts(place),
            message: message.into(),
            help: help.into(),
        });
    }

    /// Notes one of a service.
    fn of(
        &mut self,
        service: &Service,
        place: &str,
        message: impl AsRef<str>,
        help: impl Into<String>,
    ) {
        let mut path = vec!["service".to_owned(), service.name.clone()];
        path.extend(parts(place));
        self.0.push(Trap {
            place: path,
            message: format!("{}: {}", service.name, message.as_ref()),
            help: help.into(),
        });
    }
}

fn parts(place: &str) -> Vec<String> {
    place
        .split('.')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// All traps of a config, those of the whole first. Looks at files, processes and systemd, and changes
/// nothing.
pub(super) fn find(config: &Config, table: &ProcessTable, now: &Reading) -> Vec<Trap> {
    let mut traps = Traps::default();
    in_times_of_runs(config, &mut traps);
    units::own(config, &mut traps);
    in_state(config, now, &mut traps);
    in_mail(config, &mut traps);
    let chains = longest_chains(&config.services);
    for service in config.services.iter().filter(|service| service.enabled) {
        in_process(service, table, now, &mut traps);
        in_reach_of_pattern(service, config, &mut traps);
        in_way(service, &mut traps);
        in_logs(service, &mut traps);
        in_limits(service, config, &chains, &mut traps);
        in_dependencies(service, config, &mut traps);
    }
    units::watched(config, &mut traps);
    ports::watched(config, table, now, &mut traps);
    shared(config, &mut traps);
    traps.0
}

/// What is seen of a service's process now, with nothing remembered.
pub(super) fn seen(service: &Service, table: &ProcessTable, now: &Reading) -> process::Seen {
    let nothing = process::LastSeen::default();
    process::look(&target(service), &nothing, table, now, &BTreeSet::new())
}

fn in_times_of_runs(config: &Config, traps: &mut Traps) {
    if config.check_timeout > config.run_timeout {
        traps.whole(
            "check_timeout",
            format!(
                "check_timeout ({}) is longer than run_timeout ({}), which ends every check before",
                rough(config.check_timeout),
                rough(config.run_timeout)
            ),
            "make check_timeout a small part of run_timeout",
        );
    }
}

fn in_state(config: &Config, now: &Reading, traps: &mut Traps) {
    let state = &config.state_dir;
    let Some(there) = state.ancestors().find(|path| path.exists()) else {
        return;
    };
    let shown = state.display();
    if statfs(there).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) {
        traps.whole(
            "state_dir",
            format!("the state in {shown} is kept in memory: each boot forgets restarts, pauses and unsent mail"),
            "choose a state_dir on a disk, such as /var/lib/watchdog",
        );
    }
    let writable = there.is_dir() && access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if !writable {
        traps.whole(
            "state_dir",
            format!(
                "the state cannot be kept in {shown}: this user cannot write to {}",
                there.display()
            ),
            "make it a directory of the user who runs `watchdog check`, or validate as that user",
        );
    }
    let last = Store::at(state).look().state.last_run;
    if let Some(last) = last.filter(|&last| age(now.wall, last) > FORGOTTEN) {
        traps.whole(
            "",
            format!(
                "the last run was {} ago: nothing seems to run `watchdog check` any more",
                rough(age(now.wall, last))
            ),
            "look at the cron entry (`* * * * * watchdog check -q`) or the timer; \
             `watchdog status --max-age 10m` tells other tools",
        );
    }
}

fn in_mail(config: &Config, traps: &mut Traps) {
    let Some(mail) = &config.mail else {
        traps.whole(
            "",
            "there is no [mail] table: nobody is told of anything",
            "write one, or have cron or a timer tell what `watchdog check -q` prints",
        );
        return;
    };
    match &mail.transport {
        Transport::Directory(directory) => {
            let there = directory.ancestors().find(|path| path.exists());
            if !there.is_some_and(|there| {
                there.is_dir() && access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
            }) {
                traps.whole(
                    "mail.directory",
                    format!(
                        "no mail can be written to {}: it is not a directory that this user can write to",
                        directory.display()
                    ),
                    "make it a directory of the user who runs `watchdog check`",
                );
            }
        }
        Transport::Sendmail { command } => {
            if let Err(why) = executable(command) {
                traps.whole(
                    "mail.sendmail.command",
                    format!("no mail can be sent: {why}"),
                    "install a mailer such as msmtp-mta or postfix, or use `smtp`",
                );
            }
        }
        Transport::Smtp(_) => {}
    }
}

/// Whether a file can be run.
fn executable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Err(error) => Err(format!("{} cannot be run: {error}", path.display())),
        Ok(meta) if !meta.is_file() => Err(format!("{} is not a program", path.display())),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            Err(format!("{} is not executable", path.display()))
        }
        Ok(_) => Ok(()),
    }
}

fn in_process(service: &Service, table: &ProcessTable, now: &Reading, traps: &mut Traps) {
    let Some(rule) = &service.process else {
        return;
    };
    if let Some(directory) = rule.pid_file.as_ref().and_then(|path| path.parent())
        && !directory.is_dir()
    {
        traps.of(
            service,
            "process.pid_file",
            format!(
                "the directory of its PID file, {}, is not there",
                directory.display()
            ),
            "make it, or say where the program writes its PID; below /run it has to be made at each boot",
        );
    }
    if let Some(Err(why)) = rule.user.as_deref().map(resolve_user) {
        traps.of(
            service,
            "process.user",
            why,
            "name a user that this machine has: `getent passwd`",
        );
        return;
    }
    let Some(pattern) = &rule.command_line else {
        return;
    };
    let seen = seen(service, table, now);
    if !matches!(seen.process_status, ProcessStatus::Running(_)) {
        let of = rule
            .user
            .as_ref()
            .map(|user| format!(" of user {user}"))
            .unwrap_or_default();
        traps.of(
            service,
            "process.command_line",
            format!("`{}` matches no process{of} now", pattern.source()),
            "where the program runs, hold the pattern against `ps -eo user,args`; it is searched in the \
             arguments joined by single spaces",
        );
    }
    if let Some(finding) = seen
        .findings
        .iter()
        .find(|finding| finding.code == process::TOO_MANY)
    {
        traps.of(
            service,
            "process.command_line",
            &finding.message,
            "make the pattern narrower, or give the `user` or a `pid_file` as well",
        );
    }
}

/// A pattern that fits somebody's editor makes a person who reads the config into the program.
fn in_reach_of_pattern(service: &Service, config: &Config, traps: &mut Traps) {
    let Some(rule) = &service.process else {
        return;
    };
    let Some(pattern) = rule
        .command_line
        .as_ref()
        // other programs of that user are few, and those of a person are not among them
        .filter(|_| rule.user.is_none())
    else {
        return;
    };
    let file = config.path.display();
    let mut lines = vec![
        format!("vi {file}"),
        format!("watchdog check --config {file}"),
    ];
    lines.extend(
        service
            .logs()
            .map(|rule| format!("tail -f {}", rule.path.display())),
    );
    if let Some(RestartMethod::Spawn(spawn)) = &service.method {
        lines.extend(
            scripts(spawn)
                .iter()
                .map(|script| format!("vi {}", script.display())),
        );
    }
    if let Some(line) = lines.iter().find(|line| pattern.matches(line.as_bytes())) {
        traps.of(
            service,
            "process.command_line",
            format!(
                "the pattern `{}` also matches `{}`",
                pattern.source(),
                printable(line.as_bytes(), 200)
            ),
            "let the pattern begin at the beginning, as in '^/usr/bin/python3 .*main\\.py', or give the `user`",
        );
    }
}

/// The files among the arguments of a program.
fn scripts(spawn: &Spawn) -> Vec<PathBuf> {
    spawn
        .command
        .iter()
        .skip(1)
        .map(|argument| spawn.working_dir.join(argument))
        .filter(|path| path.is_file())
        .collect()
}

/// What root would run of somebody else's: who can change it has root's power.
fn in_roots_hands(service: &Service, place: &str, plan: &Spawn, program: &Path, traps: &mut Traps) {
    if !spawn::runs_as_root(plan) {
        return;
    }
    let scripts = scripts(plan);
    let all = std::iter::once(program).chain(scripts.iter().map(PathBuf::as_path));
    for path in all {
        let others = files::writers(path, 0, Extent::Whole);
        if !others.are_none() {
            traps.of(
                service,
                place,
                format!(
                    "root would run {}, which {others} can change",
                    path.display()
                ),
                "give a program of another user's its `user` in `spawn`; or let root alone write it and its directories",
            );
            return;
        }
    }
}

fn in_way(service: &Service, traps: &mut Traps) {
    match &service.method {
        Some(RestartMethod::Spawn(plan)) => {
            match spawn::prepare(plan) {
                Err(why) => traps.of(
                    service,
                    "spawn",
                    format!("it could not be started: {why}"),
                    mends_start(&why),
                ),
                Ok((_, _, program)) => {
                    in_roots_hands(service, "spawn.command", plan, &program, traps);
                    if let Err(why) = executable(&program) {
                        traps.of(
                            service,
                            "spawn.command",
                            format!("it could not be started: {why}"),
                            "chmod +x makes a script a program",
                        );
                    }
                }
            }
            shell_words(service, "spawn.command", &plan.command, traps);
            for (key, path) in [("stdout", &plan.stdout), ("stderr", &plan.stderr)] {
                missing_directory(service, &format!("spawn.{key}"), path.as_deref(), traps);
            }
        }
        Some(RestartMethod::Command(plan)) => {
            let like = plan.as_spawn();
            let runs = spawn::prepare(&like).and_then(|(_, _, program)| {
                in_roots_hands(service, "restart.command", &like, &program, traps);
                executable(&program)
            });
            if let Err(why) = runs {
                traps.of(
                    service,
                    "restart.command",
                    format!("it could not be restarted: {why}"),
                    mends_start(&why),
                );
            }
            shell_words(service, "restart.command", &plan.command, traps);
        }
        // systemd is asked for all units at once
        Some(RestartMethod::Systemd(_)) | None => {}
    }
}

/// What helps where a program cannot be started.
fn mends_start(why: &str) -> &'static str {
    if why.contains(" in its PATH ") {
        "its PATH is not that of your shell: cron and timers have no other"
    } else if why.starts_with("no such user") || why.starts_with("no such group") {
        "name one that this machine has: `getent passwd`, `getent group`"
    } else {
        "relative paths begin at the service's working_dir, and that at the config's directory"
    }
}

/// No shell reads a command, so what only a shell understands is an argument like any other.
fn shell_words(service: &Service, place: &str, command: &[String], traps: &mut Traps) {
    // `sh -c` and its like: a shell reads the next one
    let is_shell = command
        .get(1)
        .is_some_and(|option| option.starts_with('-') && option.ends_with('c'));
    let word = command.iter().find(|word| {
        SHELL_WORDS.contains(&word.as_str()) || word.starts_with('$') || word.starts_with("~/")
    });
    if let Some(word) = word.filter(|_| !is_shell) {
        traps.of(
            service,
            place,
            format!("no shell reads this command: `{word}` is an argument like any other"),
            "write command = [\"/bin/sh\", \"-c\", \"exec …\"] where you need a shell",
        );
    }
    if let [single] = command
        && single.contains(' ')
        && !Path::new(single).exists()
    {
        traps.of(
            service,
            place,
            format!("the whole of `{single}` is taken for the name of a program"),
            "write each argument by itself: [\"python3\", \"main.py\"]",
        );
    }
}

fn missing_directory(service: &Service, place: &str, path: Option<&Path>, traps: &mut Traps) {
    if let Some(directory) = path.and_then(Path::parent)
        && !directory.is_dir()
    {
        traps.of(
            service,
            place,
            format!("the directory {} is not there", directory.display()),
            "make it: the watchdog makes none",
        );
    }
}

fn in_logs(service: &Service, traps: &mut Traps) {
    for (number, rule) in service.logs().enumerate() {
        let place = |key: &str| format!("log.{number}.{key}");
        if log::resolve(&rule.path).is_none() {
            traps.of(
                service,
                &place("path"),
                format!("{} matches no file now", rule.shown),
                "a log that is not there is a failure: hold the pattern against `ls`",
            );
        } else if rule.path.parent().is_some_and(|directory| {
            !directory.to_string_lossy().contains(['*', '?', '[']) && !directory.is_dir()
        }) {
            missing_directory(service, &place("path"), Some(&rule.path), traps);
        }
        let Some(limit) = rule.max_age else { continue };
        if limit < service.limits.settle {
            traps.of(
                service,
                &place("max_age"),
                format!(
                    "{} may be no older than {}, less than it is given to settle ({})",
                    rule.shown,
                    rough(limit),
                    rough(service.limits.settle)
                ),
                "make max_age longer, or settle shorter",
            );
        } else if limit < CRON {
            traps.of(
                service,
                &place("max_age"),
                format!(
                    "{} may be no older than {}: a moment's pause at the time of a run is taken for a freeze",
                    rule.shown,
                    rough(limit)
                ),
                "runs are a minute apart, so a limit of a minute or more finds a freeze as soon",
            );
        }
        if service.start_grace.is_zero() && target(service).is_known() {
            traps.of(
                service,
                "start_grace",
                format!("{} is judged the moment that it was started", rule.shown),
                "make start_grace longer than it takes to write its first lines",
            );
        }
    }
}

/// The longest that the restart of a service can take.
fn longest(service: &Service) -> Duration {
    match service.method {
        None => Duration::ZERO,
        Some(_) => {
            service.limits.stop_timeout + service.limits.start_timeout + service.limits.settle
        }
    }
}

fn in_limits(
    service: &Service,
    config: &Config,
    chains: &HashMap<&str, Duration>,
    traps: &mut Traps,
) {
    let own = longest(service);
    let chain = chains.get(service.name.as_str()).copied().unwrap_or(own);
    let what = if own > config.run_timeout {
        Some(("stop_timeout, start_timeout and settle", own))
    } else if chain > config.run_timeout {
        Some(("its restart after those of what it depends on", chain))
    } else {
        None
    };
    if let Some((what, takes)) = what {
        traps.of(
            service,
            "restart",
            format!(
                "{what} can take {}, but run_timeout ends a run after {}",
                rough(takes),
                rough(config.run_timeout)
            ),
            "make run_timeout longer, or these shorter",
        );
    }
    let policy = &service.policy;
    let gaps = policy.max_per_hour.saturating_sub(1);
    if gaps > 0 && policy.cooldown.saturating_mul(gaps) >= HOUR {
        traps.of(
            service,
            "restart.cooldown",
            format!(
                "with a cooldown of {} there are never {} restarts in an hour",
                rough(policy.cooldown),
                policy.max_per_hour
            ),
            "make cooldown shorter, or max_per_hour what it can be",
        );
    }
}

/// The longest that each service's restart can take together with those of what it depends on, by name.
fn longest_chains(services: &[Service]) -> HashMap<&str, Duration> {
    let mut chains: HashMap<&str, Duration> = HashMap::with_capacity(services.len());
    for place in dependencies_first(services) {
        let service = &services[place];
        let before = service.depends_on.iter();
        let before = before
            .filter_map(|name| chains.get(name.as_str()).copied())
            .max();
        let all = before.unwrap_or_default().saturating_add(longest(service));
        chains.insert(&service.name, all);
    }
    chains
}

fn in_dependencies(service: &Service, config: &Config, traps: &mut Traps) {
    for name in &service.depends_on {
        if config.service(name).is_some_and(|other| !other.enabled) {
            traps.of(
                service,
                "depends_on",
                format!(
                    "`{name}`, which it depends on, is disabled: nobody looks whether it is well"
                ),
                "enable it, or take it out of depends_on",
            );
        }
    }
}

/// What two services claim both, though only one can have it.
fn shared(config: &Config, traps: &mut Traps) {
    let mut owners: BTreeMap<(&str, String), &Service> = BTreeMap::new();
    for service in config.services.iter().filter(|service| service.enabled) {
        let mut claims: Vec<(&str, &str, String)> = Vec::new();
        if let Some(rule) = &service.process {
            if let Some(path) = &rule.pid_file {
                claims.push(("process.pid_file", "PID file", path.display().to_string()));
            }
            if let Some(pattern) = rule
                .command_line
                .as_ref()
                .filter(|_| rule.pid_file.is_none())
            {
                let user = rule.user.as_deref().unwrap_or_default();
                let what = format!("{} {user}", pattern.source());
                claims.push(("process.command_line", "command line", what));
            }
        }
        match &service.method {
            Some(RestartMethod::Spawn(spawn)) => {
                let place = spawn.working_dir.display();
                let command = format!("{} in {place}", spawn.command.join(" "));
                claims.push(("spawn.command", "command", command));
            }
            Some(RestartMethod::Systemd(unit)) => {
                claims.push(("systemd.unit", "unit", unit.unit.clone()));
            }
            Some(RestartMethod::Command(_)) | None => {}
        }
        for (place, what, value) in claims {
            match owners.get(&(what, value.clone())) {
                Some(other) => traps.of(
                    service,
                    place,
                    format!("its {what} is that of `{}` as well", other.name),
                    "two services for one program restart it against each other: keep one",
                ),
                None => {
                    owners.insert((what, value), service);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn depending(name: &str, depends_on: Vec<String>) -> Service {
        Service {
            depends_on,
            ..fixtures::service(name)
        }
    }

    #[test]
    fn the_longest_chain_is_found_in_any_graph() {
        let one = longest(&fixtures::service("a"));
        // each depends on the next
        let after = |n: usize| (n + 1 < 16_000).then(|| format!("s{}", n + 1));
        let chain: Vec<Service> = (0..16_000)
            .map(|n| depending(&format!("s{n}"), after(n).into_iter().collect()))
            .collect();
        assert_eq!(longest_chains(&chain)["s0"], one * 16_000);
        // each of a layer depends on all of the next: there are 5^19 ways from the first to the last
        let layer = |n: usize| (0..5).map(move |m| format!("s{n}-{m}"));
        let layers: Vec<Service> = (0..20)
            .flat_map(|n| {
                let next = layer(n + 1).filter(move |_| n < 19);
                let next: Vec<String> = next.collect();
                layer(n).map(move |name| depending(&name, next.clone()))
            })
            .collect();
        assert_eq!(longest_chains(&layers)["s0-0"], one * 20);
    }
}
