//! Reading what services use: of a unit and of a container by its control group, of other services by their processes. Of a
//! container whose processes are not seen from here its engine says it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use chrono::{DateTime, Utc};
use nix::time::{ClockId, clock_gettime};

use super::Rule;
use super::average::{Baseline, Processes, Total};
use super::cgroup::{self, Hierarchies};
use crate::check::container::Described;
use crate::check::process::{Identity, ProcessStatus};
use crate::check::{Looking, Runs};
use crate::client::engine::Stats;
use crate::clock::{Reading, rough};
use crate::pool::Failed;
use crate::process_table::{self, Used, UsedByAll, is_gone};

/// What looking gave, for one rule of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing runs.
    NotRunning,
    /// Whether anything runs could not be seen.
    Unknown,
    /// It runs.
    At {
        /// Its main process.
        main: Identity,
        /// Whose control group counts, where one does.
        owner: Owner,
        /// What was seen.
        seen: Seen,
    },
}

/// Whose control group counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    /// That of its unit.
    #[default]
    Unit,
    /// That of its container.
    Container,
}

/// What was seen of what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A figure.
    Measured(Measured),
    /// The processor time that was used until now.
    Time {
        baseline: Baseline,
        processes: Option<usize>,
    },
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) figure: u64,
    /// What a share is of, where that was asked for.
    pub(super) whole: Option<Whole>,
    /// Of how many processes; absent: of a control group.
    pub(super) processes: Option<usize>,
}

/// What a share is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) amount: u64,
    /// It is the memory of the machine.
    pub(super) is_machine: bool,
}

/// What is read once for all services of a run, by the first that needs it.
#[derive(Debug, Default)]
struct Shared {
    all: OnceLock<Result<UsedByAll, String>>,
    hierarchies: OnceLock<Hierarchies>,
    machine: OnceLock<Option<u64>>,
}

impl Shared {
    fn all(&self) -> Result<&UsedByAll, String> {
        let read = || UsedByAll::read().map_err(|error| format!("/proc cannot be read: {error}"));
        self.all.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    fn hierarchies(&self) -> &Hierarchies {
        self.hierarchies.get_or_init(Hierarchies::read)
    }

    /// The memory of the machine, in bytes.
    fn machine(&self) -> Option<u64> {
        *self.machine.get_or_init(memory_of_machine)
    }
}

/// The memory of the machine, in bytes.
pub(super) fn memory_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// A service to be looked at, and what is asked of it.
struct Subject {
    main: Identity,
    has_main: bool,
    group: Option<String>,
    /// Its container, where its engine has to be asked.
    by_engine: Option<Arc<Runs>>,
    rules: Vec<Arc<Rule>>,
}

/// The control group of a container, by its main process.
fn group_of_container(pid: i32, container: &Described) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    cgroup::of_container(&groups, &container.details.id)
}

/// Whom a look was at, where it was at a unit without a main process, or at a container, which was `started` then, whose
/// main process is not seen from here.
fn without_main(now: &Reading, started: Option<DateTime<Utc>>) -> Identity {
    let started = started.and_then(|started| u64::try_from(started.timestamp_millis()).ok());
    Identity {
        pid: 0,
        start: started.unwrap_or_default(),
        boot_id: Arc::clone(&now.boot_id),
    }
}

