//! `watchdog status`: what the last run recorded.

use crate::cli;
use crate::clock::{self, Reading, known_age};
use crate::commands::{print, selected};
use crate::config::Config;
use crate::error::Error;
use crate::publish;
use crate::report;
use crate::report::page::{Page, Style};
use crate::report::text::table;
use crate::state::store::Store;
use crate::verdict::ExitCode;

/// Shows the recorded verdicts, and answers with their exit code; with 3 where there are none, or too old ones. An error
/// where they cannot be read.
pub fn run(config: &Config, options: &cli::Status, style: Style) -> Result<u8, Error> {
    let clock = Reading::take();
    let now = clock.wall;
    let loaded = Store::at(&config.state_dir).look().readable()?;
    loaded.warn();
    let names = selected(config, &options.services)?;
    let mut state = loaded.state;
    state.move_with_clock(&clock);
    let mut report = report::of_state(config, &state, now, |name| names.contains(name));
    let mut code = report::exit_code(&report.services, &report.scales);
    let mut remarks = Vec::new();
    let mut late = None;
    match state.last_run {
        None => {
            code = code.max(ExitCode::Unknown);
            remarks.push("no run has been recorded yet; `watchdog check` makes one".to_owned());
        }
        Some(last) => {
            let ask = "is the cron entry or the timer still there?";
            if let Some(old) = known_age(now, last) {
                remarks.push(format!(
                    "last run {} ({} ago)",
                    clock::stamp(last),
                    clock::rough(old)
                ));
                if let Some(limit) = options.max_age.filter(|&limit| old > limit) {
                    code = ExitCode::Unknown;
                    let limit = clock::rough(limit);
                    remarks.push(format!("that is older than {limit}: {ask}"));
                    late = Some(format!("the last run is older than {limit}: {ask}"));
                }
            } else {
                let ahead = format!(
                    "last run {}: that is ahead of the clock, and how long ago it was is not known; {ask}",
                    clock::stamp(last)
                );
                if options.max_age.is_some() {
                    code = ExitCode::Unknown;
                }
                late = Some(format!("the {ahead}"));
                remarks.push(ahead);
            }
            for name in names
                .iter()
                .filter(|name| !report.services.iter().any(|known| known.name == **name))
                .filter(|name| !report.scales.iter().any(|known| known.name == **name))
            {
                code = code.max(ExitCode::Unknown);
                remarks.push(format!("`{name}` has not been looked at yet"));
            }
        }
    }
    report.exit_code = code.code();
    let text = if options.html {
        let mut trouble = loaded.damage;
        trouble.extend(late);
        let wanted = |name: &str| names.contains(name);
        publish::status_page(config, &report, wanted, now, &trouble)
    } else if options.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Error::Internal(error.to_string()))?;
        json + "\n"
    } else {
        let mut page = Page::new(style);
        for remark in remarks {
            page.line(0, &remark);
        }
        table(&report, style) + &page.into_text()
    };
    match print(&text) {
        // the worse of the two: what is not well is not hidden
        Err(error) if code > ExitCode::Ok => ::log::error!("{error}"),
        printed => printed?,
    }
    Ok(code.code())
}
