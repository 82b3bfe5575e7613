#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
//! watchdog keeps long-running programs alive.
//!
//! A run goes one way, and [`commands::check::run`] reads like this list; its steps are in [`run`](mod@run):
//!
//! ```text
//! config ─▶ observe ─▶ decide ─▶ record ─▶ act ─▶ settle ─▶ alert ─▶ report
//! ```
//!
//! [`observe`] is the only part that looks at the system. [`decide`] and [`settle`] are pure: what to do, and what to
//! remember, are functions of what was seen, the state, the config and the time. [`act`] carries decisions out, and
//! each attempt is recorded on the disk before anything is touched.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::panic::{UnwindSafe, catch_unwind};
use std::time::Duration;

use clap::CommandFactory;

use cli::{Cli, Color, Command};
use config::{Config, ConfigError};
use error::Error;
use notify::Channel;
use report::page::{Paint, Style};

pub mod act;
pub mod amount;
pub mod check;
pub mod child;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod decide;
pub mod deliver;
pub mod discover;
pub mod error;
pub mod files;
#[cfg(test)]
mod fixtures;
pub mod guard;
pub mod logging;
pub mod notify;
pub mod observe;
pub mod plan;
pub mod pool;
pub mod process_table;
pub mod program;
pub mod progress;
pub mod publish;
pub mod report;
pub mod requests;
pub mod restart;
pub mod run;
pub mod scale;
pub mod secret;
pub mod settle;
pub mod state;
pub mod sys;
pub mod systemctl;
mod table;
pub mod text;
pub mod verdict;
pub mod web;

/// How long a run may take to write its state, on a disk that is merely slow, when its time is over.
const LAST_RESORT: Duration = Duration::from_secs(30);

/// Runs the program on what was typed, and gives back the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    sys::share_one_heap();
    sys::reset_inherited();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let [_, only] = &*arguments
        && only == guard::ARGUMENT
    {
        return guard::serve();
    }
    let cli = match Cli::read(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // the help and the version are no errors, and go to standard output
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            if error.use_stderr() {
                return 64;
            }
            return commands::output(printed).map_or_else(|error| told(&error), |()| 0);
        }
    };
    let Some(command) = &cli.command else {
        let _ = write!(std::io::stderr(), "{}", Cli::command().render_help());
        return 64;
    };
    perform(&cli, command).unwrap_or_else(|error| told(&error))
}

/// Runs what gives an exit code. A fault of this program is told by a code of its own, never by one that scripts take
/// for a verdict; the standard hook has printed its place by then.
pub fn without_faults(run: impl FnOnce() -> u8 + UnwindSafe) -> u8 {
    catch_unwind(run).unwrap_or_else(|_| told(&Error::fault()))
}

/// Tells what ended a run, and gives back its exit code.
fn told(error: &Error) -> u8 {
    // faults of the config stand as a list, with a heading each
    let who = match error {
        Error::Config(_) => "",
        _ => "watchdog: ",
    };
    let _ = writeln!(std::io::stderr(), "{who}{error}");
    error.code()
}

fn perform(cli: &Cli, command: &Command) -> Result<u8, Error> {
    // what is said about the tool itself needs no config
    match command {
        Command::Completions(options) => {
            return commands::completions::run(options, cli.global.config.as_deref());
        }
        Command::Man(options) => return commands::man::run(options),
        Command::Adopt(options) => {
            return commands::adopt::run(options, cli.global.config.as_deref());
        }
        // each check loads it anew
        Command::Run(options) => return commands::run_every::run(cli, options),
        Command::Web(options) => {
            logging::begin_on_stderr(logging::level(cli.global.verbose.max(1), false));
            if let Some(dir) = &options.dir {
                return Ok(commands::web::run_without_config(dir));
            }
            let config =
                config::find(cli.global.config.as_deref()).and_then(|path| config::load(&path));
            return commands::web::run(config.map_err(Error::from));
        }
        _ => {}
    }
    let path = config::find(cli.global.config.as_deref())?;
    let mut config = config::load(&path).map_err(|error| {
        let error = Error::from(error);
        let is_run = matches!(command, Command::Check(options) if !options.dry_run);
        // one that cannot be trusted is not acted on, in nothing
        let is_faulty = matches!(&error, Error::Config(ConfigError::Faulty { .. }));
        if is_run
            && is_faulty
            && let Some(ping) = config::ping(&path)
        {
            ping.send(error.code(), &error.to_string());
        }
        error
    })?;
    let sends = matches!(command, Command::Report(options) if options.send);
    let acts = matches!(
        command,
        Command::Check(_) | Command::Restart(_) | Command::Scale(_)
    );
    if sends || acts {
        end_in_any_case(&config);
    }
    let quiet = matches!(command, Command::Check(options) if options.quiet);
    // it writes nothing
    let is_dry = matches!(command, Command::Check(options) if options.dry_run);
    logging::begin(
        &config.logging,
        is_dry,
        logging::level(cli.global.verbose, quiet),
    );
    let style = Style::for_stdout(paint(cli.global.color));
    let containers = commands::discovered::add(&mut config, command);
    match command {
        Command::Check(options) => commands::check::run(config, containers, options, style),
        Command::Status(options) => commands::status::run(&config, options, style),
        Command::History(options) => commands::history::run(&config, options, style),
        Command::Report(options) => commands::report::run(&config, options, style),
        Command::Why(options) => commands::why::run(&config, options, style),
        Command::Evidence(options) => commands::evidence::run(&config, options, style),
        Command::Restart(options) => commands::restart::run(config, containers, options, style),
        Command::Scale(options) => commands::scale::run(config, options, style),
        Command::Pause(options) => commands::pause::pause(&config, options, style),
        Command::Resume(options) => commands::pause::resume(&config, options, style),
        Command::Reset(options) => commands::reset::run(&config, options, style),
        Command::Metrics => commands::metrics::run(&config),
        Command::Validate(options) => commands::validate::run(&config, options),
        Command::Backtest(options) => commands::backtest::run(&config, options, style),
        Command::ShowConfig => commands::show_config::run(&config),
        Command::TestNotify(options) => {
            commands::test_notify::run(&config, &options.channels, style)
        }
        Command::TestMail => commands::test_notify::run_mail(&config, style),
        Command::Adopt(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Run(_)
        | Command::Web(_) => Ok(0),
    }
}

/// Has the kernel end this run by SIGALRM long after it should have ended by itself: it may have written its state or
/// its own log to a disk that hangs, and then nothing in it can.
fn end_in_any_case(config: &Config) {
    let channels = config.channels.iter();
    // they are handled side by side
    let alerts = channels.map(Channel::timeout).max();
    let ping = config.ping.as_ref().map(|ping| ping.timeout);
    let limit =
        config.run_timeout + alerts.unwrap_or_default() + ping.unwrap_or_default() + LAST_RESORT;
    nix::unistd::alarm::set(u32::try_from(limit.as_secs()).unwrap_or(u32::MAX));
}

fn paint(color: Color) -> Paint {
    let wanted = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::io::stdout().is_terminal()
        }
    };
    if wanted { Paint::Colours } else { Paint::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_this_program_is_70_and_asks_to_be_reported() {
        assert_eq!(without_faults(|| 3), 3);
        assert_eq!(without_faults(|| panic!("a fault, on purpose")), 70);
        assert_eq!(
            Error::fault().to_string(),
            "internal error (bug) ended the run; please report it"
        );
    }
}
