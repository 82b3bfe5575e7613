//! `watchdog history`: the journal, and what it adds up to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cli;
use crate::clock::{age, rough};
use crate::commands::{print, read_journal, selected};
use crate::config::Config;
use crate::error::Error;
use crate::report::page::{Page, Style};
use crate::report::text;
use crate::restart::Operation;
use crate::state::journal::JournalEvent;

/// A rate a day is told of a time that is at least so long: of less it would be a guess.
const DAY: Duration = Duration::from_hours(24);

/// Prints what happened, oldest first; for people also how often each service was restarted.
pub fn run(config: &Config, options: &cli::History, style: Style) -> Result<u8, Error> {
    let names = selected(config, &options.services)?;
    let now = Utc::now();
    let mut json = String::new();
    let mut page = Page::new(style);
    let mut oldest: Option<DateTime<Utc>> = None;
    let mut made_of: BTreeMap<String, AllMade> = BTreeMap::new();
    let (mut shown, mut cut_short) = (0_usize, 0_usize);
    read_journal(config, |entry| {
        oldest = Some(oldest.map_or(entry.time, |time| time.min(entry.time)));
        let asked_for =
            options.services.is_empty() || names.iter().any(|name| entry.concerns(name));
        let recent = options
            .since
            .is_none_or(|limit| age(now, entry.time) <= limit);
        if !asked_for || !recent {
            return;
        }
        shown += 1;
        cut_short += usize::from(entry.event == JournalEvent::Interrupted);
        if let Some(action) = &entry.action {
            let made = Made {
                time: entry.time,
                worked: action.ok,
            };
            let of = made_of.entry(entry.service.clone()).or_default();
            match action.kind {
                Operation::Restart => of.restarts.push(made),
                Operation::Repair => of.repairs.push(made),
                Operation::Scale => of.changes.push(made),
            }
        }
        if options.summary {
            return;
        }
        if options.json {
            if let Ok(line) = serde_json::to_string(&entry) {
                json.push_str(&line);
                json.push('\n');
            }
        } else {
            text::add_entry(&mut page, &entry);
        }
    })?;
    // a journal that is younger than what was asked for says nothing of the time before it
    let journalled = oldest.map(|oldest| age(now, oldest)).unwrap_or_default();
    let period = options
        .since
        .map_or(journalled, |since| since.min(journalled));
    let sums: Vec<Summary> = made_of
        .iter()
        .map(|(name, of)| Summary {
            repairs: of.repairs.len(),
            repairs_failed: failed(&of.repairs),
            changes: of.changes.len(),
            changes_failed: failed(&of.changes),
            ..Summary::of(name, &of.restarts, period)
        })
        .collect();
    if options.json {
        if options.summary {
            for sum in &sums {
                let line = serde_json::to_string(sum)
                    .map_err(|error| Error::Internal(error.to_string()))?;
                json.push_str(&line);
                json.push('\n');
            }
        }
        print(&json)?;
        return Ok(0);
    }
    if shown == 0 {
        page.line(0, &nothing(oldest.is_some(), period));
    } else if sums.is_empty() && cut_short == 0 {
        page.line(0, &format!("no restart in {}", rough(period)));
    }
    if cut_short > 0 {
        let attempts = if cut_short == 1 {
            "1 attempt was"
        } else {
            &format!("{cut_short} attempts were")
        };
        page.line(
            0,
            &format!(
                "{attempts} cut short together with a run, in {}",
                rough(period)
            ),
        );
    }
    for sum in &sums {
        page.line(0, &sum.told());
    }
    print(&page.into_text())?;
    Ok(0)
}

fn nothing(is_kept: bool, period: Duration) -> String {
    if is_kept {
        format!("nothing happened in {}", rough(period))
    } else {
        "nothing has happened yet: the journal is empty".to_owned()
    }
}

/// A restart or a repair that was tried.
#[derive(Clone, Copy, Debug)]
struct Made {
    time: DateTime<Utc>,
    worked: bool,
}

/// All that was tried of a service or a scale.
#[derive(Debug, Default)]
struct AllMade {
    restarts: Vec<Made>,
    repairs: Vec<Made>,
    changes: Vec<Made>,
}

/// How many of them failed.
fn failed(made: &[Made]) -> usize {
    made.iter().filter(|made| !made.worked).count()
}