/// Looks at all services side by side; what a service is asked for is read together.
pub(super) fn look(asked: &[(&Arc<Rule>, Option<&Arc<Runs>>)], looking: &Looking<'_>) -> Vec<Look> {
    let mut looks: Vec<Look> = vec![Look::Unknown; asked.len()];
    // by what runs, which the rules of a service share
    let mut services: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, (_, runs)) in asked.iter().enumerate() {
        if let Some(runs) = runs {
            let service = Arc::as_ptr(runs).addr();
            services.entry(service).or_default().push(place);
        }
    }
    let (mut places, mut subjects, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for of_service in services.into_values() {
        let Some(runs) = of_service.first().and_then(|place| asked[*place].1) else {
            continue;
        };
        let container = runs.container.as_deref();
        let is_up = container.is_some_and(|it| it.details.state.running);
        let main = match (&runs.process_status, &runs.control_group) {
            (ProcessStatus::Running(running), _) => Some(running.main.clone()),
            (ProcessStatus::NotApplicable, None) if is_up => None,
            (ProcessStatus::NotApplicable, Some(_)) => None,
            (ProcessStatus::NotRunning | ProcessStatus::NotApplicable, _) => {
                for place in of_service {
                    looks[place] = Look::NotRunning;
                }
                continue;
            }
            (ProcessStatus::Unknown, _) => continue,
        };
        let rules = of_service.iter().map(|place| Arc::clone(asked[*place].0));
        let group = match (&runs.control_group, &main, container) {
            (Some(group), ..) => Some(group.clone()),
            (None, Some(main), Some(container)) => group_of_container(main.pid, container),
            _ => None,
        };
        let by_engine = (is_up && group.is_none() && main.is_none()).then(|| Arc::clone(runs));
        let started = container.and_then(|it| it.details.state.started_at);
        owners.push(match runs.control_group {
            None if container.is_some() => Owner::Container,
            _ => Owner::Unit,
        });
        subjects.push(Subject {
            has_main: main.is_some(),
            main: main.unwrap_or_else(|| without_main(looking.now, started)),
            group,
            by_engine,
            rules: rules.collect(),
        });
        places.push(of_service);
    }
    let mains: Vec<Identity> = subjects
        .iter()
        .map(|subject| subject.main.clone())
        .collect();
    let (shared, now) = (Shared::default(), looking.now.clone());
    let deadline = looking.deadline;
    let results = looking.pool.side_by_side(
        subjects,
        looking.check_timeout,
        looking.deadline,
        move |subject| match &subject.by_engine {
            Some(runs) => ask_engine(&subject, runs, &shared, &now, deadline),
            None => read(&subject, &shared, &now),
        },
    );
    let whose = mains.into_iter().zip(owners);
    for ((places, (main, owner)), result) in places.into_iter().zip(whose).zip(results) {
        let seen = match result {
            Ok(Some(seen)) => seen,
            // it has ended since: the next run sees that
            Ok(None) => continue,
            Err(failed) => vec![Seen::Unreadable(given_up(failed, looking)); places.len()],
        };
        for (place, seen) in places.into_iter().zip(seen) {
            let main = main.clone();
            looks[place] = Look::At { main, owner, seen };
        }
    }
    looks
}

fn given_up(failed: Failed, looking: &Looking<'_>) -> String {
    match failed {
        Failed::TimedOut => format!("not read within {}", rough(looking.check_timeout)),
        Failed::OutOfTime => "not read when the run had to end".to_owned(),
        Failed::NoThread => "cannot create a thread (ulimit -u, TasksMax=)".to_owned(),
        Failed::Panicked => "internal error (bug); please report it".to_owned(),
    }
}

/// The processes of a service, read once where they are needed.
#[derive(Default)]
struct Members(OnceLock<Result<Vec<Used>, String>>);

impl Members {
    /// Those of its control group, or its main process with all its descendants.
    fn get(&self, subject: &Subject, shared: &Shared) -> Result<&[Used], String> {
        let read = || {
            if let Some(group) = &subject.group
                && let Some(pids) = shared
                    .hierarchies()
                    .pids(group)
                    .map_err(|error| format!("the processes of its cgroup {group}: {error}"))?
            {
                let mut members = Vec::with_capacity(pids.len());
                for pid in pids {
                    match process_table::used(pid) {
                        Ok(used) => members.push(used),
                        Err(error) if is_gone(&error) => {}
                        Err(error) => return Err(format!("/proc/{pid}/stat: {error}")),
                    }
                }
                return Ok(members);
            }
            let all = shared.all()?;
            Ok(all.tree(subject.main.pid, subject.main.start))
        };
        let members = self.0.get_or_init(read).as_ref();
        members.map(Vec::as_slice).map_err(Clone::clone)
    }
}

