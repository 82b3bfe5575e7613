//! `watchdog reset`: forgetting failures and restart attempts.

use crate::cli;
use crate::commands::{change, print, selected};
use crate::config::Config;
use crate::error::Error;
use crate::memory::journal::Entry;

/// Forgets what counts against services, so that the next run may restart them again.
pub fn run(config: &Config, options: &cli::Services) -> Result<u8, Error> {
    let names = selected(config, &options.services)?;
    let mut said = Vec::new();
    change(config, |memory, now| {
        names
            .iter()
            .map(|name| {
                let known = memory.services.entry(name.clone()).or_default();
                let message = format!(
                    "forgot {} restart attempts and {} failing runs",
                    known.attempts_in_hour(now),
                    known.consecutive_failures
                );
                known.attempts.clear();
                known.attempt_codes.clear();
                known.given_up = None;
                known.consecutive_failures = 0;
                known.young.clear();
                said.push(format!("{name}: {message}"));
                let mut entry = Entry::new(now, name, "reset");
                entry.message = Some(message);
                entry
            })
            .collect()
    })?;
    print(&(said.join("\n") + "\n"))?;
    Ok(0)
}
