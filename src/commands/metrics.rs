//! `watchdog metrics`: the metrics of the last run.

use crate::clock::Reading;
use crate::commands::print;
use crate::config::Config;
use crate::error::Error;
use crate::publish;
use crate::state::store::Store;

/// Prints the metrics in the text format of Prometheus. Where no run has been recorded, every series stands at 0.
pub fn run(config: &Config) -> Result<u8, Error> {
    let loaded = Store::at(&config.state_dir).look();
    for sentence in &loaded.damage {
        ::log::warn!("{sentence}");
    }
    let state = loaded.state;
    let now = Reading::take();
    print(&publish::metrics(
        config,
        &config.services,
        &state,
        state.last_result,
        &now,
    ))?;
    Ok(0)
}