/// What each rule asks of a service; nothing where it has ended.
fn read(subject: &Subject, shared: &Shared, now: &Reading) -> Option<Vec<Seen>> {
    let is_there =
        || process_table::stat(subject.main.pid).is_ok_and(|stat| stat.start == subject.main.start);
    if subject.has_main && !is_there() {
        return None;
    }
    let members = Members::default();
    let one = |rule: &Arc<Rule>| {
        let seen = match &**rule {
            Rule::Memory(_) => memory(rule, subject, &members, shared),
            Rule::Cpu(_) => time(subject, &members, shared, now),
            Rule::OpenFiles(_) => open_files(rule, subject),
            Rule::Threads(_) => threads(subject, &members, shared),
        };
        seen.unwrap_or_else(Seen::Unreadable)
    };
    Some(subject.rules.iter().map(one).collect())
}

/// What each rule asks of a container whose processes are not seen from here, as its engine counts it.
fn ask_engine(
    subject: &Subject,
    runs: &Runs,
    shared: &Shared,
    now: &Reading,
    deadline: Instant,
) -> Option<Vec<Seen>> {
    let container = runs.container.as_deref()?;
    let ids = [&*container.details.id];
    let answers = container.engine.stats(&ids, container.timeout, deadline);
    let stats = answers.into_iter().next();
    let stats = match stats {
        Some(Ok(stats)) => Ok(stats),
        Some(Err(trouble)) => Err(trouble.to_string()),
        None => Err("the engine was not asked".to_owned()),
    };
    let one = |rule: &Arc<Rule>| {
        let seen = match &stats {
            Ok(stats) => of_stats(rule, stats, shared, now),
            Err(why) => Err(why.clone()),
        };
        seen.unwrap_or_else(Seen::Unreadable)
    };
    Some(subject.rules.iter().map(one).collect())
}

fn of_stats(rule: &Rule, stats: &Stats, shared: &Shared, now: &Reading) -> Result<Seen, String> {
    let uncounted = || "the engine does not count it".to_owned();
    let figure = |figure, whole| {
        Seen::Measured(Measured {
            figure,
            whole,
            processes: None,
        })
    };
    match rule {
        Rule::Memory(_) => {
            let machine = shared.machine();
            let limit = stats.memory_stats.limit;
            let is_less = |limit: &u64| machine.is_none_or(|machine| *limit < machine);
            let of_machine = machine.map(|amount| Whole {
                amount,
                is_machine: true,
            });
            let whole = limit.filter(is_less).map(|amount| Whole {
                amount,
                is_machine: false,
            });
            let whole = whole.or(of_machine).filter(|_| rule.has_share());
            Ok(figure(stats.memory().ok_or_else(uncounted)?, whole))
        }
        Rule::Cpu(_) => {
            let used = stats.cpu_stats.cpu_usage.total_usage;
            let used = Total::Group(used.ok_or_else(uncounted)? / 1000);
            Ok(Seen::Time {
                baseline: Baseline::new(used, boot_ms(now), now),
                processes: None,
            })
        }
        Rule::Threads(_) => Ok(figure(
            stats.pids_stats.current.ok_or_else(uncounted)?,
            None,
        )),
        Rule::OpenFiles(_) => Err(
            "its main process is not seen from here (an engine in another PID namespace)"
                .to_owned(),
        ),
    }
}

/// By the boot clock, in milliseconds.
fn boot_ms(now: &Reading) -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME);
    time.map_or(now.boot_ms, |time| {
        u64::try_from(std::time::Duration::from(time).as_millis()).unwrap_or(now.boot_ms)
    })
}

fn in_group(group: &str, error: &io::Error) -> String {
    format!("its cgroup {group} cannot be read: {error}")
}

