//! The `[web]` table.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::table::{Part, Positive, Table, table};

table! {
    /// What `watchdog web` serves.
    pub struct Web like "web = { dir = \"/var/lib/watchdog-web\" }", check has_token {
        /// Each run publishes status.html, status.json and metrics.prom there, and takes what was asked for from its directory requests.
        dir: PathBuf, commented r#""/var/lib/watchdog-web""#;
        /// Whoever asks for a repair has to send this (Authorization: Bearer); without one, nobody can ask for any.
        token: Option<Secret> => Secret, commented r#""7f3b0e5c9a1d4e6f8b2c""#;
        /// Whether it is needed to read the pages as well.
        protect_reads: bool = false;
        /// /health answers 503 where the last run is older than this.
        max_age: Duration as Positive = Duration::from_mins(5);
    }
}

/// Pages that are protected by nothing could be read by nobody.
fn has_token(table: &Table<'_>, part: &mut Part<Web>) {
    if part.protect_reads == Some(true)
        && !Secret::is_there(table, "token")
        && let Some(value) = table.get("protect_reads")
    {
        value.wrong(
            "there is no token that the pages could be read with",
            "write token_file = \"/etc/watchdog/web.token\" as well",
        );
    }
}
