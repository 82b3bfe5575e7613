//! `watchdog run`: checks at fixed times, in the foreground, for where there is neither cron nor a timer.
//!
//! Each check is a fresh process, as it is under cron, so nothing is remembered here: what goes wrong in one run is gone
//! with it, and a program that was replaced by a newer one is used from the next run on.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cli::{Cli, Color, Run};
use crate::clock::rough;
use crate::config::{self, LogFormat, Logging};
use crate::error::Error;
use crate::logging;
use crate::sys;

/// How long one wait lasts at the most; then the next begins.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Starts checks until it is asked to end by SIGTERM or SIGINT, and then waits for the one under way.
pub fn run(cli: &Cli, options: &Run) -> Result<u8, Error> {
    logging::begin(
        &own_logging(cli.global.config.as_deref()),
        false,
        logging::level(cli.global.verbose, false),
    );
    let signals = receive_signals()
        .map_err(|error| Error::Internal(format!("signals cannot be received: {error}")))?;
    let check = Check::of(cli);
    let began = Instant::now();
    let mut next = Duration::ZERO;
    let mut under_way: Option<UnderWay> = None;
    let mut is_ending = false;
    loop {
        while let Some(ended) = collect() {
            if let Some(run) = under_way.take_if(|run| ended.pid() == Some(run.pid)) {
                run.tell_end(&ended);
            }
        }
        if is_ending && under_way.is_none() {
            return Ok(0);
        }
        if !is_ending && began.elapsed() >= next {
            match &mut under_way {
                Some(run) => run.leave_one_out(),
                None => under_way = check.start(),
            }
            next = following(began.elapsed(), options.every);
        }
        let limit = if is_ending {
            LONGEST_WAIT
        } else {
            next.saturating_sub(began.elapsed()).min(LONGEST_WAIT)
        };
        let waited = sys::wait_readable(signals.as_fd(), limit);
        waited.map_err(|error| Error::Internal(format!("signals cannot be awaited: {error}")))?;
        while let Ok(Some(received)) = signals.read_signal() {
            let asked = [Signal::SIGTERM, Signal::SIGINT]
                .into_iter()
                .find(|&signal| u32::try_from(signal as i32) == Ok(received.ssi_signo));
            if let Some(signal) = asked
                && !is_ending
            {
                is_ending = true;
                if let Some(run) = &under_way {
                    ::log::warn!(
                        "{signal}: no further run begins; the one under way (PID {}) is waited for",
                        run.pid
                    );
                }
            }
        }
    }
}

/// The first time after `elapsed` that a run is due: a multiple of `every`. What was missed is not caught up on.
fn following(elapsed: Duration, every: Duration) -> Duration {
    let past = elapsed.as_nanos() / every.as_nanos().max(1);
    let times = u32::try_from(past + 1).unwrap_or(u32::MAX);
    every.saturating_mul(times)
}

/// Standard error in the format that the checks have there. The log's file is left to them: it may be rotated while
/// this process goes on.
fn own_logging(config: Option<&Path>) -> Logging {
    let loaded = config::find(config).and_then(|path| config::load(&path));
    // what is wrong with it, each run says
    let format = match loaded {
        Ok(config) if config.logging.file.is_none() => config.logging.format,
        _ => LogFormat::Text,
    };
    Logging {
        file: None,
        level: ::log::LevelFilter::Info,
        format,
    }
}

/// From here on, the signals that end this process or tell of children wait to be read.
fn receive_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    // blocked ones reach a PID 1 as well, which is spared all others
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// A child that has ended, this process's own or, for PID 1, an orphan.
fn collect() -> Option<WaitStatus> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return None,
            Ok(ended) => return Some(ended),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// How a check is started.
struct Check {
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
}

impl Check {
    fn of(cli: &Cli) -> Self {
        let mut arguments = vec!["check".into(), "--quiet".into()];
        if let Some(config) = &cli.global.config {
            arguments.extend(["--config".into(), config.into()]);
        }
        for _ in 0..cli.global.verbose {
            arguments.push("-v".into());
        }
        let color = match cli.global.color {
            Color::Auto => "auto",
            Color::Always => "always",
            Color::Never => "never",
        };
        arguments.extend(["--color".into(), color.into()]);
        Self {
            program: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
            arguments,
        }
    }

    /// Starts one. It is out of reach of what a terminal or `kill` sends to this process's group, so that nothing
    /// interrupts a restart. One that cannot be started is said, and the next is due at its time.
    fn start(&self) -> Option<UnderWay> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        let started = sys::spawn_in_session(command)
            .and_then(|child| i32::try_from(child.id()).map_err(io::Error::other));
        match started {
            Ok(pid) => Some(UnderWay {
                pid: Pid::from_raw(pid),
                began: Instant::now(),
                left_out: 0,
            }),
            Err(error) => {
                let program = self.program.display();
                ::log::error!("no run: {program} cannot be started: {error}");
                None
            }
        }
    }
}

/// A check under way.
struct UnderWay {
    pid: Pid,
    began: Instant,
    /// How many runs were due meanwhile.
    left_out: u32,
}

impl UnderWay {
    fn leave_one_out(&mut self) {
        self.left_out += 1;
        // one line however long it takes; its end says how many there were
        if self.left_out == 1 {
            ::log::warn!(
                "a run is left out: the former one (PID {}) is still under way after {}",
                self.pid,
                rough(self.began.elapsed())
            );
        }
    }

    /// Says what the run could not say itself.
    fn tell_end(&self, ended: &WaitStatus) {
        let lasted = rough(self.began.elapsed());
        if let WaitStatus::Signaled(pid, signal, _) = ended {
            ::log::error!(
                "the run with PID {pid} was ended by signal {} ({signal}) after {lasted}",
                *signal as i32
            );
        }
        if self.left_out > 1 {
            ::log::warn!(
                "the run with PID {} took {lasted}; {} runs were left out meanwhile",
                self.pid,
                self.left_out
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_due_at_multiples_and_missed_ones_are_not_caught_up_on() {
        let ms = Duration::from_millis;
        for (elapsed, every, due) in [
            (0, 1000, 1000),
            (3, 1000, 1000),
            (999, 1000, 1000),
            (1000, 1000, 2000),
            (1001, 1000, 2000),
            (30_250, 30_000, 60_000),
            // asleep for an hour
            (3_600_500, 30_000, 3_630_000),
        ] {
            assert_eq!(following(ms(elapsed), ms(every)), ms(due), "{elapsed}");
        }
    }
}
