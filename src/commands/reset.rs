//! `watchdog reset`: forgetting failures and restart attempts.

use crate::cli;
use crate::commands::{change, count, print, selected};
use crate::config::Config;
use crate::error::Error;
use crate::report::page::{Page, Style};
use crate::state::journal::{Entry, JournalEvent};

/// Forgets what counts against services, so that the next run may restart them again.
pub fn run(config: &Config, options: &cli::Services, style: Style) -> Result<u8, Error> {
    let names = selected(config, &options.services)?;
    let mut said = Page::new(style);
    change(config, |state, now| {
        names
            .iter()
            .map(|name| {
                if config.scale(name).is_some() {
                    let known = state.scales.entry(name.clone()).or_default();
                    let changes = known.changes_in_hour(now);
                    let message = format!("forgot {} of its replicas", count(changes, "change"));
                    known.changes.clear();
                    (known.failed, known.above, known.below) = (None, None, None);
                    said.line(0, &format!("{name}: {message}"));
                    let mut entry = Entry::new(now, name, JournalEvent::Reset);
                    entry.message = Some(message);
                    return entry;
                }
                let known = state.services.entry(name.clone()).or_default();
                let message = format!(
                    "forgot {} and {}",
                    count(known.attempts_in_hour(now), "restart attempt"),
                    count(known.consecutive_failures as usize, "failing run")
                );
                known.attempts.clear();
                known.strategies.clear();
                known.incident_attempts = 0;
                known.recent_runs = None;
                known.attempt_codes.clear();
                known.given_up = None;
                known.consecutive_failures = 0;
                known.recent_starts.clear();
                // what was restarted last has its grace all the same
                let earlier = known.good_restarts.len().saturating_sub(1);
                known.good_restarts.drain(..earlier);
                said.line(0, &format!("{name}: {message}"));
                let mut entry = Entry::new(now, name, JournalEvent::Reset);
                entry.message = Some(message);
                entry
            })
            .collect()
    })?;
    print(&said.into_text())?;
    Ok(0)
}
