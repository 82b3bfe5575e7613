#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
//! watchdog keeps long-running programs alive.

pub mod check;
pub mod child;
pub mod clock;
pub mod config;
pub mod decide;
pub mod memory;
pub mod notify;
pub mod restart;
pub mod settle;
pub mod sys;
pub mod text;
pub mod verdict;
pub mod world;
