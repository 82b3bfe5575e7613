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
    Author, Context, Encoding, Forbid, LogPosition, Rule, Seen, look, position_at_end,
};
use watchdog::check::pattern::Pattern;
use watchdog::clock::Reading;

#[path = "../../src/check/log/tests/model.rs"]
mod model;

use model::{End, Step};

/// Each complete line is judged exactly once.
pub(crate) fn log(data: &[u8]) {
    let (first, steps) = data.split_first().unwrap_or((&0, &[]));
    let encoding = match first % 4 {
        0 => Encoding::Utf16Le,
        1 => Encoding::Utf16Be,
        _ => Encoding::Bytes,
    };
    let steps: Vec<Step> = steps
        .chunks_exact(2)
        .take(45)
        .map(|pair| {
            let pad = usize::from(pair[1]);
            let end = match pair[1] % 4 {
                0 => End::Nothing,
                1 => End::Lf,
                2 => End::CrLf,
                _ => End::Cr,
            };
            match pair[0] % 17 {
                0..=3 => Step::Append(pad, End::Lf),
                4 | 5 => Step::Append(pad, end),
                6 => Step::Append(pad * 300, end),
                7 | 8 => Step::Rename,
                9 | 10 => Step::Copytruncate,
                11 => Step::Late(end),
                12..=14 => Step::Run,
                15 => Step::Feed,
                _ => Step::MarkEnd,
            }
        })
        .collect();
    model::play(&steps, encoding);
}
