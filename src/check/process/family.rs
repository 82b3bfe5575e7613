//! The processes around a main process: by them it is known who may start it again, and what it leaves behind when it ends.

use serde::{Deserialize, Serialize};

use super::{Identity, LastSeen};
use crate::clock::Reading;
use crate::process_table::{self, Process, ProcessState, ProcessTable, Stat};

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
    // mostly whoever leads it lives, as the shell or the cron that started it: then nobody else need be looked at, which
    // a thousand services that are seen for the first time would do with all processes each
    let is_led_by_another = |leader: i32, is_in: fn(&Stat, i32) -> bool| {
        process_table::stat(leader).is_ok_and(|other| {
            other.state != ProcessState::Zombie
                && is_in(&other, leader)
                && !descends_to(leader, main.pid, |pid| {
                    process_table::stat(*pid).ok().map(|stat| stat.parent)
                })
        })
    };
    if is_led_by_another(stat.group, |other, leader| other.group == leader)
        && is_led_by_another(stat.session, |other, leader| other.session == leader)
    {
        return (None, None);
    }
    let Ok(others) =
        process_table::living(|other| other.group == stat.group || other.session == stat.session)
    else {
        return (None, None);
    };
    let parent = |pid: &i32| {
        let known = others.iter().find(|(other, _)| other == pid);
        let stat = known.map(|(_, stat)| *stat);
        let stat = stat.or_else(|| process_table::stat(*pid).ok())?;
        Some(stat.parent)
    };
    let descends = |pid: i32| descends_to(pid, main.pid, parent);
    let is_own = |is_in: &dyn Fn(&Stat) -> bool| {
        let mut members = others.iter().filter(|(_, other)| is_in(other));
        members.all(|(pid, _)| descends(*pid))
    };
    (
        is_own(&|other| other.group == stat.group).then_some(stat.group),
        is_own(&|other| other.session == stat.session).then_some(stat.session),
    )
}

/// Whether a process is another, or descends from it.
fn descends_to(pid: i32, ancestor: i32, parent: impl Fn(&i32) -> Option<i32>) -> bool {
    let above = |pid: &i32| parent(pid).filter(|&parent| parent > 0);
    let mut line = std::iter::successors(Some(pid), above).take(256);
    line.any(|pid| pid == ancestor)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process_table::Lookup;

    fn look_up(pid: i32) -> Process {
        match ProcessTable::on_demand().process(pid) {
            Lookup::Found(process) => process,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_group_and_a_session_are_its_own_where_nobody_else_is_in_them() {
        // who leads them has ended
        let said = Command::new("setsid")
            .args(["sh", "-c", "sleep 61.7 >/dev/null 2>&1 & echo $!"])
            .output()
            .unwrap();
        let pid: i32 = String::from_utf8(said.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // they are those of this test
        let mut shared = Command::new("sleep").arg("61.9").spawn().unwrap();
        // who leads them waits for it
        let mut led = Command::new("setsid")
            .args(["sh", "-c", "sleep 61.8 >/dev/null & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(led.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        let below: i32 = line.trim().parse().unwrap();

        let main = look_up(pid);
        let found = [pid, i32::try_from(shared.id()).unwrap(), below]
            .map(|pid| own_group_and_session(&look_up(pid)));
        for pid in [pid, below] {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        shared.kill().unwrap();
        for child in [&mut shared, &mut led] {
            child.wait().unwrap();
        }
        let own = (Some(main.group), Some(main.group));
        assert_eq!(found, [own, (None, None), (None, None)]);
    }

    #[test]
    fn who_descends_to_whom() {
        // each to the next lower number
        let parent = |pid: &i32| Some(pid - 1);
        for (pid, ancestor, descends) in [
            (5, 5, true),
            (5, 2, true),
            (2, 5, false),
            (5, 0, false),
            (400, 2, false),
        ] {
            assert_eq!(
                descends_to(pid, ancestor, parent),
                descends,
                "{pid} {ancestor}"
            );
        }
    }
}
