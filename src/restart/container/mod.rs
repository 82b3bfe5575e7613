//! Restarting by the engine: it stops what runs in a container, and starts it again.
//!
//! Nothing is created, removed or killed by hand. The engine goes on with what it was asked for though nobody waits any
//! more; so what was not answered in time may be done all the same, and the next run sees it. A `restart.command` beside a
//! container asks and verifies by the same means.

use std::time::Instant;

use chrono::Utc;

use self::again::unmade;
use self::come_up::{Awaited, This};
use super::{Failure, Method, MethodName, RestartContext, Up, traps};
use crate::check::container::order::{SLACK, STOP, stop_time};
use crate::check::container::{Containers, Ordered, Rule, managed_by};
use crate::check::process::Identity;
use crate::client::engine::{Order, Trouble};

mod again;
mod come_up;

pub(super) use self::again::Asked;

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
    asked: Asked,
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

    fn stop(&self, _: &RestartContext<'_>, _: &[Identity]) -> Result<(), Failure> {
        Ok(())
    }

    fn start(&self, context: &RestartContext<'_>) -> Result<Begun, Failure> {
        let Some(asked) = self.ask_again(context)? else {
            return Err(unmade(format!(
                "there is no {}; `docker compose up` or `docker run` makes it, and a restart does not",
                self.rule
            )));
        };
        let (container, details) = (&asked.listed, &asked.details);
        let name = container.name();
        if let Some(who) = managed_by(&container.labels) {
            let why = format!("{name} belongs to {who}; nothing was done");
            return Err(Failure::from(why));
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
        match (asked.engine).order(&container.id, order, limit, began + limit + SLACK) {
            Ok(()) => {}
            Err(Trouble::NotFound(_)) => {
                return Err(unmade(format!("{name} was removed since it was looked at")));
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
            asked,
            deadline: Instant::now() + context.limits.start_timeout,
        })
    }

    fn verify(&self, context: &RestartContext<'_>, begun: &mut Begun) -> Result<Up, Failure> {
        let Asked {
            engine,
            listed,
            details,
        } = &begun.asked;
        let awaited = Awaited {
            rule: &self.rule,
            containers: &self.engine,
            engine: engine.clone(),
            this: Some(This {
                id: listed.id.clone(),
                name: listed.name().to_owned(),
                image: listed.image.clone(),
            }),
            before: Some((listed.id.clone(), details.state.started_at)),
            deadline: begun.deadline,
        };
        awaited.come_up(context)
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
    /// By a rule; where the engine is, it is still to be told.
    pub(super) fn by(rule: Rule) -> Self {
        Self {
            rule,
            engine: Containers::default(),
        }
    }

    /// Asks for it once more. Nothing, where there was none when it was looked at, and still is none.
    pub(super) fn ask_again(&self, context: &RestartContext<'_>) -> Result<Option<Asked>, Failure> {
        again::ask_again(&self.rule, &self.engine, context)
    }

    /// Waits until the engine has seen the end of one that was stopped by its processes, or has started it again.
    pub(super) fn await_end(&self, asked: &Asked) {
        again::await_end(asked, &self.engine);
    }

    /// Waits until whichever container is meant is up after a command.
    pub(super) fn come_up_after_command(
        &self,
        context: &RestartContext<'_>,
        deadline: Instant,
    ) -> Result<Up, Failure> {
        Awaited::after_command(&self.rule, &self.engine, context, deadline)?.come_up(context)
    }
}
