//! What systemd says of a unit, as it is read from the output of `systemctl show`.

use super::LastSeen;
use crate::clock::Reading;
use crate::text::printable;

/// What is asked of a unit.
pub(super) const PROPERTIES: &str = "--property=Id,Names,LoadState,LoadError,ActiveState,SubState,MainPID,NRestarts,Result,\
                          ExecMainCode,ExecMainStatus,InvocationID,Job,ConditionResult,ConditionTimestampMonotonic,\
                          Type,RemainAfterExit,TriggeredBy,ControlGroup";
/// `CLD_EXITED` of wait(2), as `ExecMainCode` has it.
const EXITED: i32 = 1;

/// Whether a unit runs, as systemd has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Active {
    /// It does.
    Active,
    /// It does, and takes up its configuration anew.
    Reloading,
    /// It does not.
    #[default]
    Inactive,
    /// It does not, and ended badly.
    Failed,
    /// It is being started, or waits to be restarted by systemd itself.
    Activating,
    /// It is being stopped.
    Deactivating,
}

/// What systemd says of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// All its names, aliases among them.
    pub names: Vec<String>,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// Why it could not be loaded, in systemd's words.
    pub load_error: String,
    /// Whether it runs.
    pub active: Active,
    /// The finer state: `running`, `auto-restart`, `stop-sigterm`.
    pub sub: String,
    /// The main process, where it has one.
    pub main_pid: Option<i32>,
    /// How often systemd has restarted it by itself since it was last started by hand; absent where this is no
    /// service.
    pub restarts: Option<u32>,
    /// How it ended: `success`, `exit-code`, `signal`, `timeout`, `start-limit-hit`.
    pub result: String,
    /// How its main process ended: 1 by exit, 2 and 3 by a signal.
    pub exec_code: i32,
    /// The exit status or the signal of its main process.
    pub exec_status: i32,
    /// The id of its present or last run.
    pub invocation: String,
    /// Whether something is queued to be done to it.
    pub has_job: bool,
    /// Whether the conditions of its unit file held when it was last started.
    pub conditions_hold: bool,
    /// A service that runs to its end and is inactive then: `Type=oneshot` without `RemainAfterExit=`.
    pub is_job: bool,
    /// The timers, sockets and paths that start it.
    pub triggered_by: Vec<String>,
    /// Its control group; empty where it has none.
    pub control_group: String,
}

impl Status {
    /// The unit's state as `systemctl status` shows it: `active (running)`.
    pub fn shown(&self) -> String {
        let active = match self.active {
            Active::Active => "active",
            Active::Reloading => "reloading",
            Active::Inactive => "inactive",
            Active::Failed => "failed",
            Active::Activating => "activating",
            Active::Deactivating => "deactivating",
        };
        format!("{active} ({})", self.sub)
    }

    /// Why it may rightly be inactive, as the end of a sentence about it; nothing where it should always run.
    pub fn may_be_inactive(&self) -> Option<String> {
        if !self.triggered_by.is_empty() {
            return Some(format!("is started by {}", self.triggered_by.join(", ")));
        }
        self.is_job
            .then(|| "is a job that ends (Type=oneshot)".to_owned())
    }

    /// Whether it has ended well, and that is all that is asked of it.
    pub fn is_done(&self) -> bool {
        self.active == Active::Inactive
            && self.ending().is_none()
            && self.may_be_inactive().is_some()
    }

    /// How it ended, for a person; nothing where it ended well.
    pub fn ending(&self) -> Option<String> {
        let how = match self.result.as_str() {
            "" | "success" => return None,
            "start-limit-hit" => {
                "it was started too often, and systemd refuses to start it again".to_owned()
            }
            "timeout" => "it did not start or stop in time".to_owned(),
            "oom-kill" => "the kernel was out of memory and killed it".to_owned(),
            "watchdog" => "it stopped telling systemd that it is alive".to_owned(),
            _ if self.exec_code == EXITED => match exec_failure(self.exec_status) {
                Some(step) => format!("exit status {} ({step})", self.exec_status),
                None => format!("exit status {}", self.exec_status),
            },
            _ if self.exec_code > EXITED => {
                let name = nix::sys::signal::Signal::try_from(self.exec_status)
                    .map_or_else(|_| String::new(), |signal| format!(" ({signal})"));
                format!("ended by signal {}{name}", self.exec_status)
            }
            _ => return Some(format!("result {}", self.result)),
        };
        Some(format!("{how}, result {}", self.result))
    }
}