/// How often a service was restarted, and repaired.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Summary {
    service: String,
    /// All that were tried.
    restarts: usize,
    /// Those of them that failed.
    failed: usize,
    /// The seconds that this is a sum of.
    period_s: f64,
    /// The rate; absent where the time is too short to tell one.
    restarts_a_day: Option<f64>,
    /// The mean time from one to the next; absent where there are not two.
    mean_between_s: Option<f64>,
    /// All repairs that were tried.
    repairs: usize,
    /// Those of them that failed.
    repairs_failed: usize,
    /// All changes of the number of its replicas, where it is a scale.
    #[serde(skip_serializing_if = "is_zero")]
    changes: usize,
    /// Those of them that failed.
    #[serde(skip_serializing_if = "is_zero")]
    changes_failed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Summary {
    fn of(service: &str, restarts: &[Made], period: Duration) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a journal holds far fewer than 2^52 restarts"
        )]
        let a_day = restarts.len() as f64 * DAY.as_secs_f64() / period.as_secs_f64();
        let times = || restarts.iter().map(|restart| restart.time);
        let gaps = u32::try_from(restarts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let mean = match (times().min(), times().max()) {
            (Some(first), Some(last)) if gaps > 0 => Some(age(last, first) / gaps),
            _ => None,
        };
        Self {
            service: service.to_owned(),
            restarts: restarts.len(),
            failed: failed(restarts),
            period_s: period.as_secs_f64(),
            restarts_a_day: (period >= DAY).then_some(a_day),
            mean_between_s: mean.map(|mean| mean.as_secs_f64()),
            repairs: 0,
            repairs_failed: 0,
            changes: 0,
            changes_failed: 0,
        }
    }

    /// As a person reads it.
    fn told(&self) -> String {
        let period = rough(Duration::from_secs_f64(self.period_s));
        let is_scale = self.changes > 0 && self.restarts == 0 && self.repairs == 0;
        if is_scale {
            let more = if self.changes == 1 { "" } else { "s" };
            let failed = match self.changes_failed {
                0 => String::new(),
                failed => format!(" ({failed} failed)"),
            };
            return format!(
                "{}: {} change{more} of its replicas in {period}{failed}",
                self.service, self.changes
            );
        }
        let mut told = format!(
            "{}: {} restart{} in {}",
            self.service,
            self.restarts,
            if self.restarts == 1 { "" } else { "s" },
            period
        );
        if self.failed > 0 {
            let _ = write!(told, " ({} failed)", self.failed);
        }
        if let Some(a_day) = self.restarts_a_day {
            let _ = write!(told, ", {a_day:.1} a day");
        }
        if let Some(mean) = self.mean_between_s {
            let mean = rough(Duration::from_secs_f64(mean));
            let _ = write!(told, ", {mean} between them on average");
        }
        if self.repairs > 0 {
            let more = if self.repairs == 1 { "" } else { "s" };
            let _ = write!(told, "; {} repair{more}", self.repairs);
        }
        if self.repairs_failed > 0 {
            let _ = write!(told, " ({} failed)", self.repairs_failed);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    fn restarts(hours: &[i64]) -> Vec<Made> {
        hours
            .iter()
            .map(|hour| Made {
                time: at(hour * 3600),
                worked: true,
            })
            .collect()
    }

    #[test]
    fn restarts_are_summed_up() {
        for (hours, period, told) in [
            (&[0][..], 1, "1 restart in 1h"),
            (
                &[0, 1, 3],
                5,
                "3 restarts in 5h, 1h 30m between them on average",
            ),
            (&[0], 48, "1 restart in 2d, 0.5 a day"),
            (
                &[0, 12, 24, 48],
                48,
                "4 restarts in 2d, 2.0 a day, 16h between them on average",
            ),
        ] {
            let period = Duration::from_secs(period * 3600);
            assert_eq!(
                Summary::of("a", &restarts(hours), period).told(),
                format!("a: {told}")
            );
        }
    }

    #[test]
    fn failures_are_told() {
        let mut some = restarts(&[0, 1]);
        some[0].worked = false;
        assert_eq!(
            Summary::of("a", &some, Duration::from_secs(7200)).told(),
            "a: 2 restarts in 2h (1 failed), 1h between them on average"
        );
        let repaired = Summary {
            repairs: 3,
            repairs_failed: 1,
            ..Summary::of("a", &[], Duration::from_secs(7200))
        };
        assert_eq!(repaired.told(), "a: 0 restarts in 2h; 3 repairs (1 failed)");
    }
}
