//! The API of a container engine: Docker's, or Podman's form of it, over its unix socket.
//!
//! One list says what containers there are; details are asked for by id, as many side by side as are wanted. Each call has
//! its own deadline. What an engine did not answer is told apart from what it refused, and both from what it said.
//!
//! Paths without a version are those of the engine's newest one, and every engine has them; so calls work from Docker
//! 20.10 to 29, where any version that could be named is refused by some. Of answers only those fields are read that all
//! of them have had, and each may be absent.
//!
//! Formats: <https://docs.docker.com/reference/api/engine/>, and what Docker 20.10 and 26.1 and Podman 4.3 and 5.4 were
//! seen to answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{self, Cause, Method, Request, Response, Url};
use crate::text::{cut, printable, visible};

mod answers;
mod logs;
mod socket;
#[cfg(test)]
mod tests;

pub use self::answers::{
    Config, Container, Details, Endpoint, Health, HealthResult, Listed, Network, Port, State, Stats,
};
pub use self::logs::{Line, Lines, Stream};
pub use self::socket::{Environment, find};

/// The largest list that is read: a container has about 750 bytes in it.
const LIST_LIMIT: usize = 32 << 20;

/// The largest description of one container that is read: about 5 kB are usual.
const DETAILS_LIMIT: usize = 4 << 20;

/// Of an answer that is no answer of an engine, so many bytes are shown.
const SHOWN: usize = 200;

/// An engine, by its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    socket: PathBuf,
}

/// Why there is nothing that an engine said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The engine did not answer, or not as one does: nothing is known. A whole sentence.
    Unreachable(String),
    /// The order was sent, and no answer came: it may be carried out all the same, later. A whole sentence.
    Unanswered(String),
    /// It refused: what is asked for is not there.
    NotFound(String),
    /// It refused for another reason, which it gives.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        why: String,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Unanswered(why) | Self::NotFound(why) => {
                f.write_str(why)
            }
            Self::Refused { status, why } => write!(f, "the engine refused it ({status}): {why}"),
        }
    }
}

/// What an engine does to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It stops what runs, waits so long before it kills, and starts it again. Absent: as long as the container says.
    Restart {
        /// In whole seconds.
        stop_timeout: Option<u64>,
    },
    /// It starts what does not run.
    Start,
}

impl Engine {
    /// The engine behind a socket. Nothing is asked.
    pub fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All containers, whether they run or not.
    pub fn list(&self, timeout: Duration, run_ends: Instant) -> Result<Vec<Listed>, Trouble> {
        let request = self.request(Method::GET, "/containers/json?all=1", LIST_LIMIT)?;
        let answer = one(request, timeout, run_ends);
        self.read(answer)
    }

    /// Details of containers by their ids, side by side, each within `timeout`: one whose answer does not come holds up
    /// no other.
    pub fn details(
        &self,
        ids: &[&str],
        timeout: Duration,
        run_ends: Instant,
    ) -> Vec<Result<Details, Trouble>> {
        let paths: Vec<String> = ids
            .iter()
            .map(|id| format!("/containers/{}/json", safe(id)))
            .collect();
        self.all(&paths, DETAILS_LIMIT, timeout, run_ends)
    }

    /// What containers use, by their ids, side by side. Docker before 26 takes a second for each.
    pub fn stats(
        &self,
        ids: &[&str],
        timeout: Duration,
        run_ends: Instant,
    ) -> Vec<Result<Stats, Trouble>> {
        let path = |id: &&str| format!("/containers/{}/stats?stream=false&one-shot=true", safe(id));
        let paths: Vec<String> = ids.iter().map(path).collect();
        self.all(&paths, DETAILS_LIMIT, timeout, run_ends)
    }

    /// Has the engine do something to a container, and waits until it says that it has. Where no answer comes in time it
    /// may be done all the same, later: an engine goes on though nobody waits for it.
    pub fn order(
        &self,
        id: &str,
        order: Order,
        timeout: Duration,
        run_ends: Instant,
    ) -> Result<(), Trouble> {
        let id = safe(id);
        let path = match order {
            Order::Start => format!("/containers/{id}/start"),
            Order::Restart { stop_timeout: None } => format!("/containers/{id}/restart"),
            Order::Restart {
                stop_timeout: Some(seconds),
            } => format!("/containers/{id}/restart?t={seconds}"),
        };
        let request = self.request(Method::POST, &path, DETAILS_LIMIT)?;
        let response = match one(request, timeout, run_ends) {
            Ok(answered) => answered.answer,
            Err(failure) if failure.was_sent => {
                return Err(Trouble::Unanswered(self.unreachable(&failure).to_string()));
            }
            Err(failure) => return Err(self.unreachable(&failure)),
        };
        match response.status.as_u16() {
            // not modified: it runs already
            200..=299 | 304 => Ok(()),
            status => Err(refused(status, &response.body)),
        }
    }

    /// What a container wrote since a time, in seconds and nanoseconds, or its last lines, within `limit` bytes. Whether
    /// it has a terminal decides about the form.
    pub fn logs(
        &self,
        id: &str,
        since: Since,
        has_terminal: bool,
        limit: usize,
        timeout: Duration,
        run_ends: Instant,
    ) -> Result<Lines, Trouble> {
        let which = match since {
            Since::Time { seconds, nanos } => format!("since={seconds}.{nanos:09}"),
            Since::Last(lines) => format!("tail={lines}"),
        };
        let path = format!(
            "/containers/{}/logs?stdout=1&stderr=1&timestamps=1&{which}",
            safe(id)
        );
        let request = self.request(Method::GET, &path, limit)?;
        let response = self.answered(one(request, timeout, run_ends))?;
        match response.status.as_u16() {
            200..=299 => {
                let is_cut = response.body_length >= limit;
                Ok(Lines::read(&response.body, has_terminal, is_cut))
            }
            status => Err(refused(status, &response.body)),
        }
    }

