//! The traps that a config can hold, each found by a function of its own.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::Texts;
use crate::check::log::Logs;
use crate::check::process::{self, Bystanders, ProcessStatus};
use crate::check::trap::{Place, Trap};
use crate::check::unit::{self, Watched};
use crate::check::{self, Can, Looking, Rule, ServiceContext, container, prometheus};
use crate::clock::{Reading, goes_on_while_off, known_age, rough, stamp};
use crate::config::{Config, Remedy, Service, dependencies_first, place};
use crate::files;
use crate::notify::means;
use crate::observe::target;
use crate::pool::Pool;
use crate::process_table::ProcessTable;
use crate::restart::RestartMethod;
use crate::state::HOUR;
use crate::state::store::Store;

mod found;
mod keeper;
mod own_unit;
mod scales;
mod web;

/// What a question to systemd may take.
pub(super) const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(5);

/// A watchdog that was run once and not for so long is forgotten by its timer.
const FORGOTTEN: Duration = Duration::from_mins(15);

/// A trap with its place in the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlacedTrap {
    /// The file; absent: the main one.
    pub(super) file: Option<Arc<Path>>,
    /// The tables and keys that lead to it.
    pub(super) place: Vec<String>,
    /// What it is.
    pub(super) message: String,
    /// What mends it.
    pub(super) help: String,
}

/// Collects traps.
#[derive(Default)]
struct Traps(Vec<PlacedTrap>);

impl Traps {
    /// Notes one of the config as a whole; `place` is a path of keys with dots.
    fn whole(&mut self, place: &str, message: impl Into<String>, help: impl Into<String>) {
        self.of_key(None, Vec::new(), place, message, help);
    }

    /// Notes one of a table, whose name may have dots in it; absent: it stands in the main file.
    fn of_key(
        &mut self,
        file: Option<&Arc<Path>>,
        mut table: Vec<String>,
        place: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        table.extend(parts(place));
        self.0.push(PlacedTrap {
            file: file.map(Arc::clone),
            place: table,
            message: message.into(),
            help: help.into(),
        });
    }

