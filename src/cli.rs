//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::clock::parse_duration;

/// Keeps long-running programs alive: finds the dead and the frozen, restarts them within a budget, and alerts a
/// person. Made to be run by cron or a systemd timer every one to three minutes.
#[derive(Debug, Parser)]
#[command(
    name = "watchdog",
    version,
    propagate_version = true,
    arg_required_else_help = false
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What every command takes.
#[derive(Args, Debug)]
pub struct Global {
    /// The config file; otherwise $WATCHDOG_CONFIG, ./watchdog.toml,
    /// $XDG_CONFIG_HOME/watchdog/watchdog.toml or /etc/watchdog/watchdog.toml, the first that there is
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more on standard error; repeat it for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours; NO_COLOR is heeded
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub color: Color,
}

impl Cli {
    /// Reads a command line, the name of the program first. The error is what to print in its place: help as well.
    ///
    /// To define all commands takes more instructions than a run over one service, so `check` is first read by itself.
    /// A line that is no plain `check` is read again by all of them, which know what to say about it.
    pub fn read(arguments: &[OsString]) -> clap::error::Result<Self> {
        if arguments.iter().any(|argument| argument == CHECK)
            && let Ok(matches) = only_check().try_get_matches_from(arguments)
            && let Ok(cli) = Self::from_arg_matches(&matches)
        {
            return Ok(cli);
        }
        Self::try_parse_from(arguments)
    }
}

const CHECK: &str = "check";

fn only_check() -> clap::Command {
    let check = Check::augment_args(clap::Command::new(CHECK));
    Global::augment_args(clap::Command::new("watchdog"))
        .subcommand(check)
        .subcommand_required(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Where standard output is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the services, restart what is dead or frozen, and alert
    Check(Check),
    /// Stay in the foreground and make a check at fixed times; made for containers
    Run(Run),
    /// Show what the last run recorded; looks at nothing else
    Status(Status),
    /// Show the journal: restarts, failures, recoveries, alerts
    History(History),
    /// Sum up a day, service by service: restarts, failures, time not well
    Report(Report),
    /// Tell the evidence behind the last decision about a service
    Why(Why),
    /// Show what was recorded of a process before it was stopped
    Evidence(Evidence),
    /// Restart a service now
    Restart(Restart),
    /// Have so many replicas of a scale now, between its min and max
    Scale(Scale),
    /// Watch services for a while without restarting them or alerting about them
    Pause(Pause),
    /// End pauses
    Resume(Services),
    /// Forget failures and restart attempts
    Reset(Services),
    /// Find every error in the config, and traps
    Validate(Validate),
    /// Read a service's logs back: which alarms its rules would have raised, the gaps, and the max_age that would have been silent
    Backtest(Backtest),
    /// Print the effective config, defaults filled in and secrets masked
    ShowConfig,
    /// Send one message through each channel now, and say how it went
    TestNotify(TestNotify),
    /// Send one message now, by the config's mail settings, and say how it went
    TestMail,
    /// Print the metrics of the last run, for Prometheus
    Metrics,
    /// Answer one HTTP request on standard input; made for a socket that systemd holds
    Web(Web),
    /// Print a config table for a program that is running now
    Adopt(Adopt),
    /// Print a script that completes commands, options and names of services in a shell
    Completions(Completions),
    /// Print a manual page: of the tool, of a command, or of the config file
    Man(Man),
}

/// `check`
#[derive(Args, Debug)]
pub struct Check {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Do all but act: no signal, no start, no mail, no write; say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Send nothing on any channel, and keep nothing for later
    #[arg(long, visible_alias = "no-notify")]
    pub no_mail: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print nothing where all is well
    #[arg(short, long)]
    pub quiet: bool,
}

/// `run`
#[derive(Args, Debug)]
pub struct Run {
    /// How long from the beginning of one check to that of the next: "30s"; from 1s to 1d
    #[arg(long, value_name = "DUR", value_parser = interval)]
    pub every: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_hours(24)).contains(&every) {
        return Ok(every);
    }
    Err("checks can be made every 1s to every 1d".to_owned())
}

/// `status`
#[derive(Args, Debug)]
pub struct Status {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Print the status page: one HTML document
    #[arg(long, conflicts_with = "json")]
    pub html: bool,
    /// Answer 3 where the last run is older than this: "10m"
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub max_age: Option<Duration>,
}

/// `history`
#[derive(Args, Debug)]
pub struct History {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Only what is younger than this: "2h", "7d"
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Only how often each service was restarted: the rate a day, and the mean time between two restarts
    #[arg(long)]
    pub summary: bool,
    /// Print JSON lines: those of the journal, or with --summary one for each service
    #[arg(long)]
    pub json: bool,
}

