//! The log reader: an arbitrary run of writes, rotations and looks, against the model of the library's own tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use watchdog::check::Severity;
use watchdog::check::log::{
    Author, Context, Forbid, LogPosition, Rule, Seen, look, position_at_end,
};
use watchdog::check::pattern::Pattern;
use watchdog::clock::Reading;

#[path = "../../src/check/log/tests/model.rs"]
mod model;

use model::Step;

/// Each complete line is judged exactly once.
pub(crate) fn log(data: &[u8]) {
    let steps: Vec<Step> = data
        .chunks_exact(2)
        .take(45)
        .map(|pair| {
            let pad = usize::from(pair[1]);
            match pair[0] % 16 {
                0..=3 => Step::Append(pad, true),
                4 | 5 => Step::Append(pad, false),
                6 => Step::Append(pad * 300, pair[1] % 2 == 0),
                7 | 8 => Step::Rename,
                9 | 10 => Step::Copytruncate,
                11 => Step::Late(pair[1] % 4 != 0),
                12..=14 => Step::Run,
                _ => Step::MarkEnd,
            }
        })
        .collect();
    model::play(&steps);
}
