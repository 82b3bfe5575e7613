//! `watchdog history`: the journal.

use chrono::Utc;

use crate::cli;
use crate::clock::age;
use crate::commands::{print, selected};
use crate::config::Config;
use crate::error::Error;
use crate::memory::journal;
use crate::memory::store::StoreError;
use crate::report::text;

/// Prints what happened, oldest first.
pub fn run(config: &Config, options: &cli::History) -> Result<u8, Error> {
    let names = selected(config, &options.services)?;
    let now = Utc::now();
    let mut out = String::new();
    let damaged = journal::read(&config.state_dir, |entry| {
        let asked_for = options.services.is_empty() || names.contains(&entry.service);
        let recent = options
            .since
            .is_none_or(|limit| age(now, entry.time) <= limit);
        if !asked_for || !recent {
            return;
        }
        if options.json {
            if let Ok(line) = serde_json::to_string(&entry) {
                out.push_str(&line);
                out.push('\n');
            }
        } else {
            out.push_str(&text::entry(&entry));
        }
    })
    .map_err(|source| StoreError::Io {
        what: "cannot read the journal in",
        path: config.state_dir.clone(),
        source,
    })?;
    if damaged > 0 {
        ::log::warn!("{damaged} damaged lines of the journal were left out");
    }
    print(&out)?;
    Ok(0)
}
