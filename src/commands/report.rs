//! `watchdog report`: what a day came to.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::cli;
use crate::clock::Reading;
use crate::commands::{Opened, open, print, read_journal};
use crate::config::Config;
use crate::deliver::deliver;
use crate::error::Error;
use crate::notify::outbox::{Kept, Outbox};
use crate::notify::{Alert, Event};
use crate::report;
use crate::report::page::{Page, Style};
use crate::report::period::{PeriodReport, Reader, Runs, html, text};
use crate::state::store::{Store, StoreError};

/// So long is waited for a run that is under way: most take less.
const LOCK_WAIT: Duration = Duration::from_mins(1);

/// How often the lock is tried meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// Prints what a stretch of time came to, or sends it on every channel.
pub fn run(config: &Config, options: &cli::Report, style: Style) -> Result<u8, Error> {
    let report = summed_up(config, options.since, &Reading::take())?;
    let printed = if options.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Error::Internal(error.to_string()))?;
        print(&format!("{json}\n"))
    } else if options.html {
        print(&html::document(&report))
    } else if options.send {
        Ok(())
    } else {
        print(&text::page(&report, style))
    };
    if !options.send {
        return printed.map(|()| 0);
    }
    let is_printed = options.json || options.html;
    // whoever is to have it by another way has it all the same
    let code = send(config, &report, style, is_printed)?;
    printed.map(|()| code)
}

fn summed_up(config: &Config, since: Duration, clock: &Reading) -> Result<PeriodReport, Error> {
    let now = clock.wall;
    let since = TimeDelta::from_std(since).unwrap_or(TimeDelta::MAX);
    let from = now.checked_sub_signed(since).unwrap_or_default();
    let mut reader = Reader::new(from, now);
    read_journal(config, |entry| reader.add(&entry))?;
    let loaded = Store::at(&config.state_dir).look();
    // it is about what the journal has
    loaded.warn();
    let mut state = loaded.state;
    state.move_with_clock(clock);
    let runs = Runs {
        last: state.last_run,
        interval: state.run_interval(),
    };
    let names: Vec<&str> = (config.services.iter())
        .map(|service| service.name.as_str())
        .collect();
    Ok(reader.finish(report::host(), &names, runs))
}

/// Puts a report among what is to be told on each channel, and sends what there is. What cannot be sent is kept, and the
/// next runs try again. It has failed where no channel has taken it, and none holds it back.
fn send(
    config: &Config,
    report: &PeriodReport,
    style: Style,
    is_printed: bool,
) -> Result<u8, Error> {
    // one that is shown all present trouble takes no messages
    let channels = || {
        let all = config.channels.iter();
        all.filter(|channel| channel.as_alertmanager().is_none())
    };
    if channels().next().is_none() {
        ::log::error!(
            "there is no channel to send it on: {} has no [mail] table and no [notify.NAME] table, and $ALERT_EMAIL_TO is not \
             set",
            config.path.display()
        );
        return Ok(1);
    }
    let Opened {
        store,
        lock: _lock,
        mut state,
        now,
    } = wait_for_lock(config)?;
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    for channel in channels() {
        let known = state.channels.entry(channel.name.clone()).or_default();
        known.add(Alert {
            notes: text::sentences(report),
            ..Alert::new(now.wall, "watchdog", Event::Report)
        });
        let added = known.pending.last().map(|alert| alert.id.clone());
        ids.insert(&channel.name, added.unwrap_or_default());
    }
    store.save_twice(&mut state)?;
    let sent = deliver(config, &config.channels, &store, &mut state, &now);
    let kept = Outbox::at(store.dir()).load().deliveries;
    let mut page = Page::new(style);
    let mut has_failed = true;
    for channel in channels() {
        let name = &channel.name;
        let id = ids.get(name.as_str());
        let known = state.channels.get(name);
        let alert =
            known.and_then(|known| known.pending.iter().find(|alert| Some(&alert.id) == id));
        let is_held_back = alert.is_some_and(|alert| alert.waits || alert.rate_limited);
        let is_kept = alert.is_some()
            || kept.iter().any(|Kept { delivery, .. }| {
                let has_it = |id: &String| delivery.alerts.contains(id);
                delivery.channel == *name && !delivery.is_over() && id.is_some_and(has_it)
            });
        let is_sent = sent.get(name).is_some_and(|it| it.sent > 0);
        let (ends_well, what) = if is_held_back {
            let what = "held back by quiet or max_per_hour; a later run sends it";
            (true, what)
        } else if is_kept {
            (false, "could not be sent yet; the next run tries again")
        } else if is_sent {
            (true, "sent")
        } else {
            (false, "refused; `watchdog history` says why")
        };
        has_failed &= !ends_well;
        page.line(0, &format!("{name}: {what}"));
    }
    if !is_printed {
        print(&page.into_text())?;
    }
    Ok(u8::from(has_failed))
}

/// The state under its lock, once a run that is under way has ended.
fn wait_for_lock(config: &Config) -> Result<Opened, Error> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match open(config) {
            Err(Error::Store(StoreError::Busy { .. })) if Instant::now() < deadline => {
                sleep(LOCK_POLL);
            }
            opened => return opened,
        }
    }
}
