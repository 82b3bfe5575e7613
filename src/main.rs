//! The `watchdog` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    // a fault of this program is told by an exit code of its own, never by one that scripts take for a verdict
    let code = std::panic::catch_unwind(|| watchdog::run(std::env::args_os())).unwrap_or(70);
    ExitCode::from(code)
}
