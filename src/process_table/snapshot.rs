//! The command lines of all processes, read at once and searched at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::index::Index;
use super::needles::{Needle, Needles};
use super::proc::{
    CommandLine, Ends, Stat, append_command, is_forbidden, is_gone, kernel_threads, listed,
    settled_command, stat, ticks_per_second,
};
use super::{Known, ProcessTable};

/// So many searches are made without an index. To make one takes as many instructions as 37 searches for a short text,
/// but as 3 to 7 for one of more than 32 bytes, which memchr finds harder: this is in between, and a dozen services
/// never pay for it.
const SEARCHES_WITHOUT_INDEX: usize = 16;

/// How long a scan during a restart may take.
const SCAN_LIMIT: Duration = Duration::from_secs(10);

/// The command lines of all processes, and what was looked up of them since.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// All of them, each with a zero behind it: searching them at once is far cheaper than one by one.
    text: Vec<u8>,
    /// By PID: where each begins and ends in `text`.
    places: Vec<(i32, usize, usize)>,
    /// By PID: where the arguments end of those that have one with a blank in it.
    ends: BTreeMap<i32, Ends>,
    /// Those without a command line: threads of the kernel, zombies, and whoever was in the middle of an exec. They are
    /// looked at again where what is searched for is not found.
    pub(super) without_arguments: Vec<i32>,
    /// When it began, in clock ticks since boot.
    began: u64,
    parents: Mutex<HashMap<i32, Option<i32>>>,
    /// How often it was searched.
    searches: AtomicUsize,
    /// Of `text`, where it was searched often enough; none where that is too long.
    index: OnceLock<Option<Index>>,
}

