//! Restarting by the engine: it stops what runs in a container, and starts it again.
//!
//! Nothing is created, removed or killed by hand. The engine goes on with what it was asked for though nobody waits any
//! more; so what was not answered in time may be done all the same, and the next run sees it.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::{Failure, Method, MethodName, RestartContext, Up, traps};
use crate::check::container::order::{SLACK, STOP, stop_time};
use crate::check::container::{
    self, Containers, Ordered, Rule, ghost, is_process_of, managed_by, select,
};
use crate::check::process::{self, Identity, ProcessStatus};
use crate::client::engine::{Details, Engine, Order, Trouble};
use crate::clock::{Reading, rough};
use crate::text::{cut, visible};

/// How often it is looked whether a container is up.
const POLL: Duration = Duration::from_millis(200);

/// Of what somebody else wrote, so much is shown.
const SHOWN: usize = 200;

/// The engine's way to restart a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Which one.
    pub rule: Rule,
    /// Where the engine is.
    pub engine: Containers,
}

/// An order that the engine has carried out.
pub(super) struct Begun {
    engine: Engine,
    id: String,
    name: String,
    image: String,
    /// When it was started before.
    before: Option<DateTime<Utc>>,
    deadline: Instant,
}

impl Method for Container {
    const NAME: MethodName = MethodName::Container;
    const PLACE: &'static str = "container";
    const STARTS_CHILD: bool = false;
    type Begun = Begun;

    /// The engine does both in one order: one that is removed when it ends survives that.
    fn stops_first(&self) -> bool {
        false
    }

    fn stop(&self, _: &RestartContext<'_>, _: &[Identity]) -> Result<(), String> {
        Ok(())
    }

    fn start(&self, context: &RestartContext<'_>) -> Result<Begun, Failure> {
        let engine = Engine::at(&self.engine.path()?);
        let timeout = self.engine.call_limit();
        let far = Instant::now() + timeout + SLACK;
        // as it is now: it may have been re-created since it was looked at
        let listed = engine.list(timeout, far).map_err(|it| it.to_string())?;
        let selected = select(&self.rule, &listed);
        let container = match selected.found[..] {
            [container] if selected.beside.is_empty() => container,
            _ => {
                return Err(unmade(format!(
                    "the {} is not there alone any more: it may be in the middle of a re-creation",
                    self.rule
                )));
            }
        };
        let name = container.name();
        let seen = context.container.as_ref();
        if seen.is_some_and(|seen| seen.id != container.id) {
            return Err(unmade(format!(
                "{name} was re-created since it was looked at"
            )));
        }
        if let Some(who) = managed_by(&container.labels) {
            let why = format!("{name} belongs to {who}; nothing was done");
            return Err(Failure::from(why));
        }
        let details = self.details(&engine, &container.id, far)?;
        if details.state.paused {
            return Err(unmade(format!("{name} is paused")));
        }
        let configured = context.limits.stop_timeout;
        let stop = stop_time(configured, details.config.stop_timeout);
        let configured = (configured != STOP).then_some(configured);
        let is_up = details.state.running || details.state.restarting;
        let order = if is_up {
            let stop_timeout = configured.map(|limit| limit.as_secs().max(1));
            Order::Restart { stop_timeout }
        } else {
            Order::Start
        };
        let limit = stop + context.limits.start_timeout + SLACK;
        let began = Instant::now();
        context.check_lock()?;
        match engine.order(&container.id, order, limit, began + limit + SLACK) {
            Ok(()) => {}
            Err(Trouble::NotFound(_)) => {
                return Err(unmade(format!("{name} was removed meanwhile")));
            }
            Err(Trouble::Unanswered(why)) => {
                let unanswered = Ordered {
                    id: container.id.clone(),
                    before: details.state.started_at,
                    at: Utc::now(),
                    unanswered: true,
                };
                return Err(Failure {
                    error: format!("{why}; it may be restarted all the same, later"),
                    unanswered: Some(Box::new(unanswered)),
                    ..Failure::default()
                });
            }
            Err(trouble) => return Err(Failure::from(trouble.to_string())),
        }
        Ok(Begun {
            id: container.id.clone(),
            name: container.name().to_owned(),
            image: container.image.clone(),
            before: details.state.started_at,
            deadline: Instant::now() + context.limits.start_timeout,
            engine,
        })
    }

