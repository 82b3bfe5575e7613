//! Seeing that a container comes up, and stays up: started anew, running, and healthy where it has a check of its own.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::super::{Failure, RestartContext, Up};
use super::again::details;
use crate::check::container::order::SLACK;
use crate::check::container::{self, Containers, Rule, ghost, is_process_of, select};
use crate::check::process::{self, ProcessStatus};
use crate::client::engine::{Details, Engine};
use crate::clock::{Reading, rough};
use crate::text::{cut, visible};

/// How often it is looked whether a container is up.
const POLL: Duration = Duration::from_millis(200);

/// Of what somebody else wrote, so much is shown.
const SHOWN: usize = 200;

/// A container that is to come up.
pub(in super::super) struct Awaited<'a> {
    /// Which one.
    pub(super) rule: &'a Rule,
    /// Where the engine is.
    pub(super) containers: &'a Containers,
    /// The engine itself.
    pub(super) engine: Engine,
    /// This very one; absent: whichever the rule means by then, for a command may make another one.
    pub(super) this: Option<This>,
    /// Which one it was before, and when that was started.
    pub(super) before: Option<(String, Option<DateTime<Utc>>)>,
    /// When it has to be up.
    pub(super) deadline: Instant,
}

/// What names a container.
#[derive(Clone, Debug)]
pub(super) struct This {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
}

/// A container as it is by now.
struct Now {
    this: This,
    details: Details,
}

impl<'a> Awaited<'a> {
    /// Whichever container a rule means once a command has ended, started anew since this run looked at it.
    pub(in super::super) fn after_command(
        rule: &'a Rule,
        containers: &'a Containers,
        context: &RestartContext<'_>,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let seen = context.container.as_ref();
        Ok(Self {
            rule,
            containers,
            engine: Engine::at(&containers.path()?),
            this: None,
            before: seen.map(|seen| (seen.id.clone(), seen.started_at)),
            deadline,
        })
    }

    /// Waits until it is up, and goes on being so for `settle`.
    pub(in super::super) fn come_up(&self, context: &RestartContext<'_>) -> Result<Up, Failure> {
        let mut now = self.up_at_all(context)?;
        let settled = Instant::now() + context.limits.settle;
        while Instant::now() < settled {
            sleep(POLL.min(settled.saturating_duration_since(Instant::now())));
            let far = Instant::now() + SLACK;
            let next = details(&self.engine, self.containers, &now.this.id, far);
            let next = next.map_err(|trouble| trouble.to_string())?;
            let is_same = next.state.started_at == now.details.state.started_at;
            let is_unhealthy = health(&next) == Some("unhealthy");
            if !next.state.running || next.state.restarting || !is_same || is_unhealthy {
                let why = format!(
                    "{} came up, but not for {}: it {}",
                    now.this.name,
                    rough(context.limits.settle),
                    how(&next)
                );
                return Err(Failure::from(why));
            }
            now.details = next;
        }
        Ok(now.up(context))
    }

    /// Waits until it runs anew and, where it has a check of its own, is healthy. One whose check has not passed when
    /// the time is over, and has not failed either, is up all the same.
    fn up_at_all(&self, context: &RestartContext<'_>) -> Result<Now, Failure> {
        loop {
            let looked = self.look();
            let is_over = Instant::now() >= self.deadline;
            let why = match looked {
                Ok(now) => {
                    let state = &now.details.state;
                    let is_new = !self.is_as_before(&now);
                    let is_up = state.running && !state.restarting && !state.paused && is_new;
                    match health(&now.details) {
                        None | Some("healthy") if is_up => return Ok(now),
                        Some("starting") if is_up && is_over => return Ok(now),
                        _ => {}
                    }
                    let name = &now.this.name;
                    if is_new && !state.restarting && state.status == "exited" {
                        let why = format!("{name} has {}", how(&now.details));
                        return Err(Failure::from(why));
                    }
                    let anew = if is_new { "" } else { "was not started anew, " };
                    let and = if is_new { "" } else { "and " };
                    format!(
                        "{name} did not come up: it {anew}{and}{}",
                        how(&now.details)
                    )
                }
                Err(why) => why,
            };
            if is_over {
                let limit = rough(context.limits.start_timeout);
                return Err(Failure::from(format!("{why} (start_timeout {limit})")));
            }
            sleep(POLL);
        }
    }

    /// Whether it is the one that was there before, and has not been started since.
    fn is_as_before(&self, now: &Now) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|(id, at)| *id == now.this.id && *at == now.details.state.started_at)
    }

    /// The error says why there is none.
    fn look(&self) -> Result<Now, String> {
        let far = self.deadline.max(Instant::now()) + SLACK;
        let this = match &self.this {
            Some(this) => this.clone(),
            None => self.find(far)?,
        };
        let details = details(&self.engine, self.containers, &this.id, far);
        let details = details.map_err(|trouble| trouble.to_string())?;
        Ok(Now { this, details })
    }

    fn find(&self, far: Instant) -> Result<This, String> {
        let listed = self.engine.list(self.containers.call_limit(), far);
        let listed = listed.map_err(|trouble| trouble.to_string())?;
        match select(self.rule, &listed).found[..] {
            [container] => Ok(This {
                id: container.id.clone(),
                name: container.name().to_owned(),
                image: container.image.clone(),
            }),
            [] => Err(format!("there is no {}", self.rule)),
            ref several => Err(format!(
                "there are {} containers where the {} is meant",
                several.len(),
                self.rule
            )),
        }
    }
}

impl Now {
    fn up(self, context: &RestartContext<'_>) -> Up {
        let now = Reading::take();
        let state = &self.details.state;
        let main = is_process_of(state.pid, &self.this.id)
            .then(|| process::look_at(state.pid, &context.last_seen, &now))
            .flatten();
        let seen = container::LastSeen {
            health: state.health.as_ref().map(|it| it.status.clone()),
            state: state.status.clone(),
            restart_count: self.details.restart_count,
            started_at: state.started_at,
            pid_namespace: main.as_ref().and_then(|_| ghost::own_namespace()),
            name: self.this.name,
            id: self.this.id,
            image: self.this.image,
        };
        let is_starting = seen.health.as_deref() == Some("starting");
        let pending = is_starting.then(|| format!("HEALTHCHECK of {}", seen.name));
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
            pending,
        }
    }
}

fn health(details: &Details) -> Option<&str> {
    let health = details.state.health.as_ref();
    health.map(|health| health.status.as_str())
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
