//! The benchmarks still run, still find that all programs do the same job, and a healthy run is where it belongs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::scene::WATCHDOG;

/// Far beyond the half minute that a small run takes.
const LIMIT: Duration = Duration::from_mins(9);

#[test]
#[ignore = "needs root, monit, gcc, valgrind, strace, python3-psutil, nginx, curl, docker.io, python3-docker, redis"]
fn a_small_run_of_the_benchmarks_measures_every_program() {
    let directory = tempfile::tempdir().unwrap();
    let measured = directory.path().join("measured.json");
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/run"));
    command
        .args(["--quick", "--watchdog", WATCHDOG, "--json"])
        .arg(&measured);
    let ended = watchdog::child::run(command, None, LIMIT).unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(
        ended.status.is_some_and(|status| status.success()),
        "{told}"
    );

    let measured: Value = serde_json::from_slice(&fs::read(&measured).unwrap()).unwrap();
    let calls = |tool: &str| {
        measured
            .as_array()
            .unwrap()
            .iter()
            .find(|part| {
                part["what"] == "services" && part["services"] == 10 && part["tool"] == tool
            })
            .and_then(|part| part["runs"][0]["calls"].as_u64())
            .unwrap_or_else(|| panic!("no system calls of {tool}: {told}"))
    };
    // counts, and orders of magnitude apart: they are the same on a busy machine
    let (floor, ours, bash) = (
        calls("floor"),
        calls("watchdog, PID file only"),
        calls("bash"),
    );
    assert!(floor < ours && ours < bash / 2, "{told}");
    for section in [
        "10 GiB",
        "processes more",
        "pgrep",
        "is-active",
        "curl --parallel",
        "answers after",
        "stay silent",
        "exit status",
        "docker-py",
        "rotated just before",
        "the kind of the pattern",
        "One message on each channel",
        "Metrics for Prometheus",
    ] {
        assert!(told.contains(section), "{section}: {told}");
    }
}

#[test]
fn the_page_of_costs_has_the_place_for_the_tables() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cost.md")).unwrap();
    let (_, rest) = page.split_once("<!-- costs -->\n").unwrap();
    let (tables, _) = rest.split_once("<!-- end -->").unwrap();
    assert!(tables.contains("| floor | watchdog |"), "{tables}");
}
