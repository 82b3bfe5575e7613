//! The subcommands, one file each.

use std::collections::BTreeSet;
use std::io::{self, Write};

use chrono::{DateTime, Utc};

use crate::clock::Reading;
use crate::config::{Config, Service};
use crate::error::Error;
use crate::run::damage_entries;
use crate::state::State;
use crate::state::journal::{self, Entry};
use crate::state::store::{Loaded, Lock, Store, StoreError};
use crate::table::nearest;

pub mod adopt;
pub mod backtest;
pub mod check;
pub mod completions;
pub mod discovered;
pub mod evidence;
pub mod history;
pub mod man;
pub mod metrics;
pub mod pause;
pub mod report;
pub mod reset;
pub mod restart;
pub mod run_every;
pub mod scale;
pub mod show_config;
pub mod status;
pub mod test_notify;
pub mod validate;
pub mod web;
pub mod why;

/// So many names are listed where another one was asked for.
const LISTED: usize = 10;

/// Reads the whole journal, the oldest entry first. Damaged lines are left out, and that is logged.
fn read_journal(config: &Config, each: impl FnMut(Entry)) -> Result<(), Error> {
    let damaged = journal::read(&config.state_dir, each).map_err(|source| StoreError::Io {
        what: "cannot read the journal in",
        path: config.state_dir.clone(),
        source,
    })?;
    if damaged > 0 {
        ::log::warn!(
            "{} of the journal in {} left out",
            count(damaged, "damaged line"),
            config.state_dir.display()
        );
    }
    Ok(())
}

/// What runs have recorded. Damage that the backup makes up for is logged; an error where nothing can be read.
fn recorded(config: &Config) -> Result<State, Error> {
    let loaded = Store::at(&config.state_dir).look().readable()?;
    loaded.warn();
    Ok(loaded.state)
}

/// The services that were asked for by names and globs: all of them where none was. What the config does not have is a
/// usage error.
pub fn selected(config: &Config, asked: &[String]) -> Result<BTreeSet<String>, Error> {
    if asked.is_empty() {
        return Ok(config.names().map(str::to_owned).collect());
    }
    let mut selected = BTreeSet::new();
    for wanted in asked {
        if is_glob(wanted) {
            let matched = matching(wanted, config, config.names())?;
            selected.extend(matched.into_iter().map(str::to_owned));
        } else if config.scale(wanted).is_some() {
            selected.insert(wanted.clone());
        } else {
            selected.insert(one(config, wanted)?.name.clone());
        }
    }
    Ok(selected)
}

/// What to say after a name that is none of these: the one that may have been meant, or what there is.
fn instead<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let names: Vec<&str> = known.clone().take(LISTED).collect();
    match known.count() - names.len() {
        _ if names.is_empty() => String::new(),
        0 => format!("; it has {}", names.join(", ")),
        more => format!("; it has {} and {more} more", names.join(", ")),
    }
}

/// No service has one of these in its name.
fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The names that a glob matches; at least one.
fn matching<'a>(
    text: &str,
    config: &Config,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<&'a str>, Error> {
    let shown = crate::text::printable(text.as_bytes(), 100);
    let pattern = glob::Pattern::new(text).map_err(|error| {
        Error::Usage(format!("`{shown}` is no pattern of names: {}", error.msg))
    })?;
    let matched: Vec<&str> = names.filter(|name| pattern.matches(name)).collect();
    if matched.is_empty() {
        return Err(Error::Usage(format!(
            "no service matches `{shown}` in {}{}",
            config.path.display(),
            instead(text, config.names())
        )));
    }
    Ok(matched)
}

/// The service of a name, or the only one that a glob matches; an error that names the nearest one, or what there is, where
/// there is none.
pub fn one<'a>(config: &'a Config, name: &str) -> Result<&'a Service, Error> {
    let shown = crate::text::printable(name.as_bytes(), 100);
    if is_glob(name) {
        let services = config.services.iter().map(|service| service.name.as_str());
        let matched = matching(name, config, services)?;
        if let [name] = matched[..]
            && let Some(service) = config.service(name)
        {
            return Ok(service);
        }
        return Err(Error::Usage(format!(
            "`{shown}` matches {} services, and one is wanted: {}",
            matched.len(),
            crate::text::cut(&matched.join(", "), 200)
        )));
    }
    config.service(name).ok_or_else(|| {
        if config.scale(name).is_some() {
            return Error::Usage(format!(
                "`{shown}` is a scale and not a service; `watchdog scale {shown} N` has N replicas of it"
            ));
        }
        Error::Usage(format!(
            "no service `{shown}` in {}{}",
            config.path.display(),
            instead(name, config.names())
        ))
    })
}

/// Writes to standard output. A reader that has gone away has what it wanted: that is no error.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    output(written)
}

/// What came of writing to standard output.
pub fn output(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Writes to standard output what a run came to. Where that fails, it is logged: the exit code says what was done, and
/// who runs it acts on that.
fn print_or_log(text: &str) {
    if let Err(error) = print(text) {
        ::log::error!("{error}");
    }
}

/// The state, under its lock, for a command that changes it because a person asked.
struct Opened {
    store: Store,
    lock: Lock,
    state: State,
    now: Reading,
}

/// Takes the lock and loads the state. Where it is damaged, that is journalled and saved at once, whatever the command
/// comes to: the next check alerts about it, and restarts nothing where attempts may be missing.
fn open(config: &Config) -> Result<Opened, Error> {
    let now = Reading::take();
    let store = Store::prepare(&config.state_dir)?;
    let lock = store.lock()?;
    let Loaded {
        mut state,
        damage,
        trusted,
        ..
    } = store.load(now.wall)?;
    state.adjust_to_clock(&now);
    if !damage.is_empty() {
        journal::append_or_warn(store.dir(), &damage_entries(&damage, now.wall));
        state.damage.extend(damage);
        state.attempts_lost = !trusted;
        store.save_twice(&mut state)?;
    }
    Ok(Opened {
        store,
        lock,
        state,
        now,
    })
}

/// Changes the state as a person asked, under the lock, and notes it in the journal.
fn change(
    config: &Config,
    change: impl FnOnce(&mut State, DateTime<Utc>) -> Vec<Entry>,
) -> Result<(), Error> {
    let Opened {
        store,
        lock: _lock,
        mut state,
        now,
    } = open(config)?;
    let entries = change(&mut state, now.wall);
    store.save_twice(&mut state)?;
    journal::append_or_warn(store.dir(), &entries);
    Ok(())
}

/// Says on standard error why a command that needs no config failed: there is no log then.
fn complain(text: &str) {
    let text = crate::text::visible_lines(text);
    let _ = writeln!(io::stderr(), "watchdog: {text}");
}

/// `1 pattern`, `2 patterns`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
