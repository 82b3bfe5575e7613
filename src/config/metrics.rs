//! The `[metrics]` table.

use std::path::PathBuf;

use crate::table::{Context, Form, Shown, Value, table};

table! {
    /// Figures of each run for Prometheus.
    pub struct Metrics like "metrics = { textfile = \"/var/lib/prometheus/node-exporter/watchdog.prom\" }" {
        /// Written anew by each run, for the textfile collector of node-exporter. Default: none; `watchdog metrics` prints them.
        textfile: Option<PathBuf> as Option<Textfile>, commented r#""/var/lib/prometheus/node-exporter/watchdog.prom""#;
    }
}

/// The path of a file that node-exporter reads: it passes over all whose names do not end in `.prom`.
struct Textfile;

impl Form<PathBuf> for Textfile {
    fn read(value: &Value<'_>, context: &Context) -> Option<PathBuf> {
        let path = value.path(&context.base)?;
        if path.extension().is_none_or(|extension| extension != "prom") {
            value.wrong(
                "node-exporter reads only files whose names end in `.prom`",
                "write it like \"/var/lib/prometheus/node-exporter/watchdog.prom\"",
            );
            return None;
        }
        Some(path)
    }

    fn show(value: &PathBuf) -> Option<Shown> {
        Some(Shown::text(value.to_string_lossy()))
    }

    fn kind() -> String {
        "a path".to_owned()
    }
}