    fn verify(&self, context: &RestartContext<'_>, begun: &mut Begun) -> Result<Up, Failure> {
        let mut details = self.come_up(begun)?;
        let settled = Instant::now() + context.limits.settle;
        while Instant::now() < settled {
            sleep(POLL.min(settled.saturating_duration_since(Instant::now())));
            let next = self.details(&begun.engine, &begun.id, Instant::now() + SLACK)?;
            let is_same = next.state.started_at == details.state.started_at;
            if !next.state.running || next.state.restarting || !is_same {
                let why = format!(
                    "{} came up, but not for {}: {}",
                    begun.name,
                    rough(context.limits.settle),
                    how(&next)
                );
                return Err(Failure::from(why));
            }
            details = next;
        }
        Ok(Self::up(context, begun, &details))
    }

    fn claim(&self) -> Option<traps::Claim> {
        Some(traps::Claim {
            key: "container",
            what: "container",
            value: self.rule.to_string(),
        })
    }
}

impl Container {
    fn details(&self, engine: &Engine, id: &str, far: Instant) -> Result<Details, Failure> {
        let mut details = engine.details(&[id], self.engine.call_limit(), far);
        match details.pop() {
            Some(Ok(details)) => Ok(details),
            Some(Err(trouble)) => Err(Failure::from(trouble.to_string())),
            None => Err(Failure::from("the engine was not asked".to_owned())),
        }
    }

    /// Waits until it runs anew and, where it has a check of its own, is healthy. One whose check has not passed when
    /// the time is over, and has not failed either, is up all the same.
    fn come_up(&self, begun: &Begun) -> Result<Details, Failure> {
        loop {
            let details = self.details(&begun.engine, &begun.id, begun.deadline + SLACK)?;
            let state = &details.state;
            let is_new = state.started_at != begun.before;
            let health = state.health.as_ref().map(|health| health.status.as_str());
            let is_over = Instant::now() >= begun.deadline;
            if state.running && !state.restarting && is_new {
                match health {
                    None | Some("healthy") => return Ok(details),
                    Some("starting") if is_over => return Ok(details),
                    _ => {}
                }
            } else if is_new && !state.restarting && state.status == "exited" {
                let why = format!("{} has {}", begun.name, how(&details));
                return Err(Failure::from(why));
            }
            if is_over {
                let why = format!(
                    "{} did not come up in time: it {}",
                    begun.name,
                    how(&details)
                );
                return Err(Failure::from(why));
            }
            sleep(POLL);
        }
    }

    fn up(context: &RestartContext<'_>, begun: &Begun, details: &Details) -> Up {
        let now = Reading::take();
        let pid = details.state.pid;
        let main = is_process_of(pid, &begun.id)
            .then(|| process::look_at(pid, &context.last_seen, &now))
            .flatten();
        let seen = container::LastSeen {
            name: begun.name.clone(),
            id: begun.id.clone(),
            image: begun.image.clone(),
            state: details.state.status.clone(),
            health: details.state.health.as_ref().map(|it| it.status.clone()),
            restart_count: details.restart_count,
            started_at: details.state.started_at,
            pid_namespace: main.as_ref().and_then(|_| ghost::own_namespace()),
        };
        let (running, last_seen) = match main {
            Some(seen) => (
                match seen.process_status {
                    ProcessStatus::Running(running) => Some(running),
                    _ => None,
                },
                seen.last_seen,
            ),
            None => (None, context.last_seen.clone()),
        };
        Up {
            running,
            last_seen,
            unit: None,
            container: Some(Arc::new(seen)),
            by_itself: false,
        }
    }
}

/// It is not as it was when it was decided to restart it, so nothing was done.
fn unmade(error: String) -> Failure {
    Failure {
        error,
        is_unmade: true,
        ..Failure::default()
    }
}

/// `exited with code 1`, `is running, and unhealthy: …`.
fn how(details: &Details) -> String {
    let state = &details.state;
    match state.status.as_str() {
        "exited" | "dead" => {
            let error = match &*state.error {
                "" => String::new(),
                error => format!(": {}", cut(&visible(error), SHOWN)),
            };
            format!("exited with code {}{error}", state.exit_code)
        }
        status => match &state.health {
            Some(health) => {
                let said = health.log.last().map(|last| last.output.trim());
                let said = said.filter(|said| !said.is_empty());
                let said = said.map(|said| format!(" (`{}`)", cut(&visible(said), SHOWN)));
                format!(
                    "is {status}, and its HEALTHCHECK is {}{}",
                    health.status,
                    said.unwrap_or_default()
                )
            }
            None => format!("is {}", visible(status)),
        },
    }
}
