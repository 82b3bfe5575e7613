//! What need not be asked for: details of a container that is surely as it was seen last.
//!
//! Whether it still runs, whether it is paused and what its own check found is in the list. When it was started, and how
//! often, cannot have changed while its main process is the same.

use chrono::{DateTime, Utc};

use super::LastSeen;
use crate::client::engine::Listed;

/// A container that is as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchanged {
    /// Its id.
    pub id: String,
    /// Its main process.
    pub pid: i32,
    /// When it was started last.
    pub started_at: Option<DateTime<Utc>>,
}

/// Whether the list has a container as it was seen last: it runs, and nothing is wrong with it. One that shares a network
/// is never so, for it depends on another.
pub(super) fn is_as_before(container: &Listed, known: &LastSeen) -> bool {
    let is_well = |health: Option<&str>| matches!(health, None | Some("healthy"));
    container.id == known.id
        && container.name() == known.name
        && container.state == "running"
        && known.state == "running"
        && known.started_at.is_some()
        && health(&container.status) == known.health.as_deref()
        && is_well(known.health.as_deref())
        && !container.host.network_mode.is_empty()
        && !container.host.network_mode.starts_with("container:")
}

/// What the sentence of a list says of a container's own check: `Up 3 minutes (healthy)`.
fn health(status: &str) -> Option<&str> {
    let (_, said) = status.strip_suffix(')')?.rsplit_once('(')?;
    Some(said.strip_prefix("health: ").unwrap_or(said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn only_what_runs_well_as_it_was_seen_last_is_unchanged() {
        let known = LastSeen {
            name: "web".to_owned(),
            id: "a1".to_owned(),
            state: "running".to_owned(),
            started_at: Some(at(-900)),
            ..LastSeen::default()
        };
        let with = |health: Option<&str>| LastSeen {
            health: health.map(str::to_owned),
            ..known.clone()
        };
        let mut listed = Listed {
            id: "a1".to_owned(),
            names: vec!["/web".to_owned()],
            state: "running".to_owned(),
            status: "Up 15 minutes".to_owned(),
            ..Listed::default()
        };
        "bridge".clone_into(&mut listed.host.network_mode);
        let said = |status: &str| Listed {
            status: status.to_owned(),
            ..listed.clone()
        };
        let mode = |mode: &str| {
            let mut container = listed.clone();
            mode.clone_into(&mut container.host.network_mode);
            container
        };
        for (container, known, unchanged) in [
            (listed.clone(), known.clone(), true),
            (said("Up 2 days (healthy)"), with(Some("healthy")), true),
            // the list of this engine has no checks in it
            (said("Up 2 days"), with(Some("healthy")), false),
            (said("Up 2 days (healthy)"), with(None), false),
            (said("Up 2 days (unhealthy)"), with(Some("healthy")), false),
            // what it said last is shown
            (
                said("Up 2 days (unhealthy)"),
                with(Some("unhealthy")),
                false,
            ),
            (
                said("Up 5 s (health: starting)"),
                with(Some("starting")),
                false,
            ),
            (
                Listed {
                    id: "b2".to_owned(),
                    ..listed.clone()
                },
                known.clone(),
                false,
            ),
            (
                Listed {
                    names: vec!["/other".to_owned()],
                    ..listed.clone()
                },
                known.clone(),
                false,
            ),
            (
                Listed {
                    state: "paused".to_owned(),
                    ..said("Up 15 minutes (Paused)")
                },
                known.clone(),
                false,
            ),
            (
                listed.clone(),
                LastSeen {
                    state: "paused".to_owned(),
                    ..known.clone()
                },
                false,
            ),
            (
                listed.clone(),
                LastSeen {
                    started_at: None,
                    ..known.clone()
                },
                false,
            ),
            (mode("container:a2"), known.clone(), false),
            // an engine whose list does not say it
            (mode(""), known.clone(), false),
        ] {
            let found = is_as_before(&container, &known);
            assert_eq!(found, unchanged, "{container:?} {known:?}");
        }
    }
}
