//! The `[service.NAME.evidence]` table.

use std::path::Path;
use std::time::Duration;

use super::ALL;
use crate::check::command_traps::{cannot_start, not_executable, of_program, of_words};
use crate::check::trap::{Place, Trap};
use crate::clock::exact;
use crate::program::Program as Runs;
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

impl Settings {
    /// Why its command may not do what was meant, run in this directory.
    pub fn traps(&self, working_dir: &Path) -> Vec<Trap> {
        const KEY: &str = "command";
        let Some(command) = self.command.as_deref().filter(|_| self.enabled) else {
            return Vec::new();
        };
        let program = Runs {
            command,
            working_dir,
            user: None,
            group: None,
            env: &[],
            env_file: None,
        };
        let mut traps = of_words(KEY, command);
        match program.prepare() {
            Err(why) => traps.push(cannot_start(KEY, "run", &why)),
            Ok(prepared) => {
                traps.extend(of_program(&program, KEY, &prepared));
                traps.extend(not_executable(KEY, &prepared.path));
            }
        }
        let in_table = traps.into_iter().map(|trap| Trap {
            place: Place::Table(KEY),
            ..trap
        });
        in_table.collect()
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
