//! systemd units.

use serde::Serialize;

/// A service's `systemd` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// The unit's name with its suffix: `trader.service`.
    pub unit: String,
    /// Which manager runs it.
    pub manager: Manager,
}

/// Which systemd a unit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The system's.
    System,
    /// The one of the user that the watchdog runs as.
    User,
}
