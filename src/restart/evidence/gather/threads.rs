//! Threads: their states, what they wait in, and the processor time that they use meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use super::super::call::Call;
use super::super::seen::Thread;
use super::shared::{Shared, TEXT_LIMIT, bytes, change, text, with};
use crate::process_table::{self, ticks_per_second};
use crate::text::{plain, printable};

/// So many threads of a process are looked at.
const THREADS: usize = 10_000;

/// The stacks of so many threads of a process are read: those of threads that wait alike look alike.
const STACKS: usize = 16;

/// The name, the state and the processor time of a thread, from its `stat`.
fn parse_stat(line: &[u8]) -> Option<(String, char, Duration)> {
    let open = memchr::memchr(b'(', line)?;
    let close = memchr::memrchr(b')', line)?;
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // numbered from 1 in proc(5); the third is the first behind the name
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let used = ticks(14)?.saturating_add(ticks(15)?);
    let used = Duration::from_millis(used.saturating_mul(1000) / ticks_per_second());
    let name = printable(line.get(open + 1..close)?, 64);
    Some((name, fields.first()?.chars().next()?, used))
}

/// The processor time of a thread, and for how long it was ready to run and had no processor: on a busy machine one that
/// only computes has little of the first and much of the second. Not every kernel tells.
fn schedule(pid: i32, tid: i32) -> Option<(Duration, Duration)> {
    let text = text(&format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || Some(Duration::from_nanos(numbers.next()?.ok()?));
    Some((next()?, next()?))
}

fn look_at_thread(pid: i32, tid: i32) -> Option<Thread> {
    let line = bytes(&format!("/proc/{pid}/task/{tid}/stat"), TEXT_LIMIT).ok()?;
    let (name, state, cpu) = parse_stat(&line)?;
    let (cpu, delayed) = schedule(pid, tid).unwrap_or((cpu, Duration::ZERO));
    Some(Thread {
        tid,
        name,
        state,
        cpu,
        delayed,
        ..Thread::default()
    })
}

pub(super) fn look_at_threads(shared: &Shared, place: usize, pid: i32, until: Instant) {
    let Ok(listed) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return;
    };
    let (mut count, mut each) = (0, Vec::new());
    for entry in listed.flatten() {
        count += 1;
        let tid = entry.file_name();
        let tid = tid.to_str().and_then(|tid| tid.parse::<i32>().ok());
        if each.len() < THREADS && Instant::now() < until {
            each.extend(tid.and_then(|tid| look_at_thread(pid, tid)));
        }
    }
    change(shared, place, |process| {
        if let Some(main) = each.iter().find(|thread| thread.tid == pid) {
            process.name.clone_from(&main.name);
            process.state = main.state;
        }
        process.threads.count = count;
        process.threads.each = each;
    });
}

/// What each thread waits in, and the stacks of some that wait differently.
pub(super) fn look_at_waits(shared: &Shared, place: usize, pid: i32, until: Instant) {
    let tids: Vec<i32> = with(shared, |seen| {
        let process = seen.processes.get(place);
        let threads = process.iter().flat_map(|process| &process.threads.each);
        threads.map(|thread| thread.tid).collect()
    });
    let mut stacks: BTreeSet<(String, String)> = BTreeSet::new();
    let mut seen = BTreeMap::new();
    let mut unreadable = None;
    for tid in tids {
        if Instant::now() >= until {
            break;
        }
        let directory = format!("/proc/{pid}/task/{tid}");
        let call = match text(&format!("{directory}/syscall")) {
            Ok(text) => Call::parse(&text),
            Err(error) => {
                if !process_table::is_gone(&error) {
                    unreadable.get_or_insert(format!("/proc/{pid}/syscall: {}", plain(&error)));
                }
                Call::Unknown
            }
        };
        let channel = text(&format!("{directory}/wchan")).ok();
        let channel = channel.filter(|name| !name.is_empty() && name != "0");
        let kind = (call.describe(), channel.clone().unwrap_or_default());
        let stack = if stacks.len() < STACKS && stacks.insert(kind) {
            let stack = text(&format!("{directory}/stack")).ok();
            stack.map(|stack| stack.lines().take(32).map(frame).collect())
        } else {
            None
        };
        seen.insert(tid, (call, channel, stack));
    }
    change(shared, place, |process| {
        process.threads.unreadable = unreadable;
        for thread in &mut process.threads.each {
            if let Some((call, channel, stack)) = seen.remove(&thread.tid) {
                thread.call = call;
                thread.channel = channel;
                thread.stack = stack;
            }
        }
    });
}

/// `[<0>] futex_wait+0x9a/0x150` without what stands for an address.
fn frame(line: &str) -> String {
    printable(line.strip_prefix("[<0>] ").unwrap_or(line).as_bytes(), 200)
}

/// The processor time that was used meanwhile.
pub(super) fn look_again(shared: &Shared, place: usize, pid: i32, began: Instant, until: Instant) {
    let tids: Vec<i32> = with(shared, |seen| {
        let process = seen.processes.get(place);
        let threads = process.iter().flat_map(|process| &process.threads.each);
        threads.map(|thread| thread.tid).collect()
    });
    let watched = began.elapsed();
    let mut now = BTreeMap::new();
    for tid in tids {
        if Instant::now() >= until {
            break;
        }
        let times = schedule(pid, tid).or_else(|| {
            let thread = look_at_thread(pid, tid)?;
            Some((thread.cpu, thread.delayed))
        });
        now.extend(times.map(|times| (tid, times)));
    }
    change(shared, place, |process| {
        process.threads.watched = watched;
        for thread in &mut process.threads.each {
            if let Some((cpu, delayed)) = now.get(&thread.tid) {
                thread.used = Some(cpu.saturating_sub(thread.cpu));
                thread.waited = delayed.saturating_sub(thread.delayed);
                thread.cpu = *cpu;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_thread_is_read_whatever_its_name_is() {
        let line =
            b"7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 11 4 300 20 20 0 5 0 12345 9000000 250";
        let (name, state, cpu) = parse_stat(line).unwrap();
        assert_eq!((name.as_str(), state), ("a) b (c)", 'S'));
        assert_eq!(cpu, Duration::from_millis(15_000 / ticks_per_second()));
        for bad in ["", "7 (a", "7 )a( S", "7 (a) S 1"] {
            assert!(parse_stat(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