/// What systemd's own exit statuses mean, those that a person meets (systemd.exec(5)).
fn exec_failure(status: i32) -> Option<&'static str> {
    Some(match status {
        200 => "its working directory could not be entered",
        203 => "its program could not be run",
        208 => "its standard input could not be set up",
        209 => "its standard output could not be set up",
        216 => "its group could not be taken on",
        217 => "its user could not be taken on",
        226 => "its mount namespace could not be set up",
        _ => return None,
    })
}

/// Reads the output of `systemctl show`: a block of `Key=value` lines for each unit, with blank lines between.
pub fn parse(output: &[u8]) -> Vec<Status> {
    let text = String::from_utf8_lossy(output);
    let mut statuses = Vec::new();
    for block in text.split("\n\n") {
        let mut status = Status {
            conditions_hold: true,
            ..Status::default()
        };
        let (mut were_asked, mut is_oneshot, mut remains) = (true, false, false);
        for line in block.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            match key {
                "Id" => status.names.push(value.to_owned()),
                "Names" => status.names.extend(value.split(' ').map(str::to_owned)),
                "LoadState" => value.clone_into(&mut status.load),
                "LoadError" => status.load_error = bus_error(value),
                "ActiveState" => status.active = active(value),
                "SubState" => value.clone_into(&mut status.sub),
                "MainPID" => status.main_pid = value.parse().ok().filter(|&pid| pid > 1),
                "NRestarts" => status.restarts = value.parse().ok(),
                "Result" => value.clone_into(&mut status.result),
                "ExecMainCode" => status.exec_code = value.parse().unwrap_or_default(),
                "ExecMainStatus" => status.exec_status = value.parse().unwrap_or_default(),
                "InvocationID" => value.clone_into(&mut status.invocation),
                "Job" => status.has_job = !matches!(value, "" | "0"),
                "ConditionResult" => status.conditions_hold = value != "no",
                "ConditionTimestampMonotonic" => were_asked = value != "0",
                "Type" => is_oneshot = value == "oneshot",
                "RemainAfterExit" => remains = value == "yes",
                "ControlGroup" => value.clone_into(&mut status.control_group),
                "TriggeredBy" => {
                    let units = value.split_ascii_whitespace();
                    status.triggered_by = units.map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        status.is_job = is_oneshot && !remains;
        // before the first start, systemd shows that they do not hold
        status.conditions_hold |= !were_asked;
        if !status.names.is_empty() {
            statuses.push(status);
        }
    }
    statuses
}

fn active(value: &str) -> Active {
    match value {
        "active" | "refreshing" => Active::Active,
        "reloading" => Active::Reloading,
        "failed" => Active::Failed,
        "activating" => Active::Activating,
        "deactivating" | "maintenance" => Active::Deactivating,
        _ => Active::Inactive,
    }
}

/// The sentence of an error as the bus gives it: `org.….NoSuchUnit "Unit x.service not found."`.
fn bus_error(value: &str) -> String {
    let sentence = value.split_once(' ').map_or(value, |(_, rest)| rest);
    let sentence = sentence.trim_matches('"').trim_end_matches('.');
    printable(sentence.as_bytes(), 300)
}

impl Status {
    /// What to remember of it.
    pub fn last_seen(&self, now: &Reading) -> Option<LastSeen> {
        self.restarts.map(|restarts| LastSeen {
            restarts,
            boot_id: now.boot_id.clone(),
            without_main: self.is_without_main(),
        })
    }

    /// Whether it is a service that is active without a main process: nobody sees where its program ends.
    pub fn is_without_main(&self) -> bool {
        self.active == Active::Active && self.main_pid.is_none() && self.restarts.is_some()
    }
}
