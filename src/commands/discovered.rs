//! The services that `[discover.NAME]` tables find, for each command as it needs them.

use std::time::Instant;

use crate::cli::Command;
use crate::client::engine::Listed;
use crate::config::Config;
use crate::discover::{find, recall};
use crate::plan::plan;
use crate::state::ServiceState;
use crate::state::store::Store;

/// What the engine listed, where it was asked; the error is a sentence.
pub type Containers = Option<Result<Vec<Listed>, String>>;

/// Adds what was found to the services of the config. Who looks at services looks for them first; who speaks of the last
/// run goes by what it found.
pub fn add(config: &mut Config, command: &Command) -> Containers {
    if config.discover.is_empty() {
        return None;
    }
    let state = |config: &Config| Store::at(&config.state_dir).look().state;
    match command {
        Command::Check(_) | Command::Restart(_) | Command::Why(_) => {
            let run_ends = Instant::now() + config.run_timeout;
            let found = find(config, run_ends, || state(config));
            plan(config, found.listings);
            found.containers
        }
        Command::Status(_) | Command::Metrics => {
            let state = state(config);
            // what the last run that could look did not find is of no interest
            let is_there =
                |known: &ServiceState| known.discovered.as_ref().is_none_or(|it| !it.is_gone);
            let found = recall(config, &state, is_there);
            plan(config, found);
            None
        }
        Command::History(_)
        | Command::Backtest(_)
        | Command::Evidence(_)
        | Command::Report(_)
        | Command::Scale(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Reset(_) => {
            add_remembered(config);
            None
        }
        _ => None,
    }
}

/// Adds all that is remembered of what was found.
pub fn add_remembered(config: &mut Config) {
    if !config.discover.is_empty() {
        let loaded = Store::at(&config.state_dir).look();
        // what was found is known from nowhere else
        if loaded.lost.is_some() {
            loaded.warn();
        }
        let found = recall(config, &loaded.state, |_| true);
        plan(config, found);
    }
}
