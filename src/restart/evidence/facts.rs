//! The first facts: what tells a deadlock, a hung connection, a full disk and a busy loop apart, in a sentence each. Pure.

use std::collections::BTreeMap;

use super::call::{Call, Wait};
use super::seen::{Process, Seen, Thread};
use crate::amount::rough_bytes;
use crate::clock::rough;
use crate::text::cut;

/// So many are told.
const FACTS: usize = 6;

/// So long is one of them at the most, in characters.
const LENGTH: usize = 400;

/// So many are told of the same kind.
const OF_A_KIND: usize = 2;

/// A thread that runs, or would if it had a processor, for so much of the time that it is watched for does nothing else, in
/// per cent.
const BUSY: u128 = 80;

/// And it has to have run for so much of it, in per cent.
const RAN: u128 = 5;

/// So many connections of a process that waits for events are named.
const CONNECTIONS: usize = 3;

/// The first facts of what was seen, the most telling first.
pub(super) fn facts(seen: &Seen) -> Vec<String> {
    let kinds: [Vec<String>; 5] = [
        full_disks(seen),
        of_each(seen, busy),
        of_each(seen, uninterruptible),
        of_each(seen, locks),
        of_each(seen, waits),
    ];
    let first = kinds.into_iter().flat_map(|of_kind| {
        let first: Vec<String> = of_kind.into_iter().take(OF_A_KIND).collect();
        first
    });
    first.take(FACTS).map(|fact| cut(&fact, LENGTH)).collect()
}

fn of_each(seen: &Seen, fact: impl Fn(&Process) -> Vec<String>) -> Vec<String> {
    // what is stopped or has ended waits for nothing
    let live = seen
        .processes
        .iter()
        .filter(|it| !"TtZX".contains(it.state));
    live.flat_map(fact).collect()
}

fn full_disks(seen: &Seen) -> Vec<String> {
    let sentence = |full: &super::seen::FullDisk| {
        let left = if full.no_inodes {
            "it has no inodes left".to_owned()
        } else {
            format!(
                "{} of {} are left",
                rough_bytes(full.left),
                rough_bytes(full.size)
            )
        };
        format!(
            "the file system of {} ({}) is full: {left}",
            full.file, full.whose
        )
    };
    seen.full.iter().map(sentence).collect()
}

/// `PID 4711 (python3)`.
fn who(process: &Process) -> String {
    format!("PID {} ({})", process.pid, process.name)
}

/// `thread 4712 (worker) of PID 4711 (python3)`.
fn which(process: &Process, thread: &Thread) -> String {
    if process.threads.count <= 1 {
        return who(process);
    }
    format!(
        "thread {} ({}) of {}",
        thread.tid,
        thread.name,
        who(process)
    )
}

/// A thread that only computes.
fn busy(process: &Process) -> Vec<String> {
    let watched = process.threads.watched;
    let percent = |time: std::time::Duration| {
        let whole = watched.as_millis();
        (whole > 0).then(|| time.as_millis() * 100 / whole)
    };
    let share = |thread: &Thread| {
        let used = thread.used?;
        let wanted = percent(used + thread.waited)?;
        percent(used).filter(|used| wanted >= BUSY && *used >= RAN)
    };
    let mut busy: Vec<(u128, &Thread)> = (process.threads.each.iter())
        .filter(|thread| !matches!(thread.call, Call::In { .. }))
        .filter_map(|thread| Some((share(thread)?, thread)))
        .collect();
    busy.sort_by_key(|(share, _)| std::cmp::Reverse(*share));
    let sentence = |(share, thread): &(u128, &Thread)| {
        let call = match thread.call {
            Call::Unknown => "",
            _ => ", in no system call",
        };
        let ready = match percent(thread.waited).filter(|_| *share < BUSY) {
            Some(waited) => format!(" (and waited for one {}% of the time)", waited.min(100)),
            None => String::new(),
        };
        format!(
            "{} computes{call}: it used {}% of a processor{ready} for {}, and {} of processor time since it began",
            which(process, thread),
            (*share).min(100),
            rough(watched),
            rough(thread.cpu)
        )
    };
    busy.iter().map(sentence).collect()
}

