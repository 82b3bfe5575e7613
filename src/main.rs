//! The `watchdog` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(watchdog::without_faults(|| {
        watchdog::run(std::env::args_os())
    }))
}
