//! Every key that a config can have, by the table it stands in.
//!
//! The reader refuses what is not listed here and may ask for nothing else, so that this page, the suggestions
//! for misspelt keys and the example file cannot drift apart.

/// The keys of one kind of table.
#[derive(Debug)]
pub struct Layout {
    /// The table as a person would write its header; empty for the top level.
    pub place: &'static str,
    /// Its keys.
    pub keys: &'static [&'static str],
    /// How the table may look, for somebody who wrote something else.
    pub sample: &'static str,
}

/// What stands before the first table.
pub static TOP: Layout = Layout {
    place: "",
    keys: &[
        "state_dir",
        "check_timeout",
        "run_timeout",
        "logging",
        "defaults",
        "mail",
        "service",
    ],
    sample: "",
};

/// The watchdog's own log.
pub static LOGGING: Layout = Layout {
    place: "[logging]",
    keys: &["file", "level"],
    sample: "logging = { level = \"info\" }",
};

/// What a service does not say itself.
pub static DEFAULTS: Layout = Layout {
    place: "[defaults]",
    keys: &["start_grace", "restart"],
    sample: "defaults = { start_grace = \"60s\" }",
};

/// Whom to mail.
pub static MAIL: Layout = Layout {
    place: "[mail]",
    keys: &[
        "from",
        "to",
        "on",
        "remind_every",
        "max_per_hour",
        "smtp",
        "sendmail",
        "directory",
    ],
    sample: "mail = { from = \"watchdog@example.org\", to = [\"ops@example.org\"], directory = \"outbox\" }",
};

/// A mail server.
pub static SMTP: Layout = Layout {
    place: "[mail.smtp]",
    keys: &[
        "host",
        "port",
        "tls",
        "username",
        "password_file",
        "password_env",
        "password_credential",
        "password",
        "ca_file",
        "timeout",
    ],
    sample: "smtp = { host = \"smtp.example.org\" }",
};

/// A program that takes mail.
pub static SENDMAIL: Layout = Layout {
    place: "[mail.sendmail]",
    keys: &["command"],
    sample: "sendmail = { command = \"/usr/sbin/sendmail\" }",
};

/// One program to look after.
pub static SERVICE: Layout = Layout {
    place: "[service.NAME]",
    keys: &[
        "description",
        "enabled",
        "working_dir",
        "start_grace",
        "depends_on",
        "process",
        "spawn",
        "systemd",
        "log",
        "port",
        "restart",
    ],
    sample: "[service.NAME]",
};

/// How its process is known.
pub static PROCESS: Layout = Layout {
    place: "[service.NAME.process]",
    keys: &["pid_file", "command_line", "user"],
    sample: "process = { pid_file = \"trader.pid\" }",
};

/// How it is started.
pub static SPAWN: Layout = Layout {
    place: "[service.NAME.spawn]",
    keys: &[
        "command",
        "user",
        "group",
        "env",
        "env_file",
        "stdout",
        "stderr",
        "umask",
        "nice",
        "write_pid_file",
    ],
    sample: "spawn = { command = [\"python3\", \"main.py\"] }",
};

/// Its unit.
pub static SYSTEMD: Layout = Layout {
    place: "[service.NAME.systemd]",
    keys: &["unit", "manager"],
    sample: "systemd = { unit = \"trader.service\" }",
};

/// One of its logs.
pub static LOG: Layout = Layout {
    place: "[[service.NAME.log]]",
    keys: &[
        "path",
        "max_age",
        "lines",
        "expect",
        "forbid",
        "timestamp",
        "timestamp_after",
        "timestamp_zone",
        "severity",
    ],
    sample: "[[service.NAME.log]]",
};

/// One of its port probes.
pub static PORT: Layout = Layout {
    place: "[[service.NAME.port]]",
    keys: &[
        "address", "send", "expect", "tls", "ca_file", "host", "severity", "timeout", "for",
    ],
    sample: "[[service.NAME.port]]",
};

/// A pattern that must be there, with its count.
pub static EXPECT: Layout = Layout {
    place: "an entry of `expect`",
    keys: &["pattern", "at_least"],
    sample: "{ pattern = 'tick', at_least = 3 }",
};

/// A pattern that must not be there, with its count.
pub static FORBID: Layout = Layout {
    place: "an entry of `forbid`",
    keys: &["pattern", "at_most"],
    sample: "{ pattern = 'ERROR', at_most = 5 }",
};

/// When and how it is restarted.
pub static RESTART: Layout = Layout {
    place: "[service.NAME.restart]",
    keys: &[
        "max_per_hour",
        "on_exhausted",
        "after_failures",
        "cooldown",
        "stop_signal",
        "stop_timeout",
        "start_timeout",
        "settle",
        "command",
    ],
    sample: "restart = { max_per_hour = 3 }",
};

/// All of them.
pub static LAYOUTS: [&Layout; 15] = [
    &TOP, &LOGGING, &DEFAULTS, &MAIL, &SMTP, &SENDMAIL, &SERVICE, &PROCESS, &SPAWN, &SYSTEMD, &LOG,
    &PORT, &EXPECT, &FORBID, &RESTART,
];

impl Layout {
    /// What to say about a key that this table does not have.
    pub fn advice(&self, key: &str) -> String {
        let elsewhere: Vec<_> = LAYOUTS
            .iter()
            .filter(|layout| layout.keys.contains(&key))
            .map(|layout| match layout.place {
                "" => "at the top of the file, before the first table".to_owned(),
                place if place.starts_with('[') => format!("in `{place}`"),
                place => format!("in {place}"),
            })
            .collect();
        if !elsewhere.is_empty() {
            return format!("`{key}` belongs {}", elsewhere.join(" or "));
        }
        nearest(key, self.keys.iter().copied()).map_or_else(
            || format!("the keys here are {}", self.keys.join(", ")),
            |near| format!("did you mean `{near}`?"),
        )
    }
}

/// The word among `known` that somebody who wrote `word` most likely meant, by the measure that clap uses for
/// commands; case is no difference.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // nobody meant a known word by a text as long as this one
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
