//! What a disk is held against.

use std::path::PathBuf;
use std::time::Duration;

use crate::amount::{Amount, Share};
use crate::check::Severity;
use crate::table::{Part, Positive, Table, table};

/// What may be used where the config says nothing, of space and of inodes.
const USUAL: Share = Share::percent(90);

table! {
    /// A file system that must not fill up; there may be several such tables.
    pub struct Rule like "[[service.NAME.disk]]", check fits_together {
        /// The file system that holds it is meant.
        path: PathBuf, example r#""/var/lib""#;
        /// So much may be used of what an ordinary user may use, as df shows it; the default where min_free is not given.
        max_used: Option<Share>, example r#""90%""#;
        /// Or so much must be free for an ordinary user: a size, or a share.
        min_free: Option<Amount>, commented r#""5 GB""#;
        /// So many of the inodes may be used: each file takes one. A file system without a fixed number is not judged.
        max_inodes: Share = USUAL;
        /// Or "warning": reported, and never a reason for a repair.
        severity: Severity = Severity::Critical;
        /// How long the file system may take to answer; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, example r#""10s""#;
        /// It must have been too full in every run for so long.
        for_("for"): Duration = Duration::ZERO;
    }
}

fn fits_together(table: &Table<'_>, part: &mut Part<Rule>) {
    for (key, share) in [
        ("max_used", part.max_used.flatten()),
        ("max_inodes", part.max_inodes),
    ] {
        if share == Some(Share::percent(100))
            && let Some(value) = table.get(key)
        {
            value.wrong(
                &format!("{}: no more than 100% can be used", value.name()),
                "write less than 100%, or leave it out",
            );
        }
    }
    if !table.has("max_used") && !table.has("min_free") {
        part.max_used = Some(Some(USUAL));
    }
}

impl Rule {
    /// One with the usual limits.
    #[cfg(test)]
    pub(super) fn of(path: &str) -> Self {
        Self {
            path: path.into(),
            max_used: Some(USUAL),
            min_free: None,
            max_inodes: USUAL,
            severity: Severity::Critical,
            timeout: None,
            for_: Duration::ZERO,
        }
    }
}