/// Threads that the kernel holds.
fn uninterruptible(process: &Process) -> Vec<String> {
    let mut held: BTreeMap<String, Vec<&Thread>> = BTreeMap::new();
    for thread in process.threads.each.iter().filter(|it| it.state == 'D') {
        let at = thread.channel.clone().unwrap_or_default();
        held.entry(at).or_default().push(thread);
    }
    let sentence = |(channel, threads): (String, Vec<&Thread>)| {
        let at = match &*channel {
            "" => String::new(),
            channel => format!(", in {channel}"),
        };
        format!(
            "{} in uninterruptible sleep (state D){at}: a disk or network share does not answer, and no signal ends it",
            are(process, &threads, "is", "are")
        )
    };
    held.into_iter().map(sentence).collect()
}

/// `PID 4711 (python3) is`, `3 threads of PID 4711 (python3) are`.
fn are(process: &Process, threads: &[&Thread], one: &str, several: &str) -> String {
    match threads {
        [thread] => format!("{} {one}", which(process, thread)),
        _ => format!("{} threads of {} {several}", threads.len(), who(process)),
    }
}

/// A process of which every thread waits for a lock.
fn locks(process: &Process) -> Vec<String> {
    let threads = &process.threads;
    let live = threads.each.iter().filter(|it| !"ZX".contains(it.state));
    let (waiting, others): (Vec<&Thread>, Vec<&Thread>) =
        live.partition(|thread| thread.waits_for_lock());
    if waiting.is_empty() || !others.is_empty() {
        return Vec::new();
    }
    let all = match (waiting.len(), threads.count) {
        (1, _) => format!("the only thread of {} waits", who(process)),
        (count, all) if all > threads.each.len() => format!(
            "all of the {count} threads of {} that were looked at, of {all}, wait",
            who(process)
        ),
        (count, _) => format!("all {count} threads of {} wait", who(process)),
    };
    vec![format!(
        "{all} for a lock or for each other (futex), and none does anything: that is what a deadlock looks like"
    )]
}

