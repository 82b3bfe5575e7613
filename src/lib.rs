#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
//! watchdog keeps long-running programs alive.

pub mod check;
pub mod clock;
pub mod config;
pub mod notify;
pub mod restart;
pub mod world;