    /// Notes one of a table in a file; `place` is a path of keys with dots.
    fn at(
        &mut self,
        file: &Arc<Path>,
        place: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        // a name may have dots in it
        let place = place.splitn(2, '.').map(str::to_owned).collect();
        self.0.push(PlacedTrap {
            file: Some(Arc::clone(file)),
            place,
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
        self.0.push(PlacedTrap {
            file: Some(Arc::clone(&service.file)),
            place: path,
            message: format!("{}: {}", service.name, message.as_ref()),
            help: help.into(),
        });
    }

    /// Notes those of a part of a service, in its table of this name.
    fn of_part(&mut self, service: &Service, table: &str, found: Vec<Trap>) {
        for trap in found {
            let place = match trap.place {
                Place::Table(key) => format!("{table}.{key}"),
                Place::Service(key) => key.to_owned(),
            };
            self.of(service, &place, trap.message, trap.help);
        }
    }
}

fn parts(place: &str) -> Vec<String> {
    place
        .split('.')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What looking for traps depends on.
pub(super) struct Scene<'a> {
    pub(super) config: &'a Config,
    /// All processes.
    pub(super) table: &'a ProcessTable,
    /// The config as it is written.
    pub(super) texts: &'a Texts<'a>,
    /// The services that are enabled, and what is seen of the process of each, with nothing remembered.
    pub(super) services: Vec<(&'a Service, process::Seen)>,
}

impl<'a> Scene<'a> {
    /// Looks for the processes of all services.
    pub(super) fn look(
        config: &'a Config,
        texts: &'a Texts<'a>,
        table: &'a ProcessTable,
        now: &Reading,
    ) -> Self {
        let nothing = process::LastSeen::default();
        let enabled = config.services.iter().filter(|service| service.enabled);
        let seen = enabled.map(|service| {
            let taken = BTreeSet::new();
            let seen = process::look(&target(service), &nothing, table, now, &taken);
            (&**service, seen)
        });
        Self {
            config,
            table,
            texts,
            services: seen.collect(),
        }
    }
}

/// All traps of a config, those of the whole first, and then service by service. Looks at files, processes and systemd,
/// and changes nothing.
pub(super) fn find(scene: &Scene<'_>, now: &Reading) -> Vec<PlacedTrap> {
    let config = scene.config;
    let mut traps = Traps::default();
    in_included(config, &mut traps);
    in_times_of_runs(config, &mut traps);
    own_unit::look(config, &mut traps);
    in_state(config, now, &mut traps);
    in_channels(config, &mut traps);
    in_prometheus(config, now, &mut traps);
    found::look(config, &mut traps);
    scales::look(config, now, &mut traps);
    web::look(config, &mut traps);
    let mut of_units = in_units(scene);
    let mut of_containers = in_containers(scene);
    let mut of_checks = in_checks(scene, now);
    let chains = longest_chains(&config.services);
    for (service, seen) in &scene.services {
        in_process(service, seen, config, &mut traps);
        traps.of_part(
            service,
            "systemd",
            of_units.remove(&*service.name).unwrap_or_default(),
        );
        traps.of_part(
            service,
            "container",
            of_containers.remove(&*service.name).unwrap_or_default(),
        );
        in_method(service, &mut traps);
        let of_evidence = service.evidence.traps(&service.working_dir);
        traps.of_part(service, "evidence", of_evidence);
        in_strategies(service, config, &mut traps);
        let kept = keeper::look(service, seen, scene.table, &Store::at(&config.state_dir));
        traps.of_part(service, "", kept.into_iter().collect());
        for (table, found) in of_checks.remove(&*service.name).unwrap_or_default() {
            traps.of_part(service, &table, found);
        }
        in_limits(service, config, &chains, &mut traps);
        in_dependencies(service, config, &mut traps);
    }
    shared(config, &mut traps);
    traps.0
}

fn in_process(service: &Service, seen: &process::Seen, config: &Config, traps: &mut Traps) {
    if let Some(rule) = &service.process {
        let bystanders = Bystanders {
            config: &config.path,
            logs: service
                .rules::<Logs>()
                .filter(|rule| !rule.journal)
                .map(|rule| &*rule.path)
                .collect(),
            started: target(service).started,
            clock_goes_on: goes_on_while_off(Path::new("/")),
        };
        let found = process::traps(rule, seen, &bystanders);
        traps.of_part(service, "process", found);
    }
    let mut of_life = (service.checks.iter())
        .map(|check| &check.rule)
        .filter(|rule| rule.shows_life())
        .peekable();
    if seen.process_status == ProcessStatus::NotApplicable
        && target(service).started.is_some()
        && of_life.peek().is_some()
        && of_life.all(Rule::is_warning)
    {
        traps.of(
            service,
            "spawn",
            "no check will start it: its process was never seen, so its checks have to show whether it runs, and all of \
             them are warnings, which restart nothing",
            format!(
                "add process = {{ command_line = '…' }}, or start it once by `watchdog restart {}`: from then on its process is known",
                service.name
            ),
        );
    }
}

/// The traps of all containers, by the names of their services.
fn in_containers<'a>(scene: &Scene<'a>) -> HashMap<&'a str, Vec<Trap>> {
    let (mut names, mut rules) = (Vec::new(), Vec::new());
    for (service, _) in &scene.services {
        if let Some(rule) = &service.container {
            names.push(&*service.name);
            rules.push(rule);
        }
    }
    if rules.is_empty() {
        return HashMap::new();
    }
    let ends = Instant::now() + scene.config.run_timeout;
    let found = container::traps(&scene.config.containers, &rules, ends);
    names.into_iter().zip(found).collect()
}

/// The traps of all units, by the names of their services.
fn in_units<'a>(scene: &Scene<'a>) -> HashMap<&'a str, Vec<Trap>> {
    let (mut services, mut units) = (Vec::new(), Vec::new());
    for (service, _) in &scene.services {
        if let Some(unit) = &service.unit {
            let has_process = service.process.is_some();
            services.push(*service);
            units.push(Watched { unit, has_process });
        }
    }
    let found = unit::traps(&units, SYSTEMCTL_LIMIT);
    let mut all = HashMap::new();
    for ((service, watched), found) in services.into_iter().zip(units).zip(found) {
        let name = &*service.name;
        let text = scene.texts.at(&service.file);
        let written = place::written(text, &["service", name, "systemd", "unit"]);
        let of_name = written.and_then(|written| unit::trap_in_name(watched.unit, written));
        all.insert(name, of_name.into_iter().chain(found).collect());
    }
    all
}

