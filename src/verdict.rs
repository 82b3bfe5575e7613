//! The verdicts, by the names that scripts rely on, and the exit codes that they add up to.

use serde::{Deserialize, Serialize};

/// What a run says of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Healthy,
    /// Young, or being started: its logs are not judged yet.
    Starting,
    /// Warnings only.
    Degraded,
    /// Broken, and not yet often enough in a row for a restart.
    Failing,
    /// It was broken, was restarted, and runs.
    Restarted,
    /// It was restarted, and did not come up.
    RestartFailed,
    /// It was broken, and a command has repaired it.
    Repaired,
    /// A command was run to repair it, and did not.
    RepairFailed,
    /// Broken, and the restart budget is spent.
    Exhausted,
    /// Broken, and its restart has to wait.
    Waiting,
    /// Broken, and there is nothing that the watchdog may do about it.
    Down,
    /// Something could not be seen.
    Unknown,
    /// Watched, and left alone.
    Paused,
    /// Not looked at.
    Disabled,
    /// So many replicas run as there are to be.
    Steady,
    /// There were to be more or fewer, and so many run now.
    Scaled,
    /// The load asks for more replicas than there may be.
    AtMax,
    /// There were to be more or fewer, and it was tried, and so many do not run.
    ScaleFailed,
}

impl Verdict {
    /// All that a service can have.
    pub const ALL: [Self; 14] = [
        Self::Healthy,
        Self::Starting,
        Self::Degraded,
        Self::Failing,
        Self::Restarted,
        Self::RestartFailed,
        Self::Repaired,
        Self::RepairFailed,
        Self::Exhausted,
        Self::Waiting,
        Self::Down,
        Self::Unknown,
        Self::Paused,
        Self::Disabled,
    ];

    /// All that a scale can have.
    pub const OF_SCALE: [Self; 6] = [
        Self::Steady,
        Self::Scaled,
        Self::AtMax,
        Self::ScaleFailed,
        Self::Unknown,
        Self::Paused,
    ];

    /// Its name in reports, the state and the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
            Self::Restarted => "restarted",
            Self::RestartFailed => "restart_failed",
            Self::Repaired => "repaired",
            Self::RepairFailed => "repair_failed",
            Self::Exhausted => "exhausted",
            Self::Waiting => "waiting",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Steady => "steady",
            Self::Scaled => "scaled",
            Self::AtMax => "at_max",
            Self::ScaleFailed => "scale_failed",
        }
    }

    /// The exit code that it stands for, in the convention of Nagios plugins.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Healthy
            | Self::Starting
            | Self::Paused
            | Self::Disabled
            | Self::Steady
            | Self::Scaled => ExitCode::Ok,
            Self::Restarted | Self::Repaired | Self::Degraded | Self::Failing | Self::AtMax => {
                ExitCode::Warning
            }
            Self::Down
            | Self::RestartFailed
            | Self::RepairFailed
            | Self::Exhausted
            | Self::Waiting
            | Self::ScaleFailed => ExitCode::Critical,
            Self::Unknown => ExitCode::Unknown,
        }
    }

    /// Whether the service is broken, as far as is known.
    pub fn is_broken(self) -> bool {
        self.exit_code() == ExitCode::Critical || self == Self::Failing
    }
}

/// The exit codes of `check` and `status`, in the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// 0
    Ok,
    /// 1
    Warning,
    /// 3: what could not be seen is worse than a warning.
    Unknown,
    /// 2: what is surely broken is the worst.
    Critical,
}

impl ExitCode {
    /// The worst of several verdicts; all well where there are none.
    pub fn of(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        verdicts
            .into_iter()
            .map(Verdict::exit_code)
            .max()
            .unwrap_or(Self::Ok)
    }

    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f79_the_worst_verdict_gives_the_code() {
        use Verdict::*;
        for (verdicts, code) in [
            (&[][..], 0),
            (&[Healthy, Starting, Paused, Disabled], 0),
            (&[Healthy, Restarted], 1),
            (&[Degraded, Failing], 1),
            (&[Unknown, Restarted], 3),
            (&[Unknown, Down], 2),
            (&[Waiting, Healthy], 2),
            (&[RestartFailed], 2),
            (&[Repaired, Healthy], 1),
            (&[RepairFailed, Unknown], 2),
            (&[Steady, Scaled], 0),
            (&[AtMax, Scaled], 1),
            (&[ScaleFailed, Unknown], 2),
            (&[Exhausted, Unknown], 2),
        ] {
            assert_eq!(
                ExitCode::of(verdicts.iter().copied()).code(),
                code,
                "{verdicts:?}"
            );
        }
    }

    #[test]
    fn names_are_what_serde_writes() {
        for verdict in [
            Verdict::RestartFailed,
            Verdict::Repaired,
            Verdict::RepairFailed,
            Verdict::Healthy,
            Verdict::Waiting,
        ] {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.name());
        }
    }
}