fn memory(
    rule: &Rule,
    subject: &Subject,
    members: &Members,
    shared: &Shared,
) -> Result<Seen, String> {
    let whole = if rule.has_share() {
        Some(limit_of_memory(subject, shared).ok_or("the memory of the machine cannot be read")?)
    } else {
        None
    };
    if let Some(group) = &subject.group {
        let used = shared.hierarchies().memory(group);
        if let Some(figure) = used.map_err(|error| in_group(group, &error))? {
            return Ok(Seen::Measured(Measured {
                figure,
                whole,
                processes: None,
            }));
        }
    }
    let members = members.get(subject, shared)?;
    let mut figure = members
        .iter()
        .fold(0, |sum: u64, used| sum.saturating_add(used.resident));
    let levels = rule.levels(whole.as_ref().map_or(0, |whole| whole.amount));
    // what they share counts in each of them: that is told apart only where it matters, for it takes the kernel long
    if members.len() > 1 && levels.lowest().is_some_and(|lowest| figure >= lowest) {
        figure = without_shared(members).unwrap_or(figure).min(figure);
    }
    Ok(Seen::Measured(Measured {
        figure,
        whole,
        processes: Some(members.len()),
    }))
}

/// The memory of some processes, where what they share counts once; nothing where one of them may not be looked into.
fn without_shared(members: &[Used]) -> Option<u64> {
    let mut sum = 0_u64;
    for used in members.iter().filter(|used| used.resident > 0) {
        match process_table::proportional(used.pid) {
            Ok(bytes) => sum = sum.saturating_add(bytes),
            Err(error) if is_gone(&error) => {}
            Err(_) => return None,
        }
    }
    Some(sum)
}

/// What a share of memory is of: the limit of its control group, else the memory of the machine.
fn limit_of_memory(subject: &Subject, shared: &Shared) -> Option<Whole> {
    let machine = shared.machine();
    let hierarchies = shared.hierarchies();
    let limit = match &subject.group {
        Some(group) => hierarchies.memory_limit(group),
        None => fs::read_to_string(format!("/proc/{}/cgroup", subject.main.pid))
            .ok()
            .and_then(|groups| hierarchies.memory_limit_of_process(&groups)),
    };
    let is_less = |limit: &u64| machine.is_none_or(|machine| *limit < machine);
    match limit.filter(is_less) {
        Some(amount) => Some(Whole {
            amount,
            is_machine: false,
        }),
        None => machine.map(|amount| Whole {
            amount,
            is_machine: true,
        }),
    }
}

fn time(
    subject: &Subject,
    members: &Members,
    shared: &Shared,
    now: &Reading,
) -> Result<Seen, String> {
    if let Some(group) = &subject.group {
        let used = shared.hierarchies().cpu_us(group);
        if let Some(used) = used.map_err(|error| in_group(group, &error))? {
            return Ok(Seen::Time {
                baseline: Baseline::new(Total::Group(used), boot_ms(now), now),
                processes: None,
            });
        }
    }
    let members = members.get(subject, shared)?;
    let total = Total::Processes(Processes::of(members));
    Ok(Seen::Time {
        baseline: Baseline::new(total, boot_ms(now), now),
        processes: Some(members.len()),
    })
}

fn open_files(rule: &Rule, subject: &Subject) -> Result<Seen, String> {
    if !subject.has_main {
        return Err("its unit has no main process".to_owned());
    }
    let pid = subject.main.pid;
    let cannot = |error: io::Error| {
        let who = if error.kind() == io::ErrorKind::PermissionDenied {
            "; only its user and root may look"
        } else {
            ""
        };
        format!("those of PID {pid} cannot be counted: {error}{who}")
    };
    let figure = process_table::open_files(pid).map_err(cannot)?;
    let limit = process_table::open_files_limit(pid).map_err(cannot)?;
    let whole = match limit {
        Some(amount) => Some(Whole {
            amount,
            is_machine: false,
        }),
        // of a limit that is none, no share is ever reached
        None if rule.has_share() => Some(Whole {
            amount: u64::MAX,
            is_machine: false,
        }),
        None => None,
    };
    Ok(Seen::Measured(Measured {
        figure,
        whole,
        processes: Some(1),
    }))
}

fn threads(subject: &Subject, members: &Members, shared: &Shared) -> Result<Seen, String> {
    let members = members.get(subject, shared)?;
    Ok(Seen::Measured(Measured {
        figure: members
            .iter()
            .fold(0, |sum: u64, used| sum.saturating_add(used.threads)),
        whole: None,
        processes: Some(members.len()),
    }))
}
