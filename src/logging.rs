//! The watchdog's own log: to standard error, and to a file where the config names one.

use std::io::{self, LineWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;
use serde_json::Value;
use simplelog::{CombinedLogger, Config, ConfigBuilder, SharedLogger, WriteLogger};

use crate::config::{LogFormat, Logging};
use crate::files;
use crate::restart::REPORTED;

/// The name of what a line has beside its message: JSON, made only where the log is one of objects.
pub const DETAILS: &str = "details";

/// A library that traces all that it sends and receives: secrets, and what strangers answer.
const TALKATIVE: &str = "ureq_proto";

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

/// Begins to log: to standard error what `stderr` lets through, and what the config lets through to its file, if it has
/// one; `is_dry` runs write none. A file that cannot be opened is said on standard error, and is no reason to stop looking
/// after services. Lines of JSON go to the file; where there is none, standard error is the log.
pub fn begin(logging: &Logging, is_dry: bool, stderr: LevelFilter) {
    let mut plain = ConfigBuilder::new();
    plain
        .set_time_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .add_filter_ignore_str(TALKATIVE);
    let is_report_shown = stderr > LevelFilter::Warn;
    if !is_report_shown {
        plain.add_filter_ignore_str(REPORTED);
    }
    let is_json = logging.format == LogFormat::Json;
    let writer = LineWriter::with_capacity(LINE, io::stderr());
    let mut loggers: Vec<Box<dyn SharedLogger>> = vec![if is_json && logging.file.is_none() {
        Box::new(JsonLogger {
            level: stderr,
            has_report: is_report_shown,
            writer: Mutex::new(writer),
        })
    } else {
        WriteLogger::new(stderr, plain.build(), writer)
    }];
    let mut failed = None;
    if let Some(path) = logging.file.as_deref().filter(|_| !is_dry) {
        match open(path) {
            Ok(file) => loggers.push(in_file(logging, LineWriter::with_capacity(LINE, file))),
            Err(error) => failed = Some((path, error)),
        }
    }
    // only a second call could fail, and there is none
    let _ = CombinedLogger::init(loggers);
    if let Some((path, error)) = failed {
        ::log::warn!(
            "the log file {} cannot be opened: {}{}",
            path.display(),
            files::explain(path, &error),
            match error.raw_os_error() {
                Some(libc::ELOOP) => "; set [logging] file to the path of a file",
                Some(libc::ENOENT) => "; make its directory, or set [logging] file to another path",
                _ => "",
            }
        );
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    let others = files::who_could_redirect(path, nix::unistd::geteuid().as_raw());
    if others.are_none() {
        return files::append(path, 0o640);
    }
    Err(io::Error::other(format!(
        "{others} could lead it elsewhere; keep it where nobody else can write to the directories"
    )))
}

fn in_file<W: Write + Send + 'static>(logging: &Logging, writer: W) -> Box<dyn SharedLogger> {
    match logging.format {
        LogFormat::Json => Box::new(JsonLogger {
            level: logging.level,
            has_report: true,
            writer: Mutex::new(writer),
        }),
        LogFormat::Text => {
            let dated = ConfigBuilder::new()
                .set_time_format_rfc3339()
                .set_thread_level(LevelFilter::Off)
                .set_target_level(LevelFilter::Off)
                .set_location_level(LevelFilter::Off)
                .add_filter_ignore_str(TALKATIVE)
                .build();
            WriteLogger::new(logging.level, dated, writer)
        }
    }
}

/// Begins to log to standard error alone, before there is a config, or without one.
pub fn begin_on_stderr(level: LevelFilter) {
    let logging = Logging {
        file: None,
        level,
        format: LogFormat::Text,
    };
    begin(&logging, true, level);
}

/// Writes an object a line.
struct JsonLogger<W: Write + Send + 'static> {
    level: LevelFilter,
    /// Whether it takes what the report of a run says as well.
    has_report: bool,
    writer: Mutex<W>,
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    component: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

impl<'a> Line<'a> {
    fn of(record: &'a Record<'_>) -> Self {
        let module = record.module_path().unwrap_or_default();
        let details = record.key_values().get(DETAILS.into());
        Self {
            timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            level: match record.level() {
                Level::Error => "ERROR",
                Level::Warn => "WARNING",
                Level::Info => "INFO",
                Level::Debug | Level::Trace => "DEBUG",
            },
            component: module.split_once("::").map_or(module, |(_, inner)| inner),
            message: record.args().to_string(),
            details: details.and_then(|it| serde_json::from_str(&it.to_string()).ok()),
        }
    }
}

impl<W: Write + Send + 'static> Log for JsonLogger<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
            && (self.has_report || metadata.target() != REPORTED)
            && !metadata.target().starts_with(TALKATIVE)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Ok(mut line) = serde_json::to_vec(&Line::of(record)) else {
            return;
        };
        line.push(b'\n');
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // there is nobody to tell
        let _ = writer.write_all(&line).and_then(|()| writer.flush());
    }

    fn flush(&self) {}
}

impl<W: Write + Send + 'static> SharedLogger for JsonLogger<W> {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_is_in_it() {
        let message = "a \"quoted\"\nline \u{1b}[1m";
        let line = |details: &str| {
            let values = [(DETAILS, details)];
            let mut record = Record::builder();
            record
                .level(Level::Warn)
                .module_path(Some("watchdog::report::summary"))
                .key_values(&values);
            let line = |record: &Record<'_>| serde_json::to_string(&Line::of(record)).unwrap();
            let text = line(&record.args(format_args!("{message}")).build());
            assert!(!text.contains('\n'));
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let full = line(r#"{"service":"a"}"#);
        assert_eq!(full["level"], "WARNING");
        assert_eq!(full["component"], "report::summary");
        assert_eq!(full["message"], message);
        assert_eq!(full["details"]["service"], "a");
        assert_eq!(line("no JSON").get("details"), None);
    }
}