/// `report`
#[derive(Args, Debug)]
pub struct Report {
    /// Of this time until now
    #[arg(long, value_name = "DUR", value_parser = period, default_value = "24h")]
    pub since: Duration,
    /// Print one JSON object
    #[arg(long, conflicts_with = "html")]
    pub json: bool,
    /// Print one HTML document
    #[arg(long)]
    pub html: bool,
    /// Send it on every channel; it is then printed only with --json or --html
    #[arg(long)]
    pub send: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    let since = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_hours(24 * 3660)).contains(&since) {
        return Ok(since);
    }
    Err("a report is of 1s to 3660d".to_owned())
}

/// `validate`
#[derive(Args, Debug)]
pub struct Validate {
    /// Answer 1 where there are traps
    #[arg(long)]
    pub strict: bool,
}

/// `backtest`
#[derive(Args, Debug)]
pub struct Backtest {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Judge only what is younger than this: "24h", "7d"
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Read this file, and what was rotated from it, in place of the service's logs
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Draw the gaps over time
    #[arg(long)]
    pub plot: bool,
}

/// `why`
#[derive(Args, Debug)]
pub struct Why {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

/// `web`
#[derive(Args, Debug)]
pub struct Web {
    /// Serve what the last run published in this directory, and read no config
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `evidence`
#[derive(Args, Debug)]
pub struct Evidence {
    /// Only of this service
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Print the last record, not the list of them
    #[arg(long)]
    pub last: bool,
}

/// `adopt`
#[derive(Args, Debug)]
pub struct Adopt {
    /// The program, by its PID or by its name; or a systemd unit; or a container
    #[arg(value_name = "PID|NAME|UNIT|CONTAINER")]
    pub program: String,
}

/// `completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum, required_unless_present = "services")]
    pub shell: Option<Shell>,
    /// Print the names of the services instead, as the scripts ask for them
    #[arg(long, hide = true)]
    pub services: bool,
}

/// The shells that words can be completed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash, with the names of services.
    Bash,
    /// zsh, with the names of services.
    Zsh,
    /// fish, with the names of services.
    Fish,
    /// Elvish.
    Elvish,
    /// Nushell.
    Nushell,
    /// PowerShell.
    Powershell,
}

/// `man`
#[derive(Args, Debug)]
pub struct Man {
    /// A command, or `config` for the config file; the tool itself if nothing is said
    #[arg(value_name = "PAGE", conflicts_with = "all")]
    pub page: Option<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR")]
    pub all: Option<PathBuf>,
}

/// `restart`
#[derive(Args, Debug)]
pub struct Restart {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Also where the restart budget is spent
    #[arg(long)]
    pub force: bool,
}

/// `scale`
#[derive(Args, Debug)]
pub struct Scale {
    /// The scale
    #[arg(value_name = "NAME")]
    pub name: String,
    /// So many replicas
    #[arg(value_name = "N")]
    pub replicas: u32,
}

/// `pause`
#[derive(Args, Debug)]
pub struct Pause {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
    /// How long: "2h"; 24 hours if nothing is said
    #[arg(long = "for", value_name = "DUR", value_parser = parse_duration)]
    pub lasts: Option<Duration>,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `test-notify`
#[derive(Args, Debug)]
pub struct TestNotify {
    /// Only these channels; `mail` is that of the table `[mail]`
    #[arg(value_name = "CHANNEL")]
    pub channels: Vec<String>,
}

/// `resume`, `reset`
#[derive(Args, Debug)]
pub struct Services {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &[&str]) -> (Result<String, String>, Result<String, String>) {
        let arguments: Vec<OsString> = std::iter::once(&"watchdog")
            .chain(line)
            .map(OsString::from)
            .collect();
        let shown = |read: clap::error::Result<Cli>| match read {
            Ok(cli) => Ok(format!("{cli:?}")),
            Err(error) => Err(error.to_string()),
        };
        (
            shown(Cli::read(&arguments)),
            shown(Cli::try_parse_from(&arguments)),
        )
    }

    #[test]
    fn a_plain_check_is_understood_without_the_other_commands() {
        for line in [
            &["watchdog", "check"] as &[&str],
            &["watchdog", "check", "-q", "-c", "a.toml"],
            &[
                "watchdog", "-c", "a.toml", "-vv", "check", "a", "b", "--json",
            ],
            &[
                "watchdog",
                "check",
                "--color=never",
                "--dry-run",
                "--no-notify",
            ],
        ] {
            let matches = only_check().try_get_matches_from(line);
            assert!(matches.is_ok_and(|matches| Cli::from_arg_matches(&matches).is_ok()));
        }
    }

    proptest! {
        #[test]
        fn a_line_means_the_same_with_and_without_the_other_commands(
            line in prop::collection::vec(prop::sample::select(vec![
                "check", "check", "-q", "-c", "a.toml", "-ca.toml", "--config=check", "--color", "never", "--color=x", "-v",
                "-qv", "--json", "--dry-run", "--no-mail", "--no-notify", "-h", "--help", "-V", "--version", "help", "history", "status",
                "chekc", "--", "-x", "",
            ]), 0..6)
        ) {
            let (read, by_all) = read(&line);
            prop_assert_eq!(read, by_all);
        }
    }
}
