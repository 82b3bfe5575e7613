//! What others read of a run: metrics for Prometheus, and what `watchdog web` serves.
//!
//! They are published where the config says where to; a run without that does nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::check::process::Identity;
use crate::clock::Reading;
use crate::config::{Config, Service};
use crate::files;
use crate::notify::outbox::Outbox;
use crate::process_table::{self, Used};
use crate::report::{RunReport, ScaleReport};
use crate::state::{RunResult, State, journal};

pub mod exposition;
pub mod metrics;
pub mod page;
pub mod web;

/// The metrics of the last run. Beside the state, the outbox and the main processes of the services are looked at.
pub fn metrics(
    config: &Config,
    services: &[Arc<Service>],
    state: &State,
    run: Option<RunResult>,
    now: &Reading,
) -> String {
    let used = services.iter().filter_map(|service| {
        let known = state.services.get(&service.name)?;
        let main = known.process.main.as_ref()?;
        let runs = known.report.pid == Some(main.pid);
        Some((&*service.name, used(main, now).filter(|_| runs)?))
    });
    metrics::render(&metrics::Facts {
        services,
        scales: &config.scales,
        channels: &config.channels,
        state,
        now: now.wall,
        run,
        used: used.collect(),
        booted_at: now.booted_at(),
        waiting: waiting(config),
    })
}

/// How many messages wait in the outbox, by channel.
fn waiting(config: &Config) -> BTreeMap<String, usize> {
    let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
    if !config.channels.is_empty() {
        for kept in Outbox::at(&config.state_dir).load().deliveries {
            *waiting.entry(kept.delivery.channel).or_default() += 1;
        }
    }
    waiting
}

/// So many bytes of the journal are read for a page: thousands of entries.
const JOURNAL: u64 = 512 << 10;

/// The status page of a report on services of the config. `trouble` is what is wrong with the watchdog itself.
pub fn status_page(
    config: &Config,
    report: &RunReport,
    wanted: impl Fn(&str) -> bool,
    now: DateTime<Utc>,
    trouble: &[String],
) -> String {
    let mut entries = journal::last(&config.state_dir, JOURNAL).unwrap_or_else(|error| {
        ::log::warn!(
            "the journal in {} cannot be read: {error}",
            config.state_dir.display()
        );
        Vec::new()
    });
    // a scale stands among the services
    let report = &RunReport {
        services: (report.services.iter().cloned())
            .chain(report.scales.iter().map(ScaleReport::as_service))
            .collect(),
        ..report.clone()
    };
    let services = config.services.iter().map(|service| &*service.name);
    let scales = config.scales.iter().map(|scale| &*scale.name);
    let names: Vec<&str> = services.chain(scales).collect();
    let is_whole = names.iter().all(|name| wanted(name));
    entries.retain(|entry| {
        is_whole || (names.iter()).any(|name| wanted(name) && entry.concerns(name))
    });
    let seen: BTreeSet<&str> = report.services.iter().map(|it| &*it.name).collect();
    let unseen: Vec<&str> = (names.into_iter())
        .filter(|name| wanted(name) && !seen.contains(name))
        .collect();
    let described = config.services.iter();
    let described = described.filter_map(|it| Some((&*it.name, it.description.as_deref()?)));
    page::render(&page::Facts {
        report,
        unseen: &unseen,
        descriptions: &described.collect(),
        entries: &entries,
        now,
        config: &config.path,
        trouble,
        waiting: &waiting(config),
    })
}

/// What a process uses, if it is still the one that was seen.
fn used(main: &Identity, now: &Reading) -> Option<Used> {
    if main.boot_id != now.boot_id {
        return None;
    }
    let used = process_table::used(main.pid).ok()?;
    (used.start == main.start).then_some(used)
}

/// Writes a file that everybody may read, whole: who reads it meanwhile reads the one before. It is not flushed to the disk:
/// after a loss of power it may be empty until the next run, and costs no write to the disk in any other.
pub fn write_public(path: &Path, text: &str) -> io::Result<()> {
    // whatever the umask says
    write_whole(path, text, |file| {
        file.set_permissions(Permissions::from_mode(0o644))
    })
}

/// Writes a file whole, once `permit` has said who may read it.
fn write_whole(
    path: &Path,
    text: &str,
    permit: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    // node-exporter reads all files whose names end in .prom, hidden ones too
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let written = files::create_anew(new, 0o600).and_then(|mut file| {
        permit(&file)?;
        file.write_all(text.as_bytes())?;
        fs::rename(new, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_file_is_replaced_whole_and_readable_by_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.prom");
        // left behind by a run that was cut short
        fs::write(dir.path().join("w.prom.new"), "half").unwrap();
        for text in ["a 1\n", "a 2\n"] {
            write_public(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 1);
    }

    #[test]
    fn what_cannot_be_replaced_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.prom");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "").unwrap();
        assert!(write_public(&path, "a 1\n").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
