//! Checks side by side, each with a time limit, in a bounded number of threads.
//!
//! A thread that hangs in the kernel (a dead network share) cannot be ended from outside. It is left behind,
//! and its place is taken by another one, so that it costs the others nothing; it ends with the process.
//!
//! Most checks are a few system calls, done before a second thread would have begun: so one thread does them all, and
//! stays for the next round of them. Others join it only where it stalls, or where the rest would take long at the rate
//! at which it gets on. Two threads from the start made a run over 100 services no shorter, and took 600 further system
//! calls to wait for each other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Threads at the most while work gets done: more would only crowd small machines and slow disks.
const WORKERS: usize = 4;
/// Threads at the most where nothing gets done, hung ones aside.
const MOST_WORKERS: usize = 64;
/// So many hung threads are replaced by others. More hang only where a whole disk or network share does, and each costs
/// its stack until the process ends.
const MOST_HUNG: usize = 1024;
/// So often it is seen whether another worker is needed.
const STALL: Duration = Duration::from_millis(50);
/// While work gets done, another worker is added where what is left would take longer than this.
const LONG: Duration = Duration::from_millis(500);

/// Why a piece of work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It took longer than its limit.
    TimedOut,
    /// All together took too long, and it had not ended or was never begun.
    OutOfTime,
    /// There was no thread to do it in.
    NoThread,
    /// It panicked: a fault in this program.
    Panicked,
}

/// Threads that are kept from one round of work to the next. They are never waited for: one may hang, and all end with
/// the process.
#[derive(Debug, Default)]
pub struct Pool {
    idle_workers: Arc<IdleWorkers>,
}

type Task = Box<dyn FnOnce() + Send>;

/// Where idle threads wait.
#[derive(Default)]
struct IdleWorkers {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// All threads, hung ones included.
    threads: usize,
    /// Those that wait for a task, less the tasks that wait for a thread.
    idle: isize,
    tasks: VecDeque<Task>,
}

impl std::fmt::Debug for IdleWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bench")
    }
}

