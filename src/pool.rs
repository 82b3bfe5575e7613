//! Checks side by side, each with a time limit, in a bounded number of threads.
//!
//! A thread that hangs in the kernel (a dead network share) cannot be ended from outside. It is left behind,
//! and its place is taken by another one, so that it costs the others nothing; it ends with the process.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads at the start: the work is mostly system calls, and machines are small.
const FIRST_WORKERS: usize = 2;
/// Threads at the most, hung ones included.
const MOST_WORKERS: usize = 64;
/// When nothing has been finished for so long, the workers are taken to be held up, and another one is added.
const STALL: Duration = Duration::from_millis(50);

/// Why a piece of work has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It took longer than its limit, or was never begun because the whole took too long.
    TimedOut,
    /// It panicked: a fault in this program.
    Panicked,
}

enum Said<R> {
    Began(usize),
    Finished(usize, Result<R, Failed>),
}

/// Does each piece of work with a limit of its own and another one for all together; the results are in the
/// order of the work.
pub fn side_by_side<T, R>(
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
    let queue = Arc::new(Mutex::new(
        work.into_iter().enumerate().collect::<VecDeque<_>>(),
    ));
    let act = Arc::new(act);
    let (say, said) = channel();
    let mut results: Vec<Option<Result<R, Failed>>> = (0..count).map(|_| None).collect();
    let mut began: Vec<Option<Instant>> = vec![None; count];
    let mut workers = 0;
    let mut open = count;
    let add_worker = |workers: &mut usize| {
        if *workers < MOST_WORKERS && hire(&queue, &act, &say) {
            *workers += 1;
        }
    };
    for _ in 0..FIRST_WORKERS.min(count) {
        add_worker(&mut workers);
    }
    while open > 0 {
        let now = Instant::now();
        if now >= deadline || workers == 0 {
            break;
        }
        match said.recv_timeout(STALL.min(deadline - now)) {
            Ok(Said::Began(index)) => began[index] = Some(Instant::now()),
            // what was given up has its result already
            Ok(Said::Finished(index, result)) if results[index].is_none() => {
                results[index] = Some(result);
                open -= 1;
            }
            Ok(Said::Finished(..)) => {}
            Err(RecvTimeoutError::Timeout) => {
                for (index, since) in began.iter().enumerate() {
                    if results[index].is_none()
                        && since.is_some_and(|since| since.elapsed() >= each)
                    {
                        results[index] = Some(Err(Failed::TimedOut));
                        open -= 1;
                    }
                }
                add_worker(&mut workers);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // nothing may begin once the results are given
    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    results
        .into_iter()
        .map(|result| result.unwrap_or(Err(Failed::TimedOut)))
        .collect()
}

/// Adds a worker, unless there is nothing to do. Returns whether one was added.
fn hire<T, R>(
    queue: &Arc<Mutex<VecDeque<(usize, T)>>>,
    act: &Arc<impl Fn(T) -> R + Send + Sync + 'static>,
    say: &Sender<Said<R>>,
) -> bool
where
    T: Send + 'static,
    R: Send + 'static,
{
    if queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_empty()
    {
        return false;
    }
    let (queue, act, say) = (Arc::clone(queue), Arc::clone(act), say.clone());
    thread::Builder::new()
        .name("check".to_owned())
        .spawn(move || {
            loop {
                let next = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some((index, item)) = next else { return };
                let _ = say.send(Said::Began(index));
                let result =
                    catch_unwind(AssertUnwindSafe(|| act(item))).map_err(|_| Failed::Panicked);
                let _ = say.send(Said::Finished(index, result));
            }
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
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
    fn nothing_to_do_takes_no_thread() {
        assert!(side_by_side(Vec::<()>::new(), Duration::ZERO, far(), |()| ()).is_empty());
    }
}
