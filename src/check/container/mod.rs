//! Containers: what the engine says of a service's container, and what of that is wrong.
//!
//! All containers of a run come from one list, and details of those that services name are asked for side by side. What
//! comes back is judged by a pure function. Its main process is handed on to be looked at like any other, where it is
//! surely the container's.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Can, Code, Finding, Grace, Presence, Severity};

mod ask;
mod explain;
pub mod ghost;
mod judge;
pub mod network;
pub mod order;
pub mod recreated;
mod rule;
mod select;
#[cfg(test)]
mod tests;
mod traps;
mod unchanged;

pub use self::ask::{Answer, Described, Wanted, ask, is_process_of, list};
pub use self::explain::explain;
pub use self::judge::{REMOVED, claimed, judge, unreachable};
pub use self::order::{Awaited, Ordered, awaited};
pub use self::rule::{Containers, Rule};
pub use self::select::{Compose, Selected, behind_digits, compose, is_one_off, managed_by, select};
pub use self::traps::traps;
pub use self::unchanged::Unchanged;

/// There is no such container.
pub const MISSING: &str = "container_missing";
/// It has ended.
pub const EXITED: &str = "container_exited";
/// It could not be removed.
pub const DEAD: &str = "container_dead";
/// It was never started.
pub const CREATED: &str = "container_created";
/// Its own check fails.
pub const UNHEALTHY: &str = "container_unhealthy";
/// The engine says that it runs, and its process is not there.
pub const GHOST: &str = "container_ghost";
/// The engine restarts it again and again.
pub const RESTARTING: &str = "container_restarting";
/// The engine has restarted it.
pub const RESTARTED: &str = "container_restarted";
/// Somebody paused it.
pub const PAUSED: &str = "container_paused";
/// What a re-creation that failed has left behind.
pub const LEFTOVER: &str = "container_leftover";
/// The container whose network it shares was started anew, or is gone.
pub const NETWORK_LOST: &str = "network_lost";
/// The engine did not answer.
pub const ENGINE_UNREACHABLE: &str = "engine_unreachable";
/// It belongs to something that restarts it by itself.
pub const MANAGED: &str = "container_managed";
/// Its details did not come.
pub const UNREADABLE: &str = "container_unreadable";

/// A placeholder of its `discover` table stands for nothing here.
pub const UNSET: &str = "placeholder_unset";

/// The codes of findings about containers.
pub(super) const CODES: &[Code] = &[
    Code::new(MISSING, Grace::Activating, Can::Critical),
    Code::new(EXITED, Grace::Activating, Can::Critical),
    Code::new(DEAD, Grace::Activating, Can::Critical),
    Code::new(CREATED, Grace::Activating, Can::Critical),
    Code::new(UNHEALTHY, Grace::None, Can::Critical),
    Code::new(GHOST, Grace::None, Can::Critical),
    Code::new(RESTARTING, Grace::None, Can::Critical),
    Code::new(RESTARTED, Grace::None, Can::Warning),
    Code::new(PAUSED, Grace::None, Can::Warning),
    Code::new(LEFTOVER, Grace::None, Can::Warning),
    Code::new(NETWORK_LOST, Grace::None, Can::Critical),
    Code::new(ENGINE_UNREACHABLE, Grace::None, Can::Unknown),
    Code::new(MANAGED, Grace::None, Can::Unknown),
    Code::new(UNREADABLE, Grace::None, Can::Unknown),
    Code::new(UNSET, Grace::None, Can::Unknown),
];

/// So long Compose may take to re-create a container, the stop of the old one included; what stands beside it for longer was
/// left behind.
const RECREATION: TimeDelta = TimeDelta::minutes(5);

/// As the engine calls one that somebody has paused.
const PAUSED_STATE: &str = "paused";

/// What is remembered of a container from run to run, and reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// Its name.
    pub name: String,
    /// Its id: another one after it was re-created.
    pub id: String,
    /// The image, as it was named.
    pub image: String,
    /// created, running, paused, restarting, removing, exited, dead, and what an engine has beside.
    pub state: String,
    /// What its own check found; absent: it has none.
    pub health: Option<String>,
    /// How often the engine itself has restarted it.
    pub restart_count: u64,
    /// When it was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// The PID namespace in which a run found its main process by the engine's PID, by the inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
}

/// What looking at a service's container gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a person should know although nothing is wrong.
    pub notes: Vec<String>,
    /// That the engine, or Compose, is busy with it, and how: then nobody else should be.
    pub activating: Option<String>,
    /// That Compose re-creates it: then nothing is restarted, whatever is wrong.
    pub recreating: Option<String>,
    /// Why it is not to be restarted, whatever is wrong.
    pub left_alone: Option<String>,
    /// Nor by a command, which may make anew what is not there.
    pub is_not_to_be_touched: bool,
    /// Whether it runs, is known not to, or could not be seen.
    pub presence: Presence,
    /// What to remember; absent: what was remembered stands.
    pub last_seen: Option<Arc<LastSeen>>,
}

impl Seen {
    /// Why the logs and probes of its service are not judged: it is paused, or was so when it was looked at last, and has had
    /// no time to write or answer since.
    pub fn unjudged(&self, before: Option<&LastSeen>) -> Option<String> {
        let now = self.last_seen.as_ref()?;
        let not_judged = "its logs and probes are not judged";
        if now.state == PAUSED_STATE {
            return Some(format!("{not_judged} while {} is paused", now.name));
        }
        let was_paused = before.is_some_and(|it| it.id == now.id && it.state == PAUSED_STATE);
        was_paused.then(|| {
            format!(
                "{not_judged} in this run: {} was paused until now",
                now.name
            )
        })
    }

    /// Notes what of its `discover` table it lacks while it runs: what is not known of it is no reason to restart it.
    pub fn lacks(&mut self, unset: &[String]) {
        if unset.is_empty() || !matches!(self.presence, Presence::Up(_)) {
            return;
        }
        for why in unset {
            self.found(UNSET, Severity::Unknown, why.clone());
        }
        let why = "what its `discover` table says cannot be filled in, so it is left alone";
        self.left_alone.get_or_insert_with(|| why.to_owned());
    }

    /// Notes what became of the network that it shares with another one.
    pub fn lost_network(&mut self, loss: &network::Loss) {
        match loss {
            network::Loss::Restart(why) => self.found(NETWORK_LOST, Severity::Critical, why),
            network::Loss::Remake(why) => {
                self.found(NETWORK_LOST, Severity::Critical, why);
                self.left_alone.get_or_insert_with(|| {
                    "a restart does not give it back its network, so it is left alone".to_owned()
                });
            }
            network::Loss::BeingMade(why) => {
                self.activating.get_or_insert_with(|| why.clone());
            }
        }
    }

    fn found(&mut self, code: &'static str, severity: Severity, message: impl Into<String>) {
        let finding = Finding::new(super::Kind::Container, code, severity, message);
        self.findings.push(finding);
    }
}
