//! Traps: what a rule may say, and what yet does not do what was meant. For `validate`.

use std::borrow::Cow;
use std::path::Path;

/// Something that may not do what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Which key it is about.
    pub place: Place,
    /// What it is.
    pub message: String,
    /// What mends it.
    pub help: Cow<'static, str>,
}

/// The key that a trap is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of the rule's own table, with dots; empty: the whole table.
    Table(&'static str),
    /// Of the service that the rule belongs to.
    Service(&'static str),
}

impl Trap {
    /// One of a key of the rule's own table; of the whole table where that is empty.
    pub fn of(
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            place: Place::Table(key),
            message: message.into(),
            help: help.into(),
        }
    }

    /// One of a key of the service.
    pub fn of_service(
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            place: Place::Service(key),
            message: message.into(),
            help: help.into(),
        }
    }

    /// One where the directory of a file that is written is not there.
    pub fn of_directory(key: &'static str, path: &Path) -> Option<Self> {
        let directory = path.parent().filter(|directory| !directory.is_dir())?;
        Some(Self::of(
            key,
            format!("the directory {} is not there", directory.display()),
            "make it: the watchdog makes none",
        ))
    }
}
