//! The `[service.NAME.evidence]` table.

use std::time::Duration;

use super::ALL;
use crate::clock::exact;
use crate::table::{Checked, Context, Program, Value, table};

table! {
    /// What a process was doing is recorded before it is stopped: in evidence/ of state_dir, the newest 5 of a service.
    pub struct Settings like "evidence = { command = [\"py-spy\", \"dump\", \"--pid\", \"{pid}\"] }" {
        /// false: nothing is recorded.
        enabled: bool = true;
        /// Run then, as the watchdog's own user; `{pid}` is the main process. Its output is a part of the record.
        command: Option<Vec<String>> as Option<Program>, commented r#"["py-spy", "dump", "--pid", "{pid}"]"#;
        /// A command that has not ended by then is killed with all that it started; all of the record takes 5s at the most.
        timeout: Duration as InTime = ALL;
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            command: None,
            timeout: ALL,
        }
    }
}

/// A time that the command can be given.
struct InTime;

impl Checked for InTime {
    type Of = Duration;
    const KIND: &'static str = "a duration above zero, 5s at the most";

    fn read(value: &Value<'_>, _: &Context) -> Option<Duration> {
        let limit = value.time()?;
        if limit > ALL {
            value.wrong(
                &format!(
                    "{} is {}, and all of the record takes {} at the most",
                    value.name(),
                    exact(limit),
                    exact(ALL)
                ),
                "write \"5s\" or less: a restart does not wait longer for its evidence",
            );
            return None;
        }
        Some(limit)
    }
}
