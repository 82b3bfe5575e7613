//! `watchdog metrics`: the metrics of the last run.

use chrono::DateTime;

use crate::clock::{self, Reading, known_age};
use crate::commands::{print, recorded};
use crate::config::Config;
use crate::error::Error;
use crate::publish;

/// Prints the metrics in the text format of Prometheus. Where no run has been recorded, every series stands at 0; where
/// that is not known, nothing is printed. At 0 stands as well the
/// time of a last run that lies ahead: who watches its age would not notice for so long that there are no runs.
pub fn run(config: &Config) -> Result<u8, Error> {
    let mut state = recorded(config)?;
    let now = Reading::take();
    state.move_with_clock(&now);
    if let Some(last) = state.last_run
        && known_age(now.wall, last).is_none()
    {
        ::log::warn!(
            "the last run, {}, is ahead of the clock: how long ago it was is not known",
            clock::stamp(last)
        );
        state.last_run = Some(DateTime::UNIX_EPOCH);
    }
    print(&publish::metrics(
        config,
        &config.services,
        &state,
        state.last_result,
        &now,
    ))?;
    Ok(0)
}