/// The traps of all checks, by the names of their services: the table of each, and what was found there.
fn in_checks<'a>(scene: &Scene<'a>, now: &Reading) -> HashMap<&'a str, Vec<(String, Vec<Trap>)>> {
    let pool = Pool::new();
    let looking = Looking {
        pool: &pool,
        now,
        jumped_at: None,
        check_timeout: scene.config.check_timeout,
        run_timeout: scene.config.run_timeout,
        deadline: Instant::now() + scene.config.run_timeout,
    };
    let contexts: Vec<ServiceContext<'_>> = scene
        .services
        .iter()
        .map(|(service, seen)| ServiceContext {
            settle: service.limits.settle,
            start_grace: service.start_grace,
            has_process: target(service).is_known(),
            has_method: service.has_remedy(),
            unit: service.unit.as_ref(),
            container: service.container.as_ref(),
            engine: &scene.config.containers,
            process_status: &seen.process_status,
            buffered_output: (service.method.as_ref()).and_then(RestartMethod::buffered_output),
        })
        .collect();
    let mut tables = Vec::new();
    let mut checks = Vec::new();
    for ((service, _), context) in scene.services.iter().zip(&contexts) {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for check in &service.checks {
            let kind = check.rule.kind_name();
            let number = numbers.entry(kind).or_default();
            tables.push((&*service.name, format!("{kind}.{number}")));
            *number += 1;
            checks.push((&check.rule, context));
        }
    }
    let mut all: HashMap<&str, Vec<_>> = HashMap::new();
    for ((name, table), found) in tables.into_iter().zip(check::traps(&checks, &looking)) {
        all.entry(name).or_default().push((table, found));
    }
    all
}

/// The traps of the table `[prometheus]`.
fn in_prometheus(config: &Config, now: &Reading, traps: &mut Traps) {
    let Some(settings) = &config.prometheus else {
        return;
    };
    let pool = Pool::new();
    let looking = Looking {
        pool: &pool,
        now,
        jumped_at: None,
        check_timeout: config.check_timeout,
        run_timeout: config.run_timeout,
        deadline: Instant::now() + config.run_timeout,
    };
    let names = config.services.iter().map(|service| &*service.name);
    for trap in prometheus::of_settings(settings, &names.collect(), &looking) {
        let place = match trap.place {
            Place::Table(key) | Place::Service(key) => format!("prometheus.{key}"),
        };
        traps.whole(&place, trap.message, trap.help);
    }
}

fn in_included(config: &Config, traps: &mut Traps) {
    for included in &config.included {
        if included.files.is_empty() {
            traps.whole(
                "include",
                format!("`{}` matches no file: nothing is included by it", included.pattern),
                "a relative pattern begins at the directory of the config; what begins with a dot is never matched by `*`",
            );
        }
    }
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
            format!("the state in {shown} is kept in memory: each boot forgets restarts, pauses and unsent messages"),
            "choose a state_dir on a disk, such as /var/lib/watchdog",
        );
    }
    if let Some(what) = files::no_directory(state) {
        traps.whole(
            "state_dir",
            format!("the state cannot be kept in {shown}: {what}"),
            "take that away, or set state_dir to another directory",
        );
        return;
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
    let mut state = Store::at(state).look().state;
    state.move_with_clock(now);
    let last = state.last_run;
    let when = last.and_then(|last| match known_age(now.wall, last) {
        Some(old) if old <= FORGOTTEN => None,
        Some(old) => Some(format!("was {} ago", rough(old))),
        None => Some(format!("was at {}, ahead of the clock", stamp(last))),
    });
    if let Some(when) = when {
        traps.whole(
            "",
            format!("the last run {when}: nothing seems to run `watchdog check` any more"),
            "look at the cron entry (`* * * * * watchdog check -q`) or the timer; \
             `watchdog status --max-age 10m` tells other tools",
        );
    }
}

