//! What a scale goes by: the key `metric`.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::redis::Server;
use crate::secret::Secret;
use crate::table::{
    Account, Context, Filled, Form, Inner, Part, Positive, Program, Shown, Standing, Table, Value,
    table,
};

/// What a scale goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The processor time of the replicas, on average; 1 is one processor.
    Cpu,
    /// The memory of the replicas, on average, as a share of their limit.
    Memory,
    /// The number that a command prints, the length of a list, or the value of a query.
    Asked(Box<Asked>),
}

/// What is asked for a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// Who runs it.
        user: Option<String>,
        /// How long it may take; absent: `check_timeout`.
        timeout: Option<Duration>,
    },
    /// A list of Redis.
    Redis {
        /// Where the server is.
        url: Secret,
        /// The key of the list.
        list: String,
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>,
        /// How long it may take; absent: `check_timeout`.
        timeout: Option<Duration>,
    },
    /// A query of Prometheus.
    Prometheus {
        /// The expression.
        query: String,
        /// How long it may take; absent: `check_timeout`.
        timeout: Option<Duration>,
    },
}

table! {
    /// A number that is asked for, in the table of the scale: `metric = { redis = "redis://127.0.0.1", list = "celery" }`.
    pub(super) struct MetricKeys like "metric = { command = [\"redis-cli\", \"llen\", \"celery\"] }", check fits {
        /// A command that prints one number on standard output; or …
        command: Option<Vec<String>> as Option<Program>, example r#"["redis-cli", "llen", "celery"]"#;
        /// Who runs it; default: the watchdog's own user.
        user: Option<String> as Option<Account>, commented r#""celery""#;
        /// … a Redis, redis://user:password@host:6379/0, the same with rediss:// for TLS, or unix://user:password@/run/redis/redis.sock?db=0, and …
        redis: Option<Secret> => Secret, commented r#""redis://127.0.0.1:6379/0""#;
        /// … the key of a list there, whose length counts; or …
        list: Option<String> as Option<Filled>, commented r#""celery""#;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// … a query that gives one number, of the Prometheus of [prometheus].
        prometheus: Option<String> as Option<Filled>, commented r#""sum(celery_queue_length)""#;
        /// What has not answered by then gives no number; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, commented r#""5s""#;
    }
}

const REDIS: [&str; 4] = ["redis_file", "redis_env", "redis_credential", "redis"];

fn fits(table: &Table<'_>, part: &mut Part<MetricKeys>) {
    const HELP: &str = "write one of command = […], redis = \"redis://…\" with list = \"…\", and prometheus = \"…\"";
    let is_redis = table.has_any(&REDIS);
    let said = [table.has("command"), is_redis, table.has("prometheus")];
    match said.iter().filter(|&&is_said| is_said).count() {
        0 => table.lacks("it does not say where the number comes from", HELP),
        1 => {}
        _ => {
            let keys = ["command", "prometheus"].into_iter().chain(REDIS);
            let last = keys.filter_map(|key| table.get(key));
            if let Some(value) = last.max_by_key(|value| value.span().start) {
                value.misplaced("the number comes from more than one place", HELP);
            }
        }
    }
    if is_redis && !table.has("list") {
        table.lacks("it does not say which list", "write list = \"celery\"");
    }
    for (key, is_right, of) in [
        ("list", is_redis, "redis"),
        ("ca_file", is_redis, "redis"),
        ("user", table.has("command"), "command"),
    ] {
        if let Some(value) = table.get(key).filter(|_| !is_right) {
            value.misplaced(&format!("`{key}` without `{of}`"), "take it out");
        }
    }
    if let (Some(Secret::Inline(text)), Some(value)) = (&part.redis, table.get("redis"))
        && let Err(why) = Server::parse(text, None)
    {
        value.misplaced(
            &format!("`redis` is no URL of Redis: {why}"),
            "write it like redis://user:password@host:6379/0",
        );
    }
}

impl MetricKeys {
    fn meant(self) -> Option<Asked> {
        let timeout = self.timeout;
        match (self.command, self.redis, self.list, self.prometheus) {
            (Some(command), ..) => Some(Asked::Command {
                command,
                user: self.user,
                timeout,
            }),
            (_, Some(url), Some(list), _) => Some(Asked::Redis {
                url,
                list,
                ca_file: self.ca_file,
                timeout,
            }),
            (.., Some(query)) => Some(Asked::Prometheus { query, timeout }),
            _ => None,
        }
    }

    fn written(asked: &Asked) -> Self {
        let nothing = Self {
            command: None,
            user: None,
            redis: None,
            list: None,
            ca_file: None,
            prometheus: None,
            timeout: None,
        };
        match asked.clone() {
            Asked::Command {
                command,
                user,
                timeout,
            } => Self {
                command: Some(command),
                user,
                timeout,
                ..nothing
            },
            Asked::Redis {
                url,
                list,
                ca_file,
                timeout,
            } => Self {
                redis: Some(url),
                list: Some(list),
                ca_file,
                timeout,
                ..nothing
            },
            Asked::Prometheus { query, timeout } => Self {
                prometheus: Some(query),
                timeout,
                ..nothing
            },
        }
    }
}

impl Metric {
    /// Whether it is an average of the replicas, so that one more of them lowers it.
    pub fn is_average(&self) -> bool {
        matches!(self, Self::Cpu | Self::Memory)
    }

    /// The secret in it.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Asked(asked) => match &**asked {
                Asked::Redis { url, .. } => Some(url),
                Asked::Command { .. } | Asked::Prometheus { .. } => None,
            },
            Self::Cpu | Self::Memory => None,
        }
    }
}

impl Form for Metric {
    fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
        if value.is_table() {
            let asked = <MetricKeys as Form>::read(value, context)?.meant()?;
            return Some(Self::Asked(Box::new(asked)));
        }
        value.choice(&[("cpu", Self::Cpu), ("memory", Self::Memory)])
    }

    fn show(value: &Self) -> Option<Shown> {
        match value {
            Self::Cpu => Some(Shown::text("cpu")),
            Self::Memory => Some(Shown::text("memory")),
            Self::Asked(asked) => <MetricKeys as Form>::show(&MetricKeys::written(asked)),
        }
    }

    fn kind() -> String {
        "one of cpu, memory, or a table".to_owned()
    }

    fn inner() -> Option<Inner> {
        use crate::table::Fields;
        Some(Inner {
            layouts: const { &[MetricKeys::LAYOUT] },
            standing: Standing::Once,
        })
    }
}
