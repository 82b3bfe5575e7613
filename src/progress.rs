//! What a person at a terminal reads while a restart takes its time.
//!
//! A stop that waits ten seconds for a program to end looks like a tool that hangs. So the run that waits says
//! what for: a line after two seconds, one when something else is waited for, and one every ten seconds. Lines, and
//! nothing that moves the cursor: warnings come in between. Who is no terminal is told nothing.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::check::process::Identity;
use crate::clock::{Reading, rough};
use crate::restart::Limits;
use crate::text::visible;

/// Nobody wonders about a wait that is shorter.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time from one line about a wait to the next.
const AGAIN: Duration = Duration::from_secs(10);

/// How often to ask for [`Progress::tick`].
pub const TICK: Duration = Duration::from_millis(500);

/// Whether there is anybody to tell.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// What a restart waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For this process to end.
    End(i32),
    /// For the new one to come up.
    Start,
    /// For the command of a repair to end.
    Repair,
}

/// One restart that is under way.
#[derive(Debug)]
pub struct Progress {
    service: String,
    limits: Option<Limits>,
    old: Option<Identity>,
    /// How long the command of a repair may take, where it is one.
    repair: Option<Duration>,
    began: Instant,
    last: Option<(Wait, Instant)>,
}

impl Progress {
    /// A restart that begins now, of a service with this process.
    pub fn new(service: &str, limits: &Limits, old: Option<Identity>) -> Self {
        Self {
            service: service.to_owned(),
            limits: Some(limits.clone()),
            old,
            repair: None,
            began: Instant::now(),
            last: None,
        }
    }

    /// A repair that begins now, and may take so long.
    pub fn of_repair(service: &str, timeout: Duration) -> Self {
        Self {
            service: service.to_owned(),
            limits: None,
            old: None,
            repair: Some(timeout),
            began: Instant::now(),
            last: None,
        }
    }

    /// Says on standard error what is waited for, where it is time to.
    pub fn tick(&mut self) {
        let wait = match &self.old {
            _ if self.repair.is_some() => Wait::Repair,
            Some(old) if old.lives(&Reading::take()) => Wait::End(old.pid),
            _ => Wait::Start,
        };
        if let Some(line) = self.due(wait, Instant::now()) {
            // nobody who reads it, no matter
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn due(&mut self, wait: Wait, now: Instant) -> Option<String> {
        let waited = now.saturating_duration_since(self.began);
        let is_news = match self.last {
            Some((last, at)) => last != wait || now.saturating_duration_since(at) >= AGAIN,
            None => waited >= PATIENCE,
        };
        if !is_news {
            return None;
        }
        self.last = Some((wait, now));
        let limit =
            |of: fn(&Limits) -> Duration| rough(self.limits.as_ref().map_or(Duration::ZERO, of));
        let what = match wait {
            Wait::Repair => format!(
                "its repair to end ({}; ended after {})",
                rough(waited),
                rough(self.repair.unwrap_or_default())
            ),
            Wait::End(pid) => format!(
                "PID {pid} to end ({}; KILL after {})",
                rough(waited),
                limit(|limits| limits.stop_timeout)
            ),
            Wait::Start => format!(
                "it to come up ({}; given up after {})",
                rough(waited),
                limit(|limits| limits.start_timeout)
            ),
        };
        Some(format!("{}: waiting for {what}", visible(&self.service)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::service;

    #[test]
    fn a_wait_is_told_late_at_changes_and_now_and_then() {
        let mut progress = Progress::new("trader", &service("trader").limits, None);
        let began = progress.began;
        let mut due = |wait, second| progress.due(wait, began + Duration::from_secs(second));
        let end = Wait::End(4711);
        assert_eq!(due(end, 0), None);
        assert_eq!(due(end, 1), None);
        assert_eq!(
            due(end, 2).as_deref(),
            Some("trader: waiting for PID 4711 to end (2s; KILL after 10s)")
        );
        assert_eq!(due(end, 11), None);
        assert_eq!(
            due(Wait::Start, 12).as_deref(),
            Some("trader: waiting for it to come up (12s; given up after 30s)")
        );
        assert_eq!(due(Wait::Start, 21), None);
        assert!(due(Wait::Start, 22).is_some());
    }
}
