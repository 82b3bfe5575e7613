//! What processes use: memory, processor time, threads and open files.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};

use super::proc::{is_forbidden, is_gone, listed, ticks_per_second};

/// What one process uses, as `/proc/PID/stat` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its PID.
    pub pid: i32,
    /// The PID of its parent.
    pub parent: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// The processor time that it has used, in microseconds.
    pub own_us: u64,
    /// The same of the children that have ended and that it has waited for, and of theirs.
    pub reaped_us: u64,
    /// How many threads it has.
    pub threads: u64,
    /// How much of its memory is resident, in bytes; what it shares with others counts whole.
    pub resident: u64,
}

/// What a process uses.
pub fn used(pid: i32) -> io::Result<Used> {
    let mut buffer = [0; 2048];
    let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    let parsed = parse(pid, &buffer[..length], ticks_per_second(), page_size());
    parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

/// Parses the line of `/proc/PID/stat`.
fn parse(pid: i32, line: &[u8], ticks: u64, page: u64) -> Option<Used> {
    let close = memchr::memrchr(b')', line)?;
    let fields: Vec<&str> = std::str::from_utf8(&line[close + 1..])
        .ok()?
        .split_ascii_whitespace()
        .collect();
    // numbered from 1 in proc(5); the third is the first behind the name
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    let count = |field: usize| Some(u64::try_from(number(field)?).unwrap_or_default());
    let micros = |first: usize| {
        let sum = count(first)?.saturating_add(count(first + 1)?);
        Some(sum.saturating_mul(1_000_000 / ticks.clamp(1, 1_000_000)))
    };
    Some(Used {
        pid,
        parent: i32::try_from(number(4)?).ok()?,
        own_us: micros(14)?,
        reaped_us: micros(16)?,
        threads: count(20)?,
        start: count(22)?,
        resident: count(24)?.saturating_mul(page),
    })
}

/// What all processes use, as of one instant.
#[derive(Debug)]
pub struct UsedByAll {
    all: Vec<Used>,
    children: HashMap<i32, Vec<usize>>,
}

impl UsedByAll {
    /// Reads it of each process, in one pass: `/proc/PID/task/TID/children` takes fewer calls for one service, and may
    /// leave a child out while another one ends. An error where one may have been missed.
    pub fn read() -> io::Result<Self> {
        let mut all = Vec::new();
        for pid in listed()? {
            match used(pid) {
                Ok(used) => all.push(used),
                Err(error) if is_gone(&error) || is_forbidden(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self::of(all))
    }

    fn of(all: Vec<Used>) -> Self {
        let mut children: HashMap<i32, Vec<usize>> = HashMap::new();
        for (place, used) in all.iter().enumerate() {
            children.entry(used.parent).or_default().push(place);
        }
        Self { all, children }
    }

    /// A process with all its descendants, itself first; nothing where it has ended, or the PID is another's.
    pub fn tree(&self, pid: i32, start: u64) -> Vec<Used> {
        let main = self.all.iter().find(|used| used.pid == pid);
        let Some(main) = main.filter(|main| main.start == start) else {
            return Vec::new();
        };
        let (mut tree, mut seen) = (vec![*main], BTreeSet::from([pid]));
        let mut next = 0;
        while let Some(parent) = tree.get(next).map(|used| used.pid) {
            next += 1;
            let children = self.children.get(&parent).into_iter().flatten();
            let children = children.map(|&place| self.all[place]);
            tree.extend(children.filter(|child| seen.insert(child.pid)));
        }
        tree
    }
}

/// How much of the memory of a process is resident, with what it shares counted by its share, in bytes.
pub fn proportional(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    // a zombie has no memory, and an empty file
    let kib = pss.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.unwrap_or_default().saturating_mul(1024))
}

/// How many files a process has open.
pub fn open_files(pid: i32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/fd");
    // since Linux 6.2 the size of the directory says so, and to everybody
    match fs::metadata(&path)?.len() {
        0 => Ok(fs::read_dir(path)?.count() as u64),
        count => Ok(count),
    }
}

/// How many files a process may have open: its soft limit; absent where there is none.
pub fn open_files_limit(pid: i32) -> io::Result<Option<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    Ok(soft_limit(&text))
}

fn soft_limit(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_name_is() {
        let line =
            b"7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 11 4 300 20 20 0 5 0 12345 9000000 250 \
            18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0";
        let used = parse(7, line, 100, 4096).unwrap();
        let expected = Used {
            pid: 7,
            parent: 1,
            start: 12345,
            own_us: 150_000,
            reaped_us: 3_200_000,
            threads: 5,
            resident: 250 * 4096,
        };
        assert_eq!(used, expected);
        for bad in ["", "7 (a", "7 (a) S 1", "7 (a) S x y"] {
            assert_eq!(parse(7, bad.as_bytes(), 100, 4096), None, "{bad}");
        }
    }

    fn process(pid: i32, parent: i32) -> Used {
        Used {
            pid,
            parent,
            start: 1,
            own_us: 0,
            reaped_us: 0,
            threads: 1,
            resident: 0,
        }
    }

    #[test]
    fn a_tree_is_a_process_and_all_below_it() {
        let pairs = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (9, 9), (3, 4)];
        let all = UsedByAll::of(pairs.map(|(pid, parent)| process(pid, parent)).to_vec());
        let tree = |pid, start| -> Vec<i32> {
            let tree = all.tree(pid, start);
            tree.iter().map(|used| used.pid).collect()
        };
        assert_eq!(tree(2, 1), [2, 3, 4]);
        assert_eq!(tree(5, 1), [5]);
        assert_eq!(tree(9, 1), [9]);
        assert_eq!(tree(2, 7), Vec::<i32>::new());
        assert_eq!(tree(77, 1), Vec::<i32>::new());
    }

    #[test]
    fn this_process_is_read() {
        let me = nix::unistd::getpid().as_raw();
        let own = used(me).unwrap();
        assert!(own.threads >= 1 && own.resident > 100_000, "{own:?}");
        let tree = UsedByAll::read().unwrap().tree(me, own.start);
        assert_eq!(tree[0].pid, me);
        assert!(proportional(me).unwrap() > 0);
        assert!(open_files(me).unwrap() >= 3);
        assert!(open_files_limit(me).unwrap().is_none_or(|limit| limit > 3));
        assert!(used(i32::MAX).is_err());
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(&limits.replace("1024", "unlimited")), None);
    }
}
