//! `watchdog evidence`: what was recorded of processes before they were stopped.

use std::io;
use std::path::Path;

use crate::amount::rough_bytes;
use crate::cli;
use crate::clock::stamp;
use crate::commands::{print, selected};
use crate::config::Config;
use crate::error::Error;
use crate::report::page::{Page, Style};
use crate::restart::evidence::{Kept, directory, list, read};
use crate::state::store::StoreError;
use crate::text::{visible_lines, visible_path};

/// Prints the list of what is kept, the oldest first, each with its first fact; or the whole of the last. Where none was
/// asked for by its name, what is kept of services that the config no longer has is in it too.
pub fn run(config: &Config, options: &cli::Evidence, style: Style) -> Result<u8, Error> {
    let unreadable = |path: &Path, source: io::Error| StoreError::Io {
        what: "cannot read the evidence in",
        path: path.to_owned(),
        source,
    };
    let state_dir = &config.state_dir;
    let mut kept = list(state_dir).map_err(|source| unreadable(&directory(state_dir), source))?;
    if let Some(wanted) = &options.service {
        let names = selected(config, std::slice::from_ref(wanted))?;
        kept.retain(|record| names.contains(&record.service));
    }
    if options.last {
        let Some(last) = kept.iter().max_by_key(|record| record.time) else {
            ::log::error!("{}", nothing(options.service.as_deref()));
            return Ok(1);
        };
        let text = read(&last.path).map_err(|source| unreadable(&last.path, source))?;
        print(&visible_lines(&text))?;
        return Ok(0);
    }
    let mut page = Page::new(style);
    if kept.is_empty() {
        page.line(0, &nothing(options.service.as_deref()));
    }
    for record in &kept {
        add(&mut page, record);
    }
    print(&page.into_text())?;
    Ok(0)
}

fn nothing(service: Option<&str>) -> String {
    let of = service
        .map(|name| format!(" of {name}"))
        .unwrap_or_default();
    format!("nothing is recorded{of}: that is done before a process is stopped that runs")
}

fn add(page: &mut Page, record: &Kept) {
    page.line(
        0,
        &format!(
            "{}  {}  {}, {}",
            stamp(record.time),
            record.service,
            visible_path(&record.path),
            rough_bytes(record.size)
        ),
    );
    let first = |text: String| {
        let mut lines = text.lines();
        let fact = lines.find_map(|line| line.strip_prefix("- "));
        fact.map(str::to_owned)
    };
    match read(&record.path) {
        Ok(text) => {
            if let Some(fact) = first(text) {
                page.line(4, &fact);
            }
        }
        Err(error) => page.line(4, &format!("it cannot be read: {error}")),
    }
}
