//! `watchdog pause` and `watchdog resume`: leaving services alone for a while.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::cli;
use crate::clock;
use crate::commands::{change, print, selected};
use crate::config::Config;
use crate::error::Error;
use crate::report::page::{Page, Style};
use crate::state::State;
use crate::state::journal::{Entry, JournalEvent};
use crate::verdict::Verdict;

/// How long a pause lasts when nothing is said: one that is forgotten must end.
const DEFAULT: Duration = Duration::from_hours(24);

/// Watches services without restarting them or alerting about them, until the pause ends.
pub fn pause(config: &Config, options: &cli::Pause, style: Style) -> Result<u8, Error> {
    let names = selected(config, &options.services)?;
    let lasts = options.lasts.unwrap_or(DEFAULT);
    let mut said = Page::new(style);
    change(config, |state, now| {
        let until = now + TimeDelta::from_std(lasts).unwrap_or(TimeDelta::MAX);
        names
            .iter()
            .map(|name| {
                let (paused_until, pause_reason) = pause_of(config, state, name);
                *paused_until = Some(until);
                pause_reason.clone_from(&options.reason);
                let reason = options
                    .reason
                    .as_ref()
                    .map(|reason| format!(": {reason}"))
                    .unwrap_or_default();
                let message = format!("paused until {}{reason}", clock::stamp(until));
                said.line(
                    0,
                    &format!("{name}: {message}; `watchdog resume {name}` ends it before"),
                );
                let mut entry = Entry::new(now, name, JournalEvent::Verdict(Verdict::Paused));
                entry.message = Some(message);
                entry
            })
            .collect()
    })?;
    print(&said.into_text())?;
    Ok(0)
}

/// Until when a service or a scale is paused, and why.
fn pause_of<'a>(
    config: &Config,
    state: &'a mut State,
    name: &str,
) -> (&'a mut Option<DateTime<Utc>>, &'a mut Option<String>) {
    if config.scale(name).is_some() {
        let known = state.scales.entry(name.to_owned()).or_default();
        return (&mut known.paused_until, &mut known.pause_reason);
    }
    let known = state.services.entry(name.to_owned()).or_default();
    (&mut known.paused_until, &mut known.pause_reason)
}

/// Ends pauses.
pub fn resume(config: &Config, options: &cli::Services, style: Style) -> Result<u8, Error> {
    let names = selected(config, &options.services)?;
    let mut said = Page::new(style);
    change(config, |state, now| {
        let mut entries = Vec::new();
        for name in &names {
            let (paused_until, pause_reason) = pause_of(config, state, name);
            *pause_reason = None;
            if paused_until.take().is_some() {
                entries.push(Entry::new(now, name, JournalEvent::Resumed));
                said.line(0, &format!("{name}: resumed"));
            } else {
                said.line(0, &format!("{name}: was not paused"));
            }
        }
        entries
    })?;
    print(&said.into_text())?;
    Ok(0)
}
