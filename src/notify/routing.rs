//! What goes out by a channel, and how much of it: the keys that the table of each channel has.

use std::time::Duration;

use super::Event;
use crate::table::{Positive, Within, choice, table};

table! {
    /// What is reported, and how often.
    pub struct Routing like "on = [\"down\"]" {
        /// What is reported; there is also "unknown".
        on: Vec<Event> = vec![
            Event::Restarted,
            Event::Repaired,
            Event::RestartFailed,
            Event::RepairFailed,
            Event::Exhausted,
            Event::Down,
            Event::Degraded,
            Event::Recovered,
        ];
        /// How often the same failure of the same service is reported again while it lasts; "degraded" and "unknown" are
        /// reported once.
        remind_every: Duration as Positive = Duration::from_hours(1);
        /// Messages; the next one after says how many were held back.
        max_per_hour: u32 as Within<1, 3600> = 12;
    }
}

choice! {
    Event:
    "restarted" = Restarted,
    "repaired" = Repaired,
    "restart_failed" = RestartFailed,
    "repair_failed" = RepairFailed,
    "exhausted" = Exhausted,
    "down" = Down,
    "recovered" = Recovered,
    "degraded" = Degraded,
    "unknown" = Unknown,
}