fn in_channels(config: &Config, traps: &mut Traps) {
    if config.channels.is_empty() {
        traps.whole(
            "",
            "there is no [mail] table and no [notify.NAME] table: nobody is alerted",
            "write one, or have cron or a timer tell what `watchdog check -q` prints",
        );
    }
    for channel in &config.channels {
        for names in &channel.routing().services {
            let services = config.services.iter().map(|it| &it.name);
            let mut known = services.chain(config.scales.iter().map(|it| &it.name));
            // what a table finds may have any name
            if config.discover.is_empty() && !known.any(|name| means(names, name)) {
                traps.of_key(
                    channel.file.as_ref(),
                    channel.place(),
                    "services",
                    format!("`{names}` is no service: nobody is alerted about it there"),
                    "write the name of a service, or a pattern that names of services match",
                );
            }
        }
        of_table(
            channel.file.as_ref(),
            &channel.place(),
            channel.traps(),
            traps,
        );
    }
    if let Some(ping) = &config.ping {
        of_table(None, &["ping".to_owned()], ping.traps(), traps);
    }
}

fn of_table(file: Option<&Arc<Path>>, table: &[String], found: Vec<Trap>, traps: &mut Traps) {
    for trap in found {
        let (Place::Table(key) | Place::Service(key)) = trap.place;
        traps.of_key(file, table.to_vec(), key, trap.message, trap.help);
    }
}

fn in_method(service: &Service, traps: &mut Traps) {
    if let Some(method) = &service.method {
        traps.of_part(service, method.place(), method.traps());
    }
}

fn in_strategies(service: &Service, config: &Config, traps: &mut Traps) {
    let mut listed: BTreeSet<&str> = BTreeSet::new();
    for (number, strategy) in service.strategies.iter().enumerate() {
        let table = format!("strategy.{number}");
        if strategy
            .findings
            .iter()
            .all(|code| listed.contains(&**code))
        {
            traps.of(
                service,
                &format!("{table}.findings"),
                format!(
                    "its strategy for {} never holds: each of these stands in one before it",
                    strategy.title()
                ),
                "the first strategy in the file that lists a finding holds: put them in another order",
            );
        }
        listed.extend(strategy.findings.iter().map(String::as_str));
        if !(strategy.findings.iter()).any(|code| may_be_critical(code, service)) {
            traps.of(
                service,
                &format!("{table}.findings"),
                format!(
                    "its strategy for {} never holds: what has {} is never critical here",
                    strategy.title(),
                    match strategy.findings.len() {
                        1 => "that code",
                        _ => "one of these codes",
                    }
                ),
                "a strategy is for critical findings: list one that is, or take `severity = \"warning\"` out of its check",
            );
        }
        match &strategy.remedy {
            Remedy::Repair(repair) => {
                traps.of_part(service, &table, repair.traps());
                if repair.timeout > config.run_timeout {
                    traps.of(
                        service,
                        &format!("{table}.timeout"),
                        format!(
                            "this command may take {}, but run_timeout ends a run after {}",
                            rough(repair.timeout),
                            rough(config.run_timeout)
                        ),
                        "make run_timeout longer, or timeout shorter",
                    );
                }
            }
            Remedy::Restart if service.method.is_none() => traps.of(
                service,
                &format!("{table}.findings"),
                "this strategy restarts a service that has no restart method",
                "give it a command, or the service one of spawn, systemd, container or restart.command",
            ),
            Remedy::Restart | Remedy::Alert => {}
        }
    }
}

/// Whether a finding with this code may be critical in a service.
fn may_be_critical(code: &str, service: &Service) -> bool {
    if check::code(code).is_some_and(|code| matches!(code.can, Can::Warning | Can::Unknown)) {
        return false;
    }
    // alerts come from `[prometheus]` as well, without a table here
    let has_code = |rule: &&Rule| rule.codes().iter().any(|it| it.name == code);
    let rules = service.checks.iter().map(|check| &check.rule);
    let mut of_code = rules.filter(has_code).peekable();
    of_code.peek().is_none() || !of_code.all(Rule::is_warning)
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
fn longest_chains<S: Borrow<Service>>(services: &[S]) -> HashMap<&str, Duration> {
    let mut chains: HashMap<&str, Duration> = HashMap::with_capacity(services.len());
    for place in dependencies_first(services) {
        let service: &Service = services[place].borrow();
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
        let claim = service.method.as_ref().and_then(RestartMethod::claim);
        claims.extend(claim.map(|claim| (claim.key, claim.what, claim.value)));
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
