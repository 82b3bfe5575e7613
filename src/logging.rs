//! The watchdog's own log: to standard error, and to a file where the config names one.

use std::io::{self, LineWriter};
use std::path::Path;

use log::LevelFilter;
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};

use crate::files;
use crate::restart::REPORTED;

/// Room for a line: each one goes out in one write, so that two runs never tear each other's lines.
const LINE: usize = 8192;

/// How much standard error says.
pub fn level(verbose: u8, quiet: bool) -> LevelFilter {
    match (quiet, verbose) {
        (true, 0) => LevelFilter::Error,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// Begins to log: to standard error, and what `in_file` lets through to `file`. A file that cannot be opened is said on standard error, and is no reason to stop looking after
/// services.
pub fn begin(file: Option<&Path>, in_file: LevelFilter, stderr: LevelFilter) {
    let mut plain = ConfigBuilder::new();
    plain
        .set_time_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off);
    if stderr <= LevelFilter::Warn {
        plain.add_filter_ignore_str(REPORTED);
    }
    let plain = plain.build();
    let dated = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let mut loggers: Vec<Box<dyn SharedLogger>> = vec![WriteLogger::new(
        stderr,
        plain,
        LineWriter::with_capacity(LINE, io::stderr()),
    )];
    let mut failed = None;
    if let Some(path) = file {
        let misleaders = files::misleaders(path, nix::unistd::geteuid().as_raw());
        let file = if misleaders.are_none() {
            files::append(path, 0o640)
        } else {
            Err(io::Error::other(format!(
                "{misleaders} could lead it elsewhere; keep it where nobody else can write to the directories"
            )))
        };
        match file {
            Ok(file) => loggers.push(WriteLogger::new(
                in_file,
                dated,
                LineWriter::with_capacity(LINE, file),
            )),
            Err(error) => failed = Some((path, error)),
        }
    }
    // only a second call could fail, and there is none
    let _ = CombinedLogger::init(loggers);
    if let Some((path, error)) = failed {
        ::log::warn!("the log file {} cannot be opened: {error}", path.display());
    }
}
