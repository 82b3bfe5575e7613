//! The list of restart methods, and the one place that tells them apart.

use std::path::Path;
use std::sync::Arc;

use super::command::Command;
use super::container::Container;
use super::spawn::Spawn;
use super::{Attempted, Method, MethodName, RestartContext, template, traps};
use crate::check::container::{self, Containers};
use crate::check::process::Started;
use crate::check::trap::Trap;
use crate::check::unit::Unit;

/// The way that a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartMethod {
    /// A program of the watchdog's own starting.
    Spawn(Box<Spawn>),
    /// A systemd unit.
    Systemd(Unit),
    /// A container, by its engine.
    Container(Box<Container>),
    /// A command that is run to its end.
    Command(Command),
}

/// The tables and keys of a service that say how it is restarted.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Its `spawn` table.
    pub spawn: Option<Spawn>,
    /// Its `systemd` table.
    pub systemd: Option<Unit>,
    /// Its `container` table.
    pub container: Option<container::Rule>,
    /// Its `restart.command`.
    pub command: Option<Vec<String>>,
    /// Its `restart.stop_first`.
    pub stop_first: bool,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            spawn: None,
            systemd: None,
            container: None,
            command: None,
            stop_first: true,
        }
    }
}

/// Does the same with whichever method it is.
macro_rules! each {
    ($self:expr, $method:ident: $kind:ident => $call:expr) => {
        match $self {
            Self::Spawn($method) => {
                type $kind = Spawn;
                $call
            }
            Self::Systemd($method) => {
                type $kind = Unit;
                $call
            }
            Self::Container($method) => {
                type $kind = Container;
                $call
            }
            Self::Command($method) => {
                type $kind = Command;
                $call
            }
        }
    };
}

impl RestartMethod {
    /// The method that the tables of a service give it; none: it is only watched. The service is one of this directory,
    /// and its PID file is `pid_file`.
    pub fn of(tables: Tables, working_dir: &Arc<Path>, pid_file: Option<&Path>) -> Option<Self> {
        Some(match tables {
            Tables {
                spawn: Some(mut spawn),
                ..
            } => {
                if spawn.write_pid_file.is_some() {
                    spawn.write_pid_file = pid_file.map(Path::to_owned);
                }
                Self::Spawn(Box::new(spawn))
            }
            Tables {
                systemd: Some(unit),
                ..
            } => Self::Systemd(unit),
            Tables {
                command: None,
                container: Some(rule),
                ..
            } => Self::Container(Box::new(Container::by(rule))),
            Tables {
                command,
                stop_first,
                container,
                ..
            } => Self::Command(Command {
                command: command?,
                working_dir: Arc::clone(working_dir),
                stop_first,
                container: container.map(|rule| Box::new(Container::by(rule))),
            }),
        })
    }

    /// The tables that give a service this method.
    pub fn tables(&self) -> Tables {
        let none = Tables::default();
        match self {
            Self::Spawn(spawn) => Tables {
                spawn: Some(Spawn::clone(spawn)),
                ..none
            },
            Self::Systemd(unit) => Tables {
                systemd: Some(unit.clone()),
                ..none
            },
            // its table is that of the check
            Self::Container(_) => none,
            Self::Command(command) => Tables {
                command: Some(command.command.clone()),
                stop_first: command.stop_first,
                ..none
            },
        }
    }

    /// Tells it where the engine is, and how long a call may take.
    pub fn know_engine(&mut self, containers: &Containers) {
        let container = match self {
            Self::Container(container) => Some(container),
            Self::Command(command) => command.container.as_mut(),
            Self::Spawn(_) | Self::Systemd(_) => None,
        };
        if let Some(container) = container {
            container.engine = containers.clone();
        }
    }

    /// The name that reports give it.
    pub fn name(&self) -> MethodName {
        each!(self, _method: M => M::NAME)
    }

    /// The table or key of a service that it is configured by: `spawn`, `systemd`, `restart.command`.
    pub fn place(&self) -> &'static str {
        each!(self, _method: M => M::PLACE)
    }

    /// Whether it is a command that is run to its end.
    pub fn has_command(&self) -> bool {
        matches!(self, Self::Command(_))
    }

    /// Whether what it starts is a child of the run, and would end with the run's own unit.
    pub fn starts_child(&self) -> bool {
        each!(self, _method: M => M::STARTS_CHILD)
    }

    /// What the watchdog itself starts by it, by which alone a service may be known.
    pub fn started(&self) -> Option<Started<'_>> {
        each!(self, method: M => M::started(method))
    }

    /// The file that the standard output of what it starts goes to, where that is known to keep back what it prints.
    pub fn buffered_output(&self) -> Option<&Path> {
        each!(self, method: M => M::buffered_output(method))
    }

    /// What it is that only one service can have.
    pub fn claim(&self) -> Option<traps::Claim> {
        each!(self, method: M => M::claim(method))
    }

    /// What in its configuration may not do what was meant.
    pub fn traps(&self) -> Vec<Trap> {
        each!(self, method: M => M::traps(method))
    }

    /// Stops what is left of a service, starts it, and sees that it stays up.
    pub fn restart(&self, context: &RestartContext<'_>) -> Attempted {
        each!(self, method: M => template::restart::<M>(method, context))
    }
}
