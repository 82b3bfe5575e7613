//! Which container a service is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::engine;
use crate::table::{Checked, Context, Filled, Form, Part, Positive, Shown, Table, Value, table};
use crate::text::visible;

table! {
    /// Its container, of Docker or Podman: a check, and a way to restart it.
    pub struct Rule like "container = { name = \"gateway\" }", check fits {
        /// The name of the container; or …
        name: Option<String> as Option<Name>, example r#""ib-gateway""#;
        /// … the Compose project …
        project: Option<String> as Option<Filled>, commented r#""app""#;
        /// … and the service of it, which has one container.
        service: Option<String> as Option<Filled>, commented r#""gateway""#;
        /// Exit codes that mean that it ended on purpose: then it is not started again.
        exit_ok: Vec<u8> as Vec<ExitCode> = Vec::new(), commented "[0]";
    }
}

/// A name that a container can have: letters, digits, `_`, `.` and `-`.
struct Name;

impl Checked for Name {
    type Of = String;
    const KIND: &'static str = "the name of a container";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        let bare = text.strip_prefix('/').unwrap_or(&text);
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if bare.is_empty() || !bare.chars().all(known) {
            value.wrong(
                &format!("`{}` cannot be the name of a container", visible(&text)),
                "letters, digits, '_', '.' and '-'; `docker ps` shows it under NAMES",
            );
            return None;
        }
        Some(bare.to_owned())
    }
}

/// An exit code.
type ExitCode = crate::table::Within<0, 255>;

fn fits(table: &Table<'_>, _: &mut Part<Rule>) {
    const HELP: &str = "write `name`, or `project` and `service` of a Compose service";
    let (name, project, service) = (
        table.has("name"),
        table.has("project"),
        table.has("service"),
    );
    if let Some(value) = table.get("name").filter(|_| project || service) {
        value.misplaced("`name` beside `project` and `service`", HELP);
    } else if !(name || project && service) {
        table.lacks("it does not say which container", HELP);
    }
}

impl Rule {
    /// Whether it says which container is meant: one that is wrong does not.
    pub fn says_which(&self) -> bool {
        self.name.is_some() || (self.project.is_some() && self.service.is_some())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.project, &self.service) {
            (Some(name), ..) => write!(f, "container {name}"),
            (None, project, service) => write!(
                f,
                "container of {} in Compose project {}",
                service.as_deref().unwrap_or_default(),
                project.as_deref().unwrap_or_default()
            ),
        }
    }
}

table! {
    /// The container engine: Docker, or Podman's form of its API. It is asked only where a service is a container.
    pub struct Containers like "containers = { timeout = \"10s\" }" {
        /// Default: $DOCKER_HOST, else the first that is there of /run/docker.sock, $XDG_RUNTIME_DIR/docker.sock,
        /// /run/podman/podman.sock and $XDG_RUNTIME_DIR/podman/podman.sock.
        socket: Option<PathBuf> as Option<UnixSocket>, commented r#""unix:///run/docker.sock""#;
        /// For each call; a restart has its stop and start times on top; default: check_timeout.
        timeout: Option<Duration> as Option<Positive>, example r#""10s""#;
    }
}

/// The path of a unix socket, as `unix:///run/docker.sock`.
struct UnixSocket;

impl Form<PathBuf> for UnixSocket {
    fn read(value: &Value<'_>, _: &Context) -> Option<PathBuf> {
        let text = value.text()?;
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') && path.len() > 1 {
            return Some(PathBuf::from(path));
        }
        value.wrong(
            "this is no unix socket: only an engine of this machine can be asked",
            "write it like \"unix:///run/docker.sock\"",
        );
        None
    }

    fn show(value: &PathBuf) -> Option<Shown> {
        Some(Shown::text(format!("unix://{}", value.display())))
    }

    fn kind() -> String {
        "a unix socket".to_owned()
    }
}

/// What a call may take where no config says it.
const CALL: Duration = Duration::from_secs(10);

#[expect(clippy::derivable_impls, reason = "a table is defined by a macro")]
impl Default for Containers {
    fn default() -> Self {
        Self {
            socket: None,
            timeout: None,
        }
    }
}

impl Containers {
    /// What a call may take.
    pub fn call_limit(&self) -> Duration {
        self.timeout.unwrap_or(CALL)
    }

    /// The socket that is asked: the configured one, or where Docker and Podman have theirs. The error says why there is
    /// none.
    pub fn path(&self) -> Result<PathBuf, String> {
        match &self.socket {
            Some(path) => Ok(path.clone()),
            None => engine::find(&engine::Environment::of_process(), Path::exists),
        }
    }
}
