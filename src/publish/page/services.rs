//! Every service: its verdict, and the line of its last 24 hours.

use std::collections::BTreeMap;

use super::{Facts, Html, Level, Timeline, WINDOW, add_verdict, class};
use crate::clock::{age, rough};
use crate::report::ServiceReport;
use crate::state::journal::Entry;

/// Adds the part. A line has so many blocks.
pub(super) fn add(page: &mut Html, facts: &Facts<'_>, blocks: u32) {
    let mut entries: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in facts.entries {
        entries.entry(&entry.service).or_default().push(entry);
    }
    page.markup("<section aria-labelledby=\"services\">\n<h2 id=\"services\">Services</h2>\n<table>\n<caption>A line goes from 24 hours ago to now; low: well, high: critical, broken up: unknown.</caption>\n<thead><tr><th scope=\"col\" class=\"n\">Service</th><th scope=\"col\" class=\"w\">Verdict</th><th scope=\"col\">Last 24 hours<span class=\"axis\" aria-hidden=\"true\"><span>")
        .text(&(facts.now - WINDOW).format("%H:%M").to_string(), 10)
        .markup("</span><span>")
        .text(&facts.now.format("%H:%M").to_string(), 10)
        .markup("</span></span></th></tr></thead>\n<tbody>\n");
    for service in &facts.report.services {
        let own = entries.get(&*service.name).into_iter().flatten().copied();
        let timeline = Timeline::of(own, Some(service.verdict), service.since, facts.now);
        row(page, facts, service, &timeline, blocks);
    }
    for name in facts.unseen {
        page.markup("<tr><th scope=\"row\">")
            .text(name, 64)
            .markup("</th><td>not looked at yet</td><td></td></tr>\n");
    }
    page.markup("</tbody>\n</table>\n</section>\n");
}

fn row(
    page: &mut Html,
    facts: &Facts<'_>,
    service: &ServiceReport,
    timeline: &Timeline,
    blocks: u32,
) {
    page.markup("<tr><th scope=\"row\">")
        .text(&service.name, 64)
        .markup("</th><td>");
    add_verdict(page, service.verdict);
    let lasting = facts.report.time.zip(service.since);
    let lasting = lasting.map(|(time, since)| age(time, since));
    if let Some(lasting) = lasting.filter(|it| it.as_secs() > 0) {
        page.markup("<small>for ")
            .text(&rough(lasting), 20)
            .markup("</small>");
    }
    page.markup("</td><td>");
    line(page, timeline, blocks);
    page.markup("</td></tr>\n");
}

fn line(page: &mut Html, timeline: &Timeline, blocks: u32) {
    let told = timeline.told();
    page.markup("<svg role=\"img\" aria-label=\"")
        .text(
            if told.is_empty() {
                "well all the time"
            } else {
                &told
            },
            200,
        )
        .markup("\" viewBox=\"0 0 ")
        .number(blocks)
        .markup(" 10\" preserveAspectRatio=\"none\">");
    let runs = timeline.runs(blocks);
    for level in [
        Level::Well,
        Level::LeftAlone,
        Level::Warning,
        Level::Unknown,
        Level::Critical,
    ] {
        let of_it = || runs.iter().filter(|(.., of)| *of == level);
        if of_it().next().is_none() {
            continue;
        }
        page.markup("<path class=\"")
            .markup(class(level))
            .markup("\" d=\"");
        for &(from, length, _) in of_it() {
            page.markup("M")
                .number(from)
                .markup(height(level))
                .number(length);
        }
        page.markup("\"/>");
    }
    page.markup("</svg>");
    if !told.is_empty() {
        page.markup("<small aria-hidden=\"true\">")
            .text(&told, 200)
            .markup("</small>");
    }
}

/// Where the middle of a stroke is, so that all of them stand on the same ground, and that it goes to the right.
fn height(level: Level) -> &'static str {
    match level {
        Level::Well => " 8.5h",
        Level::LeftAlone => " 9.5h",
        Level::Warning => " 7h",
        Level::Unknown => " 6h",
        Level::Critical => " 5h",
    }
}