impl Snapshot {
    /// A snapshot of all processes but the skipped ones, and why one that runs may be missing in it. What is read at the
    /// moment stands in `reading`.
    pub(super) fn take(scan: &Scan) -> (Self, Option<String>) {
        let began =
            nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
                let millis = Duration::from(time).as_millis();
                u64::try_from(millis).unwrap_or_default() * ticks_per_second() / 1000
            });
        let mut unread = scan.skipped();
        let mut pids = listed().unwrap_or_else(|error| {
            unread = Some(format!("/proc cannot be read: {error}"));
            Vec::new()
        });
        pids.sort_unstable();
        let mut without_arguments = kernel_threads();
        without_arguments.sort_unstable();
        pids.retain(|pid| without_arguments.binary_search(pid).is_err());
        let mut text = Vec::new();
        let mut places = Vec::new();
        let mut all_ends = BTreeMap::new();
        let mut buffer = vec![0; 4096];
        for pid in pids {
            if scan.skip.contains(&pid) {
                continue;
            }
            scan.reading.store(pid, Ordering::Relaxed);
            let start = text.len();
            match append_command(pid, &mut buffer, &mut text) {
                Ok(ends) if text.len() > start => {
                    if !ends.is_empty() {
                        all_ends.insert(pid, ends);
                    }
                    places.push((pid, start, text.len()));
                    text.push(0);
                }
                Ok(_) => without_arguments.push(pid),
                Err(error) if is_gone(&error) || is_forbidden(&error) => {}
                Err(error) => {
                    unread.get_or_insert_with(|| format!("/proc/{pid} cannot be read: {error}"));
                }
            }
        }
        let snapshot = Self {
            text,
            places,
            ends: all_ends,
            without_arguments,
            began,
            ..Self::default()
        };
        (snapshot, unread)
    }

    pub(super) fn parent(&self, pid: i32) -> Option<i32> {
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        *parents
            .entry(pid)
            .or_insert_with(|| stat(pid).ok().map(|stat| stat.parent))
    }

    /// The command line of a process that has just been looked at.
    pub(super) fn command(&self, pid: i32, stat: &Stat) -> io::Result<CommandLine> {
        // one that began later has the PID of one that has ended since
        match self.places.binary_search_by_key(&pid, |place| place.0) {
            Ok(index) if stat.start < self.began => {
                let (_, from, to) = self.places[index];
                Ok(CommandLine {
                    text: self.text[from..to].to_vec(),
                    ends: self.ends.get(&pid).cloned().unwrap_or_default(),
                })
            }
            _ => settled_command(pid, stat),
        }
    }

    /// The index of the text, once it was searched often enough.
    fn index(&self) -> Option<&Index> {
        if self.searches.fetch_add(1, Ordering::Relaxed) < SEARCHES_WITHOUT_INDEX {
            return None;
        }
        let made = self.index.get_or_init(|| Index::of(&self.text));
        made.as_ref()
    }

    /// The PIDs of wanted command lines, in order.
    pub(super) fn matching(
        &self,
        needles: &Needles<'_>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> impl Iterator<Item = i32> {
        let (few, all) = match self.candidates(needles) {
            Some(few) => (few, 0..0),
            None => (Vec::new(), 0..self.places.len()),
        };
        few.into_iter()
            .chain(all)
            .filter_map(|place| self.places.get(place))
            .filter(move |&&(_, start, end)| wanted(&self.text[start..end]))
            .map(|place| place.0)
    }

    /// Which of the places may be those of wanted command lines, in order; none where that may be all of them.
    fn candidates(&self, needles: &Needles<'_>) -> Option<Vec<usize>> {
        needles.choices().next()?;
        let by_index = self.index().and_then(|index| {
            let counted = needles
                .choices()
                .filter_map(|choice| Some((index.count(choice, &self.text)?, choice)));
            let (_, choice) = counted.min_by_key(|(count, _)| *count)?;
            Some((index, choice))
        });
        let mut found = Vec::new();
        match by_index {
            Some((index, choice)) => {
                for needle in choice {
                    let places = index.find(*needle, &self.text)?;
                    found.extend(places.map(|at| self.place_at(0, at)));
                }
            }
            None => {
                for needle in needles.rarest()? {
                    self.search(needle, &mut found);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// Which place a byte of the text belongs to, from one on: the zero behind it as well. What is found across the end of
    /// one is in none.
    fn place_at(&self, from: usize, at: usize) -> usize {
        from + self.places[from..].partition_point(|place| place.2 < at)
    }

    /// The places with a text that stands there as it is.
    fn search(&self, needle: &Needle<'_>, found: &mut Vec<usize>) {
        let finder = Finder::new(needle.text);
        let mut place = 0;
        while let Some(&(_, start, _)) = self.places.get(place)
            && let Some(at) = finder.find(&self.text[start..])
        {
            place = self.place_at(place, start + at);
            found.push(place);
            place += 1;
        }
    }
}

/// Reading the command line of a process blocks while the kernel holds a lock on its memory, in the worst case for ever.
/// One such process must not hide all others: a scan that has not ended in time is made again without the one that it was
/// reading.
#[derive(Debug, Default)]
pub struct Scan {
    /// Processes that earlier scans did not get past.
    skip: Vec<i32>,
    /// The one that is being read.
    reading: AtomicI32,
}

/// So many processes are skipped at the most: each has cost a share of the time, and leaves a thread behind.
const MOST_SKIPPED: usize = 4;

impl Scan {
    /// Reads the command lines of all processes but the skipped ones.
    pub fn run(&self) -> ProcessTable {
        ProcessTable::of_scan(self)
    }

    /// The scan to make where this one has not ended in time.
    fn without_the_one_it_reads(&self) -> Self {
        let mut skip = self.skip.clone();
        skip.push(self.reading.load(Ordering::Relaxed));
        Self {
            skip,
            reading: AtomicI32::default(),
        }
    }

    /// Why a process may be missing: those that were skipped.
    fn skipped(&self) -> Option<String> {
        let pids: Vec<String> = self.skip.iter().map(ToString::to_string).collect();
        (!pids.is_empty()).then(|| {
            format!(
                "the command line of PID {} cannot be read: the read does not return",
                pids.join(", ")
            )
        })
    }
}

/// Scans all processes within `limit`, as `run` does it, which has to give back an error where its own limit is over.
/// Half of the time is for the first scan, half of what is left for each that skips one process more.
pub fn scan_within<E>(
    limit: Duration,
    mut run: impl FnMut(Arc<Scan>, Duration) -> Result<ProcessTable, E>,
) -> Result<ProcessTable, E> {
    let mut scan = Arc::new(Scan::default());
    let mut share = limit / 2;
    loop {
        match run(Arc::clone(&scan), share) {
            Err(_) if scan.skip.len() < MOST_SKIPPED => {
                scan = Arc::new(scan.without_the_one_it_reads());
                share /= 2;
            }
            scanned => return scanned,
        }
    }
}

/// Snapshots for many who want one at about the same time: as fresh as one of one's own, for it was begun after it was
/// asked for, but one at a time, and one for all who have waited for the one before to end.
#[derive(Debug, Default)]
pub struct SharedSnapshots {
    latest: Mutex<Option<(Instant, Arc<ProcessTable>)>>,
}

impl SharedSnapshots {
    /// The processes as they are now.
    pub fn ask(&self) -> Arc<ProcessTable> {
        let asked = Instant::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, table)) = &*latest
            && *begun >= asked
        {
            return Arc::clone(table);
        }
        let begun = Instant::now();
        let table = scan_within(SCAN_LIMIT, |scan, limit| {
            let (sender, scanned) = mpsc::channel();
            let thread = thread::Builder::new().name("scan".to_owned());
            thread
                // nobody who waits any more, no matter
                .spawn(move || drop(sender.send(scan.run())))
                .map_err(|_| ())?;
            scanned.recv_timeout(limit).map_err(|_| ())
        });
        let table = Arc::new(table.unwrap_or_else(|()| unscanned()));
        *latest = Some((begun, Arc::clone(&table)));
        table
    }
}

/// What is known where no scan has ended in time: any process may be running that is not seen.
fn unscanned() -> ProcessTable {
    ProcessTable::with(
        Known::Commands(Box::default()),
        nix::unistd::getpid().as_raw(),
        BTreeSet::new(),
    )
    .with_gap("the process table did not answer in time".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{self, select};

    use super::super::{Lookup, Process};
    use super::*;

    /// Scans where reading the command line of each of `hung` blocks, with the skipped PIDs of each.
    fn scans(hung: &[i32]) -> (Vec<Vec<i32>>, Vec<Duration>, Result<ProcessTable, ()>) {
        let (mut made, mut limits) = (Vec::new(), Vec::new());
        let scanned = scan_within(Duration::from_secs(8), |scan, limit| {
            made.push(scan.skip.clone());
            limits.push(limit);
            match hung.iter().find(|pid| !scan.skip.contains(pid)) {
                Some(&pid) => {
                    scan.reading.store(pid, Ordering::Relaxed);
                    Err(())
                }
                None => Ok(ProcessTable::on_demand()),
            }
        });
        (made, limits, scanned)
    }

    #[test]
    fn a_process_that_cannot_be_read_is_skipped_by_the_next_scan() {
        let secs = Duration::from_secs;
        let (made, limits, scanned) = scans(&[]);
        assert_eq!((made, limits), (vec![vec![]], vec![secs(4)]));
        assert!(scanned.is_ok());
        let (made, limits, scanned) = scans(&[7, 9]);
        assert_eq!(made, [vec![], vec![7], vec![7, 9]]);
        assert_eq!(limits, [secs(4), secs(2), secs(1)]);
        assert!(scanned.is_ok());
        let (made, limits, scanned) = scans(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(made.len(), 1 + MOST_SKIPPED);
        assert!(limits.iter().sum::<Duration>() < secs(8));
        assert!(scanned.is_err());
    }

    #[test]
    fn where_no_scan_ends_any_process_may_be_missing() {
        let look = |_| Lookup::Gone;
        let matches = unscanned().with_command(&Needles::NONE, 9, look, |_| true, |_| true);
        assert_eq!(matches.found, []);
        assert_eq!(
            matches.unread.unwrap(),
            "the process table did not answer in time"
        );
    }

    #[test]
    fn what_was_skipped_may_be_missing() {
        let me = nix::unistd::getpid().as_raw();
        let scan = Scan {
            skip: vec![me],
            ..Scan::default()
        };
        let table = scan.run();
        let own = std::fs::read("/proc/self/cmdline").unwrap();
        let program = own.split(|byte| *byte == 0).next().unwrap();
        let wanted = |command: &[u8]| command.starts_with(program);
        let look = |pid: i32| table.process(pid);
        let matches = table.with_command(&Needles::NONE, 99, look, wanted, |process| {
            process.pid == me
        });
        assert_eq!(matches.found, []);
        assert_eq!(
            matches.unread.unwrap(),
            format!("the command line of PID {me} cannot be read: the read does not return")
        );
    }

    #[test]
    fn a_snapshot_sees_what_a_full_scan_sees() {
        use std::process::{Command, Stdio};
        // a title with zeros behind it, an empty argument, and more than one buffer of arguments
        let long = "y".repeat(20_000);
        let mut children = [["1", ""], ["2", "a b"], ["3", &long]].map(|words| {
            Command::new("sh")
                .args(["-c", "echo; read line", "seen-in-snapshot"])
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        for child in &mut children {
            // it has become its program once it says something
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        }
        let pids = children
            .each_ref()
            .map(|child| i32::try_from(child.id()).unwrap());
        let ours = |process: &Process| pids.contains(&process.pid);
        let needle = Finder::new("seen-in-snapshot ");
        let needles = Needles::text(needle.needle());
        let wanted = |command: &[u8]| needle.find(command).is_some();
        let snapshot = ProcessTable::snapshot();
        let look = |pid: i32| snapshot.process_with_user(pid);
        let scanned_process = ProcessTable::full_scan()
            .with_command(&Needles::NONE, 99, look, wanted, ours)
            .found;
        let found_in_snapshot = snapshot
            .with_command(&needles, 99, look, wanted, ours)
            .found;
        let without_needle = snapshot
            .with_command(&Needles::NONE, 99, look, wanted, ours)
            .found;
        let most = snapshot.with_command(&needles, 2, look, wanted, ours).found;
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(scanned_process.len(), 3);
        assert!(
            scanned_process
                .iter()
                .any(|process| process.command.len() > 20_000)
        );
        assert_eq!(
            (&found_in_snapshot, &without_needle),
            (&scanned_process, &scanned_process)
        );
        assert_eq!(most, scanned_process[..2]);
    }

    #[test]
    fn a_pid_that_has_become_another_process_since_is_not_found() {
        let snapshot = snapshot_of(&["bot.py", "bot.py"], 0);
        let table = ProcessTable::with(
            Known::Commands(Box::new(snapshot)),
            99,
            std::collections::BTreeSet::new(),
        );
        let process = |pid: i32, command: &str| Process {
            pid,
            parent: 1,
            group: pid,
            state: super::super::ProcessState::Alive,
            start: 7,
            uid: None,
            command: command.as_bytes().to_vec(),
            ends: Box::default(),
            kernel: false,
        };
        let look = |pid: i32| {
            let command = if pid == 1 { "vi notes" } else { "bot.py" };
            Lookup::Found(process(pid, command))
        };
        let wanted = |command: &[u8]| command == b"bot.py";
        let found = table.with_command(&Needles::NONE, 9, look, wanted, |_| true);
        assert_eq!(found.found, [process(2, "bot.py")]);
    }

    #[test]
    fn one_that_is_hidden_concerns_those_searches_alone_that_it_matches() {
        let snapshot = snapshot_of(&["hidden.py"], 0);
        let table = ProcessTable::with(
            Known::Commands(Box::new(snapshot)),
            99,
            std::collections::BTreeSet::new(),
        );
        let look = |_| Lookup::Hidden("no".to_owned());
        let unread = |command: &[u8]| {
            let wanted = |its: &[u8]| its == command;
            table
                .with_command(&Needles::NONE, 9, look, wanted, |_| true)
                .unread
        };
        for (command, expected) in [
            (&b"other.py"[..], None),
            (b"hidden.py", Some("no")),
            // whatever was searched for before
            (b"other.py", None),
        ] {
            assert_eq!(unread(command).as_deref(), expected);
        }
        let table = table.with_gap("too few".to_owned());
        let found = table.with_command(&Needles::NONE, 9, look, |_| false, |_| true);
        assert_eq!(found.unread.as_deref(), Some("too few"));
    }

    #[test]
    fn what_a_snapshot_holds_is_not_read_again() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "echo; read line; exec sleep 60", "seen"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let seen = || match ProcessTable::snapshot().process(pid) {
            Lookup::Found(process) => process.command,
            other => panic!("{other:?}"),
        };
        // begun in a later clock tick than the process
        let start = stat(pid).unwrap().start;
        let is_later = |table: &ProcessTable| matches!(&table.known, Known::Commands(snapshot) if snapshot.began > start);
        let snapshot = (0..10_000)
            .map(|_| ProcessTable::snapshot())
            .find(is_later)
            .unwrap();
        let before = seen();
        drop(child.stdin.take());
        let end = Instant::now() + Duration::from_secs(60);
        while seen() == before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_ne!(seen(), before);
        let Lookup::Found(process) = snapshot.process(pid) else {
            panic!("not found");
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(process.command, before);
    }

    /// A snapshot of processes 1, 2, ... that was searched `searches` times.
    fn snapshot_of<T: AsRef<[u8]>>(commands: &[T], searches: usize) -> Snapshot {
        let mut snapshot = Snapshot {
            searches: searches.into(),
            ..Snapshot::default()
        };
        for (pid, command) in (1..).zip(commands) {
            let start = snapshot.text.len();
            snapshot.text.extend_from_slice(command.as_ref());
            snapshot.places.push((pid, start, snapshot.text.len()));
            snapshot.text.push(0);
        }
        snapshot
    }

    #[test]
    fn command_lines_are_searched_one_by_one_and_all_at_once_alike() {
        // so much that two or three of anything are rare
        let long = "x".repeat(20 * 64);
        let commands = [
            "worker 1",
            "worker",
            "k",
            "worker 12",
            "1 worker",
            "12",
            &long,
            "er 1",
        ];
        let searched = |searches: usize| snapshot_of(&commands, searches);
        for (text, pids, is_in_index) in [
            ("worker 1", &[1, 4][..], true),
            ("worker", &[1, 2, 4, 5], true),
            ("er 1", &[1, 4, 8], true),
            ("12\0x", &[], true),
            ("rker\0k\0", &[], true),
            ("\0er 1", &[], true),
            ("er 1\0", &[], true),
            ("nowhere", &[], true),
            ("xxxx", &[7], false),
            ("k", &[1, 2, 3, 4, 5], false),
            ("12", &[4, 6], false),
            ("12\0", &[], false),
            ("", &[1, 2, 3, 4, 5, 6, 7, 8], false),
        ] {
            let needle = Finder::new(text);
            let needles = Needles::text(text.as_bytes());
            let wanted = |command: &[u8]| needle.find(command).is_some();
            let one_by_one: Vec<i32> = searched(0).matching(&Needles::NONE, wanted).collect();
            assert_eq!(one_by_one, pids, "{text:?}");
            for searches in [0, SEARCHES_WITHOUT_INDEX] {
                let snapshot = searched(searches);
                let at_once: Vec<i32> = snapshot.matching(&needles, wanted).collect();
                assert_eq!(at_once, pids, "{text:?} after {searches}");
            }
            let (index, text) = (Index::of(&searched(0).text).unwrap(), &searched(0).text);
            let mut choices = needles.choices();
            let is_found = choices.any(|choice| index.count(choice, text).is_some());
            assert_eq!(is_found, is_in_index, "{needles:?}");
        }
    }

    #[test]
    fn of_several_choices_the_one_that_fewest_have_is_searched_for() {
        let servers: Vec<String> = (0..200)
            .map(|number| format!("java -jar App-{number:03}.jar"))
            .collect();
        let snapshot = snapshot_of(&servers, SEARCHES_WITHOUT_INDEX);
        let needle = |text: &'static str, any_case| Needle {
            text: text.as_bytes(),
            any_case,
        };
        for (choices, looked_at) in [
            // the longer one is in all of them
            (
                vec![
                    vec![needle("java -jar App-", false)],
                    vec![needle("017.", false)],
                ],
                1,
            ),
            (vec![vec![needle("017.", false), needle("018.", false)]], 2),
            (vec![vec![needle("app-017", true)]], 1),
            (vec![vec![needle("app-017", false)]], 0),
            // one that is too short for the index: 017, 117, 170 to 179
            (vec![vec![needle("017.", false), needle("17", false)]], 12),
            (vec![vec![needle("17", true)]], 200),
            (vec![], 200),
        ] {
            let needles = Needles::of(choices);
            let found = snapshot.matching(&needles, |_| true).count();
            assert_eq!(found, looked_at, "{needles:?}");
        }
    }

    #[test]
    fn an_index_is_made_once_many_have_searched() {
        let snapshot = snapshot_of(&["worker 1"], 0);
        let needles = Needles::text(b"worker");
        for searches in 0..3 * SEARCHES_WITHOUT_INDEX {
            let is_made = snapshot.index.get().is_some();
            assert_eq!(is_made, searches > SEARCHES_WITHOUT_INDEX, "{searches}");
            // who has no needle is not helped by it
            assert_eq!(snapshot.matching(&Needles::NONE, |_| true).count(), 1);
            assert_eq!(snapshot.matching(&needles, |_| true).count(), 1);
        }
    }

    /// Bytes of so few kinds that most needles are found, now and then across the end of a command line.
    fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        vec(select(b"abB\0".to_vec()), length)
    }

    proptest! {
        #[test]
        fn an_index_finds_what_a_search_finds(
            mut commands in vec(bytes(1..12), 0..12),
            needles in vec((bytes(0..9), any::<sample::Index>(), 0..20_usize), 1..8),
            (filler, most, any_case) in (any::<sample::Index>(), 0..12_usize, any::<bool>()),
        ) {
            // so much that what else there is is rare
            commands.insert(filler.index(commands.len() + 1), vec![b'x'; 4000]);
            let plain = snapshot_of(&commands, 0);
            let indexed = snapshot_of(&commands, SEARCHES_WITHOUT_INDEX);
            let of_text = |at: &sample::Index, length: usize| {
                let from = at.index(plain.text.len());
                plain.text[from..].iter().take(length).copied().collect()
            };
            let parts: Vec<Vec<u8>> = needles.iter().map(|(_, at, length)| of_text(at, *length)).collect();
            for needle in needles.iter().map(|(needle, ..)| needle).chain(&parts) {
                let needles = Needles::of([[Needle { text: needle, any_case }]]);
                let wanted = |command: &[u8]| {
                    (0..=command.len()).any(|at| Needle { text: needle, any_case }.begins(&command[at..]))
                };
                let among = |snapshot: &Snapshot, needles: &Needles<'_>| -> Vec<i32> {
                    snapshot.matching(needles, wanted).take(most).collect()
                };
                let one_by_one = among(&plain, &Needles::NONE);
                prop_assert_eq!(&among(&plain, &needles), &one_by_one);
                prop_assert_eq!(&among(&indexed, &needles), &one_by_one);
                // nor is anything else looked at
                let looked_at = |snapshot: &Snapshot| -> Vec<i32> {
                    snapshot.matching(&needles, |_| true).collect()
                };
                if !any_case {
                    prop_assert_eq!(looked_at(&indexed), looked_at(&plain));
                }
            }
        }
    }

    #[test]
    fn a_shared_snapshot_is_never_older_than_the_request_for_it() {
        let snapshots = SharedSnapshots::default();
        let mut known = Vec::new();
        for _ in 0..3 {
            let mut child = std::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let sees = |table: &ProcessTable| {
                let look = |pid: i32| table.process(pid);
                let found =
                    table.with_command(&Needles::NONE, 1, look, |_| true, |found| found.pid == pid);
                !found.found.is_empty()
            };
            std::thread::scope(|scope| {
                for asking in [(); 8].map(|()| scope.spawn(|| snapshots.ask())) {
                    let table = asking.join().unwrap();
                    assert!(sees(&table), "begun after it was asked for");
                    known.push(table);
                }
            });
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!sees(&snapshots.ask()));
        }
    }
}