/// What threads wait for at descriptors.
fn waits(process: &Process) -> Vec<String> {
    let files = &process.files;
    let mut by_wait: BTreeMap<(u64, String, &str), Vec<&Thread>> = BTreeMap::new();
    let mut events: Vec<&Thread> = Vec::new();
    for thread in &process.threads.each {
        let (fd, what) = match thread.call.waits() {
            Some(Wait::Read(fd)) => (fd, "for something to read"),
            Some(Wait::Write(fd)) => (fd, "until it can write"),
            Some(Wait::Connect(fd)) => (fd, "for the other side to accept it"),
            Some(Wait::FileLock(fd)) => (fd, "for a lock on the file"),
            Some(Wait::Sync(fd)) => (fd, "for the disk"),
            Some(Wait::Events) => {
                events.push(thread);
                continue;
            }
            Some(Wait::Lock) | None => continue,
        };
        let call = thread.call.describe();
        by_wait.entry((fd, call, what)).or_default().push(thread);
    }
    let sentence = |((fd, call, what), threads): ((u64, String, &str), Vec<&Thread>)| {
        let waits = are(process, &threads, "waits", "wait");
        format!(
            "{waits} in {call} {what}: fd {fd} is {}",
            files.describe(fd)
        )
    };
    let mut sentences: Vec<String> = by_wait.into_iter().map(sentence).collect();
    // whom an event loop waits for is told only where few come into question
    let connections: Vec<String> = (files.each.iter())
        .filter_map(|(fd, file)| Some((fd, files.sockets.get(&file.socket()?)?)))
        .filter(|(_, socket)| socket.is_connected())
        .map(|(fd, socket)| format!("fd {fd} is {}", socket.describe()))
        .collect();
    if let Some(first) = events.first()
        && (1..=CONNECTIONS).contains(&connections.len())
    {
        sentences.push(format!(
            "{} in {} for events; its connections: {}",
            are(process, &events, "waits", "wait"),
            first.call.describe(),
            connections.join("; ")
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::seen::{Files, FullDisk, OpenFile, Threads};
    use super::super::sockets::Socket;
    use super::*;

    const LONG: Duration = Duration::from_millis(200);

    fn call(number: libc::c_long, first: u64) -> Call {
        Call::parse(&format!(
            "{number} {first:#x} 0x0 0x0 0x0 0x0 0x0 0x7ffee2682370 0x7f7a42ca3f16"
        ))
    }

    fn thread(tid: i32, state: char, call: Call) -> Thread {
        Thread {
            tid,
            name: "worker".to_owned(),
            state,
            call,
            used: Some(Duration::ZERO),
            cpu: Duration::from_secs(7200),
            ..Thread::default()
        }
    }

    fn process(threads: Vec<Thread>) -> Process {
        Process {
            pid: 7,
            name: "bot".to_owned(),
            state: 'S',
            threads: Threads {
                count: threads.len(),
                each: threads,
                watched: LONG,
                unreadable: None,
            },
            ..Process::default()
        }
    }

    fn told(process: Process) -> Vec<String> {
        let seen = Seen {
            processes: vec![process],
            ..Seen::default()
        };
        facts(&seen)
    }

    fn futex() -> Call {
        call(libc::SYS_futex, 0x7f00)
    }

    #[test]
    fn a_deadlock_is_when_all_wait_for_a_lock() {
        let by_channel = |channel: &str| Thread {
            channel: Some(channel.to_owned()),
            ..thread(8, 'S', Call::Unknown)
        };
        for (threads, fact) in [
            (
                vec![thread(7, 'S', futex()), thread(8, 'S', futex())],
                Some("all 2 threads of PID 7 (bot) wait for a lock or for each other (futex)"),
            ),
            (
                vec![thread(7, 'S', futex())],
                Some("the only thread of PID 7 (bot) waits for a lock"),
            ),
            // where calls cannot be read, where it waits tells
            (
                vec![by_channel("futex_do_wait"), by_channel("futex_wait_queue")],
                Some("all 2 threads"),
            ),
            (
                vec![by_channel("futex_do_wait"), by_channel("hrtimer_nanosleep")],
                None,
            ),
            (
                vec![
                    thread(7, 'S', futex()),
                    thread(8, 'S', call(libc::SYS_nanosleep, 0)),
                ],
                None,
            ),
            // a main thread that has ended does not count
            (
                vec![thread(7, 'Z', Call::Unknown), thread(8, 'S', futex())],
                Some("the only thread"),
            ),
            (Vec::new(), None),
        ] {
            let told = told(process(threads));
            match fact {
                Some(fact) => assert!(told.len() == 1 && told[0].starts_with(fact), "{told:?}"),
                None => assert_eq!(told, Vec::<String>::new()),
            }
        }
        let mut many = process(vec![thread(7, 'S', futex()), thread(8, 'S', futex())]);
        many.threads.count = 30_000;
        let told = told(many);
        assert!(
            told[0].starts_with(
                "all of the 2 threads of PID 7 (bot) that were looked at, of 30000, wait"
            ),
            "{told:?}"
        );
    }

    #[test]
    fn a_busy_loop_is_a_thread_that_computes_and_calls_nothing() {
        let used = |percent: u64, call: Call| Thread {
            used: Some(Duration::from_millis(2 * percent)),
            ..thread(8, 'R', call)
        };
        assert_eq!(
            told(process(vec![used(95, Call::Runs)])),
            [
                "PID 7 (bot) computes, in no system call: it used 95% of a processor for 200ms, and 2h of processor time since it began"
            ]
        );
        assert_eq!(
            told(process(vec![
                thread(7, 'S', futex()),
                used(105, Call::Unknown)
            ])),
            [
                "thread 8 (worker) of PID 7 (bot) computes: it used 100% of a processor for 200ms, and 2h of processor time since it began"
            ]
        );
        // others had the processor
        let crowded = Thread {
            waited: Duration::from_millis(140),
            ..used(30, Call::Runs)
        };
        assert_eq!(
            told(process(vec![crowded])),
            [
                "PID 7 (bot) computes, in no system call: it used 30% of a processor (and waited for one 70% of the time) for 200ms, and 2h of processor time since it began"
            ]
        );
        for idle in [used(79, Call::Runs), used(100, call(libc::SYS_read, 3))] {
            let told = told(process(vec![idle]));
            assert!(
                told.iter().all(|fact| !fact.contains("computes")),
                "{told:?}"
            );
        }
        let stopped = Process {
            state: 'T',
            ..process(vec![used(100, Call::Runs)])
        };
        assert_eq!(told(stopped), Vec::<String>::new());
    }

    fn connected(inode: u64) -> Socket {
        Socket {
            inode,
            protocol: "TCP",
            local: "127.0.0.1:5".to_owned(),
            peer: Some("127.0.0.1:6".to_owned()),
            state: "ESTABLISHED",
            received: Some(0),
            unsent: Some(3),
            retransmits: 0,
        }
    }

    fn files(targets: &[(u64, &str)]) -> Files {
        let file = |target: &str| OpenFile {
            target: target.into(),
            is_written: false,
        };
        let each: BTreeMap<u64, OpenFile> =
            targets.iter().map(|&(fd, it)| (fd, file(it))).collect();
        let inodes = each.values().filter_map(OpenFile::socket);
        Files {
            count: None,
            sockets: inodes.map(|inode| (inode, connected(inode))).collect(),
            each,
            unreadable: None,
        }
    }

    #[test]
    fn what_a_descriptor_waits_for_is_named() {
        let with = |call: Call, targets: &[(u64, &str)]| {
            let mut process = process(vec![thread(7, 'S', call)]);
            process.files = files(targets);
            told(process)
        };
        let socket = "fd 4 is TCP 127.0.0.1:5 -> 127.0.0.1:6 ESTABLISHED, 0 bytes received and not read, 3 bytes sent and not confirmed";
        assert_eq!(
            with(call(libc::SYS_recvfrom, 4), &[(4, "socket:[9]")]),
            [format!(
                "PID 7 (bot) waits in recvfrom for something to read: {socket}"
            )]
        );
        assert_eq!(
            with(call(libc::SYS_write, 1), &[(1, "pipe:[9]")]),
            ["PID 7 (bot) waits in write until it can write: fd 1 is pipe:[9]"]
        );
        assert_eq!(
            with(call(libc::SYS_flock, 3), &[]),
            ["PID 7 (bot) waits in flock for a lock on the file: fd 3 is not readable"]
        );
        let events = || call(libc::SYS_epoll_pwait, 3);
        assert_eq!(
            with(events(), &[(4, "socket:[9]"), (5, "/x")]),
            [format!(
                "PID 7 (bot) waits in epoll_pwait for events; its connections: {socket}"
            )]
        );
        assert_eq!(with(events(), &[(5, "/x")]), Vec::<String>::new());
        let many = [
            (4, "socket:[1]"),
            (5, "socket:[2]"),
            (6, "socket:[3]"),
            (7, "socket:[4]"),
        ];
        assert_eq!(with(events(), &many), Vec::<String>::new());
    }

    #[test]
    fn full_disks_and_held_threads_come_first_and_all_of_it_is_bounded() {
        let full = FullDisk {
            file: "/srv/a.log".to_owned(),
            whose: "fd 3 of PID 7".to_owned(),
            left: 0,
            size: 1_000_000,
            no_inodes: false,
        };
        let held = Thread {
            channel: Some("rpc_wait_bit_killable".to_owned()),
            ..thread(9, 'D', call(libc::SYS_read, 3))
        };
        let seen = Seen {
            processes: (0..50)
                .map(|_| process(vec![held.clone(), thread(8, 'S', futex())]))
                .collect(),
            full: vec![
                full.clone(),
                FullDisk {
                    no_inodes: true,
                    ..full
                },
            ],
            ..Seen::default()
        };
        let told = facts(&seen);
        assert_eq!(
            told[..3],
            [
                "the file system of /srv/a.log (fd 3 of PID 7) is full: 0 B of 1.00 MB are left",
                "the file system of /srv/a.log (fd 3 of PID 7) is full: it has no inodes left",
                "thread 9 (worker) of PID 7 (bot) is in uninterruptible sleep (state D), in rpc_wait_bit_killable: a disk or network share does not answer, and no signal ends it",
            ]
        );
        assert!(told.len() <= FACTS && told.iter().all(|it| it.chars().count() <= LENGTH));
    }
}
