//! `watchdog show-config`: the effective config.

use crate::commands::print;
use crate::config::{self, Config};
use crate::error::Error;

/// Prints the config with every default filled in, as TOML.
pub fn run(config: &Config) -> Result<u8, Error> {
    print(&config::to_toml(config))?;
    Ok(0)
}
