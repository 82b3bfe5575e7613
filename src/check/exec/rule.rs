//! What an exec probe runs, and how its exit status is read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use crate::check::Severity;
use crate::guard::Task;
use crate::table::{Account, Base, Context, Derived, Positive, Program, Table, choice, table};
use crate::text::{cut, visible};

/// So many characters of a command are shown.
const SHOWN: usize = 80;

/// So many characters of a command stand in the name of its check; of a longer one, its hash stands for the rest.
const NAMED: usize = 120;

/// How much of its output is kept, in bytes: a line or two of it are shown.
const KEPT: usize = 8 << 10;

/// So many processes may a probe have at a time.
pub(super) const MOST_PROCESSES: usize = 256;

/// How an exit status is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// 0 is well, and anything else a failure.
    Zero,
    /// As Nagios plugins have it: 0 well, 1 warning, 2 critical, 3 and above unknown.
    Nagios,
}

choice! { Convention: "zero" = Zero, "nagios" = Nagios }

/// What a probe has of its service's `spawn` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Who runs the service.
    pub user: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// Its file of variables.
    pub env_file: Option<std::path::PathBuf>,
}

/// Nothing yet: the service is read when its parts are.
struct Later;

impl Derived for Later {
    type Of = Surroundings;

    fn derive(_: &Table<'_>, _: &Context) -> Option<Surroundings> {
        Some(Surroundings::default())
    }
}

table! {
    /// A command that must end well; there may be several such tables.
    pub struct Rule like "[[service.NAME.exec]]" {
        /// The program and its arguments; no shell reads them. Nothing that it starts outlives it.
        command: Vec<String> as Program, example r#"["pg_isready", "-q"]"#;
        /// "zero": any other exit status is a failure; or "nagios": 0 well, 1 warning, 2 critical, 3 unknown, the first line is the message.
        exit: Convention = Convention::Zero;
        /// Default: that of `spawn`, else the watchdog's own. Another user than that of `spawn` gets its env, but not its env_file.
        user: Option<String> as Option<Account>, example r#""postgres""#;
        /// Or "warning": reported, and never a reason to restart.
        severity: Severity = Severity::Critical;
        /// One that has not ended by then has failed, and is killed with all that it started; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, example r#""10s""#;
        /// It must have failed in every run for so long.
        for_("for"): Duration = Duration::ZERO;
        /// Where it is run, absolute.
        working_dir: Arc<Path> => Base;
        /// What it has of `spawn`.
        surroundings: Surroundings => Later;
    }
}

impl Rule {
    /// A probe with nothing said of it but its command.
    #[cfg(test)]
    pub(super) fn new(command: &[&str]) -> Self {
        Self {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            exit: Convention::Zero,
            user: None,
            severity: Severity::Critical,
            timeout: None,
            for_: Duration::ZERO,
            working_dir: Path::new("/").into(),
            surroundings: Surroundings::default(),
        }
    }

    fn joined(&self) -> String {
        visible(&self.command.join(" "))
    }

    /// Its name within a service: its command, and of a long one the beginning and a hash.
    pub(super) fn target(&self) -> String {
        let whole = self.joined();
        if whole.chars().count() <= NAMED {
            return whole;
        }
        let hash = XxHash3_64::oneshot(whole.as_bytes());
        format!("{}#{hash:016x}", cut(&whole, NAMED))
    }

    /// Its command, for people.
    pub(super) fn brief(&self) -> String {
        cut(&self.joined(), SHOWN)
    }

    /// Whether it runs as the user of `spawn`.
    fn is_same_user(&self) -> bool {
        self.user.is_none() || self.user == self.surroundings.user
    }

    /// Who runs it, where that is said.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref().or(self.surroundings.user.as_deref())
    }

    /// What is run within `limit`.
    pub(super) fn task(&self, limit: Duration) -> Task {
        let around = &self.surroundings;
        // what another user says there, the probe's own would do: LD_PRELOAD
        let own = |is_own: bool| is_own.then_some(around);
        let same = own(self.is_same_user());
        Task {
            command: self.command.clone(),
            working_dir: self.working_dir.as_os_str().to_owned(),
            user: self.user().map(str::to_owned),
            group: same.and_then(|around| around.group.clone()),
            env: around.env.clone(),
            env_file: same
                .and_then(|around| around.env_file.clone())
                .map(Into::into),
            input: None,
            limit,
            most_processes: MOST_PROCESSES,
            kept: KEPT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_check_is_its_command_and_stays_the_same() {
        let target = |command: &[&str]| Rule::new(command).target();
        assert_eq!(target(&["pg_isready", "-q"]), "pg_isready -q");
        assert_eq!(target(&["sh", "-c", "a\nb"]), r"sh -c a\x0ab");
        let long = "x".repeat(200);
        let [one, other] = ["1", "2"].map(|end| target(&["sh", "-c", &format!("{long}{end}")]));
        assert_ne!(one, other);
        assert_eq!(one.chars().count(), NAMED + 17);
        // it is in states: another hash would forget them
        assert!(one.ends_with("…#1e232ad2d7560d3b"), "{one}");
    }

    #[test]
    fn another_user_has_the_variables_of_the_service_and_not_its_file_of_them() {
        let around = Surroundings {
            user: Some("trader".to_owned()),
            group: Some("staff".to_owned()),
            env: vec![("A".to_owned(), "1".to_owned())],
            env_file: Some("/srv/.env".into()),
        };
        for (user, runs_as, has_file) in [
            (None, "trader", true),
            (Some("trader"), "trader", true),
            (Some("postgres"), "postgres", false),
        ] {
            let rule = Rule {
                user: user.map(str::to_owned),
                surroundings: around.clone(),
                ..Rule::new(&["x"])
            };
            let task = rule.task(Duration::from_secs(1));
            assert_eq!(task.user.as_deref(), Some(runs_as));
            assert_eq!(task.env_file.is_some(), has_file, "{user:?}");
            assert_eq!(task.group.is_some(), has_file, "{user:?}");
            assert_eq!(task.env.len(), 1);
        }
    }
}