impl IdleWorkers {
    fn serve(&self) {
        loop {
            let mut waiting = lock(&self.waiting);
            waiting.idle += 1;
            let task = loop {
                if let Some(next) = waiting.tasks.pop_front() {
                    break next;
                }
                waiting = self
                    .wake
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(waiting);
            task();
        }
    }
}

/// What was given to do at once.
struct Round<T, R, F> {
    progress: Mutex<Progress<T, R>>,
    all_done: Condvar,
    act: F,
}

struct Progress<T, R> {
    queue: VecDeque<(usize, T)>,
    began: Vec<Option<Instant>>,
    results: Vec<Option<Result<R, Failed>>>,
    /// How many have no result yet.
    open: usize,
    /// How many were given up, and keep their worker until they return.
    hung: usize,
}

impl<T, R, F: Fn(T) -> R> Round<T, R, F> {
    /// Does what is still to be done.
    fn work(&self) {
        let mut progress = lock(&self.progress);
        while let Some((index, item)) = progress.queue.pop_front() {
            progress.began[index] = Some(Instant::now());
            drop(progress);
            let result =
                catch_unwind(AssertUnwindSafe(|| (self.act)(item))).map_err(|_| Failed::Panicked);
            progress = lock(&self.progress);
            // what was given up has its result already
            if progress.results[index].is_none() {
                progress.results[index] = Some(result);
                progress.open -= 1;
            } else {
                progress.hung = progress.hung.saturating_sub(1);
            }
        }
        if progress.open == 0 {
            self.all_done.notify_one();
        }
    }
}

/// How long `open` pieces of work take at the rate at which `done` were done; longest where none was.
fn left(elapsed: Duration, done: usize, open: usize) -> Duration {
    match (u32::try_from(done), u32::try_from(open)) {
        (Ok(done), Ok(open)) if done > 0 => (elapsed / done).saturating_mul(open),
        _ => Duration::MAX,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool without threads: they are made when there is something to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does each piece of work with a limit of its own and another one for all together; the results are in the
    /// order of the work.
    pub fn side_by_side<T, R>(
        &self,
        work: Vec<T>,
        each: Duration,
        deadline: Instant,
        act: impl Fn(T) -> R + Send + Sync + 'static,
    ) -> Vec<Result<R, Failed>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let count = work.len();
        if count == 0 {
            return Vec::new();
        }
        let round = Arc::new(Round {
            progress: Mutex::new(Progress {
                queue: work.into_iter().enumerate().collect(),
                began: vec![None; count],
                results: (0..count).map(|_| None).collect(),
                open: count,
                hung: 0,
            }),
            all_done: Condvar::new(),
            act,
        });
        let spawn_worker = || {
            let round = Arc::clone(&round);
            usize::from(self.spawn_worker(Box::new(move || round.work())))
        };
        let mut workers = spawn_worker();
        let began = Instant::now();
        let mut open_before = count;
        let mut looked = began;
        let mut progress = lock(&round.progress);
        while progress.open > 0 && workers > 0 {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            (progress, _) = round
                .all_done
                .wait_timeout(progress, STALL.min(deadline - now))
                .unwrap_or_else(PoisonError::into_inner);
            if looked.elapsed() < STALL {
                continue;
            }
            looked = Instant::now();
            for index in 0..count {
                if progress.results[index].is_none()
                    && progress.began[index].is_some_and(|since| since.elapsed() >= each)
                {
                    progress.results[index] = Some(Err(Failed::TimedOut));
                    progress.open -= 1;
                    progress.hung += 1;
                    // to be given up is not to get done
                    open_before = open_before.saturating_sub(1);
                }
            }
            let done =
                |progress: &Progress<T, R>| (count - progress.open).saturating_sub(progress.hung);
            let most = match progress.open {
                open if open == open_before => MOST_WORKERS,
                open if left(began.elapsed(), done(&progress), open) > LONG => WORKERS,
                _ => 1,
            };
            let open_at_last_look = std::mem::replace(&mut open_before, progress.open);
            // a hung one is replaced, so that it costs the rest nothing
            let most = most + progress.hung.min(MOST_HUNG);
            // where nothing gets done at all, as many again: what hangs must not hold up a long queue
            let more = if progress.open == open_at_last_look {
                workers
            } else {
                1
            };
            let wanted = more
                .min(most.saturating_sub(workers))
                .min(progress.queue.len());
            for _ in 0..wanted {
                workers += spawn_worker();
            }
        }
        let rest = if workers > 0 {
            Failed::OutOfTime
        } else {
            Failed::NoThread
        };
        // nothing may begin once the results are given
        progress.queue.clear();
        let results = std::mem::take(&mut progress.results);
        // and what ends then finds a result
        progress.results = (0..count).map(|_| Some(Err(rest))).collect();
        drop(progress);
        results
            .into_iter()
            .map(|result| result.unwrap_or(Err(rest)))
            .collect()
    }

    /// Does one piece of work with a limit. Where no thread can be had it is done without one, however long it takes.
    pub fn alone<R: Send + 'static>(
        &self,
        limit: Duration,
        act: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Failed> {
        let (tell, told) = mpsc::channel();
        let work = Arc::new(Mutex::new(Some(act)));
        let theirs = Arc::clone(&work);
        let is_taken = self.spawn_worker(Box::new(move || {
            let act = lock(&theirs).take();
            if let Some(act) = act {
                // nobody who waits any more, no matter
                let _ = tell.send(catch_unwind(AssertUnwindSafe(act)));
            }
        }));
        let result = if is_taken {
            told.recv_timeout(limit).map_err(|_| Failed::TimedOut)?
        } else {
            let act = lock(&work).take().ok_or(Failed::TimedOut)?;
            catch_unwind(AssertUnwindSafe(act))
        };
        result.map_err(|_| Failed::Panicked)
    }

    /// Gives a task to an idle thread, or to a new one. Where none can be had, it is for those that are busy now: one may
    /// have told its result and not yet come back. Returns whether there is any.
    fn spawn_worker(&self, task: Task) -> bool {
        let mut waiting = lock(&self.idle_workers.waiting);
        waiting.tasks.push_back(task);
        waiting.idle -= 1;
        if waiting.idle >= 0 {
            self.idle_workers.wake.notify_one();
            return true;
        }
        let idle_workers = Arc::clone(&self.idle_workers);
        let made = thread::Builder::new()
            .name("check".to_owned())
            .spawn(move || idle_workers.serve());
        match made {
            Ok(_) => waiting.threads += 1,
            Err(_) if waiting.threads == 0 => {
                waiting.tasks.clear();
                waiting.idle = 0;
                return false;
            }
            Err(_) => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    fn side_by_side<T: Send + 'static, R: Send + 'static>(
        work: Vec<T>,
        each: Duration,
        deadline: Instant,
        act: impl Fn(T) -> R + Send + Sync + 'static,
    ) -> Vec<Result<R, Failed>> {
        Pool::new().side_by_side(work, each, deadline, act)
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn f35_a_hundred_hung_pieces_of_work_keep_no_other_from_being_done() {
        let (send, hung) = channel::<()>();
        let hung = Arc::new(Mutex::new(hung));
        let mut work: Vec<bool> = vec![true; 100];
        work.push(false);
        let results = side_by_side(work, Duration::from_millis(300), far(), move |hangs| {
            if hangs {
                let _ = lock(&hung).recv();
            }
            hangs
        });
        assert_eq!(results[..100], vec![Err(Failed::TimedOut); 100]);
        assert_eq!(results[100], Ok(false));
        drop(send);
    }

    #[test]
    fn f35_one_piece_of_work_alone() {
        let pool = Pool::new();
        let long = Duration::from_secs(60);
        assert_eq!(pool.alone(long, || 7), Ok(7));
        assert_eq!(
            pool.alone(long, || -> u8 { panic!("on purpose") }),
            Err(Failed::Panicked)
        );
        // what comes of it too late is dropped by the thread that was left behind
        let (send, hung) = channel::<()>();
        let (dropped, told) = channel::<()>();
        let late = pool.alone(Duration::from_millis(50), move || {
            let _ = hung.recv();
            dropped
        });
        assert_eq!(late.unwrap_err(), Failed::TimedOut);
        drop(send);
        assert!(
            told.recv_timeout(long)
                .is_err_and(|error| error == RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn results_come_in_the_order_of_the_work() {
        let work: Vec<u32> = (0..500).collect();
        let results = side_by_side(work, Duration::from_secs(30), far(), |n| n * 2);
        let expected: Vec<_> = (0..500).map(|n| Ok(n * 2)).collect();
        assert_eq!(results, expected);
    }

    #[test]
    fn f35_what_hangs_is_given_up_and_costs_the_others_nothing() {
        // a channel that nobody sends on: hung until the test ends and the senders are dropped
        let mut senders = Vec::new();
        let work: Vec<Option<Receiver<()>>> = (0..40)
            .map(|n| {
                (n % 2 == 0).then(|| {
                    let (send, receive) = channel();
                    senders.push(send);
                    receive
                })
            })
            .collect();
        let results = side_by_side(work, Duration::from_millis(300), far(), |item| {
            item.map(|hung| hung.recv()).is_none()
        });
        for (index, result) in results.into_iter().enumerate() {
            let expected = if index % 2 == 0 {
                Err(Failed::TimedOut)
            } else {
                Ok(true)
            };
            assert_eq!(result, expected, "{index}");
        }
    }

    #[test]
    fn a_panic_is_one_failure() {
        let results = side_by_side(vec![1, 0, 2], Duration::from_secs(30), far(), |n| 10 / n);
        assert_eq!(results, [Ok(10), Err(Failed::Panicked), Ok(5)]);
    }

    #[test]
    fn one_thread_does_what_is_quickly_done_and_stays_for_more() {
        let pool = Pool::new();
        let mut threads = std::collections::BTreeSet::new();
        for round in 0..20 {
            let work: Vec<u32> = (0..50).collect();
            let results = pool.side_by_side(work, Duration::from_secs(30), far(), |n| {
                (n, format!("{:?}", thread::current().id()))
            });
            for (index, result) in (0..).zip(results) {
                let (n, thread) = result.unwrap();
                assert_eq!(n, index, "{round}");
                threads.insert(thread);
            }
        }
        // a machine under load may hold one up for long enough that others join it
        assert!(threads.len() <= WORKERS, "{threads:?}");
    }

    #[test]
    fn f35_what_hung_in_one_round_costs_the_next_nothing() {
        let pool = Pool::new();
        let (send, receive) = channel::<()>();
        let hung = pool.side_by_side(vec![receive], Duration::from_millis(100), far(), |it| {
            it.recv().is_err()
        });
        assert_eq!(hung, [Err(Failed::TimedOut)]);
        let next = pool.side_by_side(vec![1, 2], Duration::from_secs(30), far(), |n| n);
        assert_eq!(next, [Ok(1), Ok(2)]);
        drop(send);
        let last = pool.side_by_side(vec![3], Duration::from_secs(30), far(), |n| n);
        assert_eq!(last, [Ok(3)]);
    }

    #[test]
    fn what_takes_longer_than_all_may_is_given_up() {
        let (send, receive) = channel::<()>();
        let deadline = Instant::now() + Duration::from_millis(100);
        let hour = Duration::from_hours(1);
        let hung = side_by_side(vec![receive], hour, deadline, |it| it.recv().is_err());
        assert_eq!(hung, [Err(Failed::OutOfTime)]);
        drop(send);
    }

    #[test]
    fn nothing_to_do_takes_no_thread() {
        assert!(side_by_side(Vec::<()>::new(), Duration::ZERO, far(), |()| ()).is_empty());
    }
}
