//! Black-box tests: the real executable, real programs, real files, grouped by topic.
//!
//! A name that starts with `f01_` belongs to that row of the table of known failures of tools of this kind.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on must panic

mod adopt;
mod adopted;
mod alone;
mod attackers;
mod believed;
mod benches;
mod boxes;
mod budget;
mod cli;
mod cost;
mod cron;
mod crowds;
mod daemons;
mod disk_checks;
mod disks;
mod docs;
mod examples;
mod exec;
mod field;
mod fuzz;
mod grace;
mod hosts;
mod http;
mod identity;
mod included;
mod keepers;
mod killed;
mod layers;
mod leftovers;
mod log_cases;
mod logs;
mod mail;
mod outbox;
mod package;
mod pending;
mod ports;
mod real_mail;
mod real_postfix;
mod restart;
mod run_all;
mod scene;
mod sentences;
mod shell;
mod situations;
mod soak;
mod state;
mod steps;
mod strategies;
mod systemd;
mod traps;
mod unit_jobs;
mod usage;
mod zoo;