    fn all<T: DeserializeOwned>(
        &self,
        paths: &[String],
        limit: usize,
        timeout: Duration,
        run_ends: Instant,
    ) -> Vec<Result<T, Trouble>> {
        let requests = paths
            .iter()
            .map(|path| Some((self.request(Method::GET, path, limit).ok()?, timeout)))
            .collect::<Option<Vec<_>>>();
        let Some(requests) = requests else {
            let why = self.no_socket();
            return paths.iter().map(|_| Err(why.clone())).collect();
        };
        let read = |_, response: Response| parsed(&response);
        let answers = http::ask(requests, run_ends, &read);
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(answered) => answered
                    .answer
                    .unwrap_or_else(|why| Err(self.nonsense(&why))),
                Err(failure) => Err(self.unreachable(&failure)),
            })
            .collect()
    }

    fn request(&self, method: Method, path: &str, limit: usize) -> Result<Request, Trouble> {
        let url = format!("unix:{}:{path}", self.socket.display());
        let url = Url::parse(&url).map_err(|_| self.no_socket())?;
        Ok(Request {
            body: (method == Method::POST).then(Vec::new),
            body_limit: limit,
            body_kept: limit,
            ..Request::new(method, url)
        })
    }

    fn no_socket(&self) -> Trouble {
        Trouble::Unreachable(format!(
            "the engine cannot be asked at {}: this is no path of a socket",
            visible(&self.socket.display().to_string())
        ))
    }

    fn answered(&self, answer: Result<http::Answered, http::Failure>) -> Result<Response, Trouble> {
        match answer {
            Ok(answered) => Ok(answered.answer),
            Err(failure) => Err(self.unreachable(&failure)),
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<http::Answered, http::Failure>,
    ) -> Result<T, Trouble> {
        let response = self.answered(answer)?;
        parsed(&response).unwrap_or_else(|why| Err(self.nonsense(&why)))
    }

    fn nonsense(&self, why: &str) -> Trouble {
        Trouble::Unreachable(format!(
            "what answers at {} is no container engine: {why}",
            self.socket.display()
        ))
    }

    fn unreachable(&self, failure: &http::Failure) -> Trouble {
        let why = match &failure.cause {
            Cause::NotAsked(why) => why.clone(),
            Cause::Failed(failures) => failures.first().map_or_else(
                || "it did not answer".to_owned(),
                |failure| why_silent(&failure.fault),
            ),
        };
        Trouble::Unreachable(format!(
            "the engine at {} does not answer: {why}",
            self.socket.display()
        ))
    }
}

/// From when on lines are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// From a time on, that instant included.
    Time {
        /// Since 1970.
        seconds: i64,
        /// Beside them.
        nanos: u32,
    },
    /// So many, the last ones.
    Last(usize),
}

fn one(
    request: Request,
    timeout: Duration,
    run_ends: Instant,
) -> Result<http::Answered, http::Failure> {
    let url = request.url.clone();
    http::send(vec![(request, timeout)], run_ends)
        .pop()
        .unwrap_or_else(|| {
            Err(http::Failure {
                url: Box::new(url),
                was_redirected: false,
                proxy: None,
                was_sent: false,
                cause: Cause::NotAsked("was not asked".to_owned()),
            })
        })
}

/// An id or name as it may stand in a path: engines allow nothing else in them.
fn safe(id: &str) -> String {
    id.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        .collect()
}

/// What an engine says when it refuses.
#[derive(Deserialize)]
struct Message {
    message: String,
}

fn refused(status: u16, body: &[u8]) -> Trouble {
    let why = match serde_json::from_slice::<Message>(body) {
        Ok(Message { message }) => cut(&visible(&message), SHOWN),
        Err(_) if body.is_empty() => "it gives no reason".to_owned(),
        // a proxy before the socket
        Err(_) => format!("`{}`", printable(body, SHOWN)),
    };
    match status {
        404 => Trouble::NotFound(why),
        _ => Trouble::Refused { status, why },
    }
}

/// The value in an answer, or what the engine refused; the outer error says why it is neither.
fn parsed<T: DeserializeOwned>(response: &Response) -> Result<Result<T, Trouble>, String> {
    let status = response.status.as_u16();
    if !(200..=299).contains(&status) {
        return Ok(Err(refused(status, &response.body)));
    }
    match serde_json::from_slice(&response.body) {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Err(format!(
            "it answered {} with `{}` ({error})",
            http::shown(response.status),
            printable(&response.body, SHOWN)
        )),
    }
}

fn why_silent(fault: &super::Fault<http::Wrong>) -> String {
    use super::Fault;
    match fault {
        Fault::NoSocket => "there is no such socket; is the engine running".to_owned(),
        Fault::NotASocket => "the file there is not a socket".to_owned(),
        Fault::Refused => "nothing listens there; is the engine running".to_owned(),
        Fault::TimedOut { after, .. } => format!(
            "it accepted the call and was silent for {}",
            crate::clock::rough(*after)
        ),
        // the group says which user may
        Fault::Unreadable(why) if why.contains("ermission") => format!(
            "{}; run the watchdog as root, or as a user in the group of the socket (usually `docker`)",
            why.split("; run ").next().unwrap_or(why)
        ),
        Fault::Answer(wrong) => wrong.to_string(),
        Fault::Reset(_) | Fault::HungUp(_) => "it broke the call off".to_owned(),
        Fault::Unreadable(why) | Fault::NoTls(why) | Fault::Certificate(why) => why.clone(),
    }
}
