//! The troubles that end a run, and the exit codes that say which it was (sysexits.h).

use std::io;

use thiserror::Error;

use crate::config::ConfigError;
use crate::state::store::StoreError;
use crate::text::plain;

/// What ends a run. The trouble of one service never does.
#[derive(Debug, Error)]
pub enum Error {
    /// 64: what was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// 78: the config is wrong, or not to be trusted.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// 73, or 75 where another run holds the lock.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// 1: what was asked for could not be printed.
    #[error("cannot write to standard output: {}", plain(.0))]
    Output(io::Error),
    /// 70: a fault of this program.
    #[error("{0}; please report it")]
    Internal(String),
}

impl Error {
    /// A panic, whose place the standard hook has printed.
    pub fn fault() -> Self {
        Self::Internal("internal error (bug) ended the run".to_owned())
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Output(_) => 1,
            Self::Usage(_) => 64,
            Self::Internal(_) => 70,
            Self::Store(StoreError::Busy { .. }) => 75,
            Self::Store(_) => 73,
            Self::Config(_) => 78,
        }
    }
}
