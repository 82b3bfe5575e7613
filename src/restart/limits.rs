//! The limits of a restart, whatever the method.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::table::{Context, Form, Positive, Shown, Value, choice, quoted, table};

table! {
    /// The limits of a restart.
    pub struct Limits like "restart = { settle = \"2s\" }" {
        /// The first signal of a stop.
        stop_signal: Signal = Signal::SIGTERM;
        /// How long to wait for its end before KILL.
        stop_timeout: Duration as Positive = Duration::from_secs(10);
        /// How long it may take to come up, all process checks passing, and then its probes (port, http, exec).
        start_timeout: Duration as Positive = Duration::from_secs(30);
        /// And how long it must then stay up.
        settle: Duration = Duration::from_secs(2);
        /// What is waited for: "probes", once the process is up; or "process": the process alone.
        wait_for: WaitFor = WaitFor::Probes;
    }
}

/// What a restart waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// The process, and then the probes.
    Probes,
    /// The process alone.
    Process,
}

choice! { WaitFor: "probes" = Probes, "process" = Process }

impl Form for Signal {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        const HELP: &str = "write a name like TERM, INT, QUIT, HUP, USR1, USR2 or KILL";
        let text = value.text_or(HELP)?;
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        match format!("SIG{name}").parse::<Self>() {
            Err(_) => {
                value.wrong(&format!("{} is not a signal", quoted(text)), HELP);
                None
            }
            Ok(Self::SIGSTOP | Self::SIGCONT | Self::SIGTSTP | Self::SIGTTIN | Self::SIGTTOU) => {
                value.wrong(&format!("{} does not end a program", quoted(text)), HELP);
                None
            }
            Ok(signal) => Some(signal),
        }
    }

    fn show(signal: &Self) -> Option<Shown> {
        let name = signal.as_str();
        Some(Shown::text(name.strip_prefix("SIG").unwrap_or(name)))
    }

    fn kind() -> String {
        "the name of a signal".to_owned()
    }
}
