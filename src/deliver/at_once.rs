//! Notifications of a run whose state cannot be written: sent at once, for nothing can be kept.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::{composed, side_by_side};
use crate::clock::rough;
use crate::config::Config;
use crate::notify::{Alert, Attempt, Channel, Thread};
use crate::state::State;

/// Sends one notification of all that is pending on each channel. What goes wrong is logged: nothing is kept for later.
///
/// Such runs know nothing of each other, and would send the same every minute. So what was reported is marked by an
/// empty file in the directory for temporary files, and the same trouble is not reported again within `remind_every`,
/// unless a state was written since (`last_saved`): then that trouble was over.
/// Where that fails as well, it is reported again: too often is better than never.
pub fn at_once(
    config: &Config,
    channels: &[Channel],
    state: &State,
    now: DateTime<Utc>,
    last_saved: Option<SystemTime>,
) {
    side_by_side(channels.iter().collect(), |channel| {
        send(config, channel, state, now, last_saved);
    });
}

fn send(
    config: &Config,
    channel: &Channel,
    state: &State,
    now: DateTime<Utc>,
    last_saved: Option<SystemTime>,
) {
    let name = &channel.name;
    let Some(known) = state.channels.get(name) else {
        return;
    };
    let Some(notification) = composed(config, &channel.table(), &known.pending, now) else {
        return;
    };
    let mark = mark(config, channel, &known.pending);
    let within = channel.routing().reminds_after();
    if was_marked(&mark, within, last_saved) {
        let within = within.map(|it| format!(" within {}", rough(it)));
        ::log::info!("the same was sent by {name}{}", within.unwrap_or_default());
        return;
    }
    let thread = Thread::of(&notification, &known.threads);
    let attempt = Attempt {
        notification: &notification,
        thread: &thread,
        is_uncertain: false,
    };
    let report = channel.send(
        &attempt,
        &channel.recipients(),
        channel.timeout(),
        &mut |_| {},
    );
    if report.reached_somebody()
        && let Err(error) = set_mark(&mark)
    {
        ::log::info!(
            "{}: cannot be written: {error}; the next run alerts again",
            mark.display()
        );
    }
    for trouble in report.troubles(name) {
        ::log::error!("{trouble}");
    }
}

/// The file whose age tells when this was reported last: one for each user, state directory, channel and set of troubles.
fn mark(config: &Config, channel: &Channel, pending: &[Alert]) -> PathBuf {
    let mut troubles: Vec<(&str, &str)> = pending
        .iter()
        .map(|alert| (alert.service.as_str(), alert.event.name()))
        .collect();
    troubles.sort_unstable();
    troubles.dedup();
    let mut hasher = DefaultHasher::new();
    (&config.state_dir, &channel.name, troubles).hash(&mut hasher);
    let user = nix::unistd::geteuid();
    std::env::temp_dir().join(format!("watchdog-{user}-{:016x}.told", hasher.finish()))
}

/// Whether there is a mark of our own that was made within such a time, and after the last state was saved. Others can write
/// there: theirs silences nobody.
fn was_marked(mark: &Path, within: Option<Duration>, last_saved: Option<SystemTime>) -> bool {
    let Ok(meta) = fs::symlink_metadata(mark) else {
        return false;
    };
    let made = meta.modified().ok();
    let age = made.and_then(|time| time.elapsed().ok());
    meta.is_file()
        && meta.uid() == nix::unistd::geteuid().as_raw()
        && age.is_some_and(|age| within.is_none_or(|within| age < within))
        && last_saved.is_none_or(|saved| made.is_some_and(|made| made >= saved))
}

fn set_mark(mark: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(mark)?;
    // anybody can put something there: another user's file, or a second name for one of ours
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.nlink() != 1 {
        return Err(io::Error::other("it is not the watchdog's own file"));
    }
    file.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts_for_a_while_and_only_our_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let hour = Duration::from_hours(1);
        assert!(!was_marked(&mark, Some(hour), None));
        set_mark(&mark).unwrap();
        assert!(was_marked(&mark, Some(hour), None));
        assert!(!was_marked(&mark, Some(Duration::ZERO), None));
        let set = |time| {
            let file = OpenOptions::new().write(true).open(&mark).unwrap();
            file.set_modified(time).unwrap();
        };
        set(SystemTime::now() - 2 * hour);
        assert!(!was_marked(&mark, Some(hour), None), "long ago");
        set(SystemTime::now() + 2 * hour);
        assert!(
            !was_marked(&mark, Some(hour), None),
            "by a clock that was wrong"
        );
        set_mark(&mark).unwrap();
        assert!(was_marked(&mark, Some(hour), None), "set again");
        assert!(was_marked(&mark, None, None), "once is enough");
        let now = SystemTime::now();
        assert!(was_marked(&mark, None, Some(now - hour)));
        assert!(
            !was_marked(&mark, None, Some(now + hour)),
            "it was over meanwhile"
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&mark, &link).unwrap();
        assert!(!was_marked(&link, Some(hour), None));
        assert!(set_mark(&link).is_err());
        let second = dir.path().join("second");
        fs::write(&second, "somebody's").unwrap();
        let before = fs::metadata(&second).unwrap().modified().unwrap();
        fs::hard_link(&second, dir.path().join("name")).unwrap();
        assert_eq!(
            set_mark(&dir.path().join("name")).unwrap_err().to_string(),
            "it is not the watchdog's own file"
        );
        assert_eq!(fs::read(&second).unwrap(), b"somebody's");
        assert_eq!(fs::metadata(&second).unwrap().modified().unwrap(), before);
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(!was_marked(&dir.path().join("dir"), Some(hour), None));
    }
}
