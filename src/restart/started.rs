//! A child that a restart has started.

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, ExitStatus};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::check::process::Identity;
use crate::clock::Reading;
use crate::process_table;

/// A program that was started as the leader of a session, and what it leaves behind in its group.
#[derive(Debug)]
pub(super) struct StartedChild {
    child: Child,
    pid: i32,
    /// The members of its group when it had ended and was not collected yet: so long its number was nobody else's.
    left: BTreeSet<(i32, u64)>,
}

impl StartedChild {
    /// Takes charge of a child that has just been started.
    pub(super) fn new(child: Child) -> Result<Self, String> {
        let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        Ok(Self {
            child,
            pid,
            left: BTreeSet::new(),
        })
    }

    /// Its PID.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Collects it if it has ended, and takes note of whom it leaves behind.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // one that was collected already is none to wait for
        match waitid(Id::Pid(Pid::from_raw(self.pid)), flags) {
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) => {
                let members = process_table::group_members(self.pid).unwrap_or_default();
                let known = members.into_iter().map(|(pid, stat)| (pid, stat.start));
                self.left = known.collect();
            }
            Err(_) => {}
        }
        self.child.try_wait()
    }

    /// Which process it is, while it lives.
    pub(super) fn living(&mut self) -> Option<Identity> {
        let lives = matches!(self.try_wait(), Ok(None));
        let stat = process_table::stat(self.pid).ok().filter(|_| lives)?;
        Some(Identity {
            pid: self.pid,
            start: stat.start,
            boot_id: Reading::take().boot_id,
        })
    }

    /// What still lives of its group, now that it has been collected. While one that it left behind lives, the group's
    /// number is given to nobody else, so that all in it are its own.
    pub(super) fn leftovers(&self) -> io::Result<Vec<Identity>> {
        let members = process_table::group_members(self.pid)?;
        let is_its_own =
            |(pid, stat): &(i32, process_table::Stat)| self.left.contains(&(*pid, stat.start));
        if !members.iter().any(is_its_own) {
            return Ok(Vec::new());
        }
        let members = members.into_iter().map(|(pid, stat)| Identity {
            pid,
            start: stat.start,
            boot_id: "".into(),
        });
        Ok(members.collect())
    }
}
