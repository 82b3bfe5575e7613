//! The processes around a main process: by them it is known who may start it again, and what it leaves behind when it ends.

use serde::{Deserialize, Serialize};

use super::{Identity, LastSeen};
use crate::clock::Reading;
use crate::process_table::{self, Process, ProcessTable, Stat};

/// So many children are remembered: more workers than a server has.
const CHILDREN_LIMIT: usize = 512;

/// The processes around a main process, as it was last seen alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Family {
    /// Its parent, where that is neither init nor the watchdog: it may start the service again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Identity>,
    /// The process group that it is in and does not lead, where all who are in it descend from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<i32>,
    /// Its session, where all who are in it descend from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<i32>,
    /// The children that its main thread has forked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Identity>,
}

impl Family {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is around a main process that lives. `former` is what was remembered of it or of another.
    pub(super) fn of(
        main: &Process,
        former: &LastSeen,
        table: &ProcessTable,
        now: &Reading,
    ) -> Self {
        let identity = |pid: i32, start: u64| Identity {
            pid,
            start,
            boot_id: now.boot_id.clone(),
        };
        let same = former.main.as_ref() == Some(&identity(main.pid, main.start));
        let known = &former.family;
        // one that leads its group is known by that, and most have no children at all
        let is_settled = same && main.group == main.pid && known.children.is_empty();
        let children = if is_settled {
            Vec::new()
        } else {
            let pids = table.children(main.pid).into_iter();
            let known_start = |pid: i32| {
                let mut known = known.children.iter().filter(|_| same);
                known
                    .find(|child| child.pid == pid)
                    .map(|child| child.start)
            };
            let with_start = |pid: i32| {
                let start = known_start(pid).or_else(|| table.start_of(pid))?;
                Some(identity(pid, start))
            };
            pids.take(CHILDREN_LIMIT).filter_map(with_start).collect()
        };
        // a parent that ends hands its children on, and no other takes them
        let parent = match &known.parent {
            Some(parent) if same && parent.pid == main.parent => known.parent.clone(),
            _ if main.parent == table.me() || process_table::is_init(main.parent) => None,
            _ => (table.start_of(main.parent)).map(|start| identity(main.parent, start)),
        };
        let (group, session) = if same {
            (known.group, known.session)
        } else if main.group == main.pid {
            (None, leads_session(main).then_some(main.pid))
        } else {
            own_group_and_session(main)
        };
        Self {
            parent,
            group,
            session,
            children,
        }
    }
}

fn leads_session(main: &Process) -> bool {
    process_table::stat(main.pid)
        .is_ok_and(|stat| stat.start == main.start && stat.session == main.pid)
}

/// The group and the session of a process that leads neither, each where all who live in it descend from that process:
/// one that a script or cron has started shares them with others.
fn own_group_and_session(main: &Process) -> (Option<i32>, Option<i32>) {
    let Ok(stat) = process_table::stat(main.pid) else {
        return (None, None);
    };
    let Ok(others) =
        process_table::living(|other| other.group == stat.group || other.session == stat.session)
    else {
        return (None, None);
    };
    let parent = |pid: &i32| {
        let known = others.iter().find(|(other, _)| other == pid);
        let stat = known.map(|(_, stat)| *stat);
        let stat = stat.or_else(|| process_table::stat(*pid).ok())?;
        (stat.parent > 0).then_some(stat.parent)
    };
    let descends = |pid: i32| {
        let mut line = std::iter::successors(Some(pid), parent).take(256);
        line.any(|pid| pid == main.pid)
    };
    let is_own = |is_in: &dyn Fn(&Stat) -> bool| {
        let mut members = others.iter().filter(|(_, other)| is_in(other));
        members.all(|(pid, _)| descends(*pid))
    };
    (
        is_own(&|other| other.group == stat.group).then_some(stat.group),
        is_own(&|other| other.session == stat.session).then_some(stat.session),
    )
}
