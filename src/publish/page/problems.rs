//! What is wrong: each service that is not well, with why, since when, what was done, and what to type.

use super::{Facts, Html, Level, add_time, add_verdict, advice, class, unwell};
use crate::clock::{age, rough, stamp};
use crate::notify::command;
use crate::report::ServiceReport;
use crate::report::text::{describe, severity};
use crate::restart::Action;
use crate::verdict::Verdict;

/// Findings and notes of a service.
const FEW: usize = 6;
/// Characters of a finding, a note or an error.
const SENTENCE: usize = 400;
/// Lines that a program wrote, the last ones, and the characters of each.
const LINES: usize = 10;
const LINE: usize = 160;

/// Adds the part, whose descriptions take at most about so many bytes; further services are in the table below it.
pub(super) fn add(page: &mut Html, facts: &Facts<'_>, most: usize) {
    let unwell = unwell(facts.report);
    page.markup("<section aria-labelledby=\"wrong\">\n<h2 id=\"wrong\">");
    if unwell.is_empty() {
        let nothing = match facts.report.time {
            Some(_) => "Nothing is wrong</h2>\n</section>\n",
            None => "Nothing is known yet</h2>\n</section>\n",
        };
        page.markup(nothing);
        return;
    }
    page.markup("What is wrong</h2>\n");
    let begin = page.len();
    for (place, service) in unwell.iter().enumerate() {
        let article = article(facts, service, place);
        if place > 0 && page.len() - begin + article.len() > most {
            let left = u64::try_from(unwell.len() - place).unwrap_or_default();
            page.markup("<p><strong>And ")
                .number(left)
                .markup(" more</strong>: in the table below. <code>")
                .text(&command(Some(facts.config), "status"), 300)
                .markup("</code> shows all of it.</p>\n");
            break;
        }
        page.piece(&article);
    }
    page.markup("</section>\n");
}

fn article(facts: &Facts<'_>, service: &ServiceReport, place: usize) -> Html {
    let mut page = Html::default();
    let id = u64::try_from(place).unwrap_or_default();
    page.markup("<article class=\"")
        .markup(class(Level::of(service.verdict)))
        .markup("\" aria-labelledby=\"p")
        .number(id)
        .markup("\">\n<h3 id=\"p")
        .number(id)
        .markup("\">")
        .text(&service.name, 64)
        .markup(" ");
    add_verdict(&mut page, service.verdict);
    page.markup("</h3>\n");
    if let Some(description) = facts.descriptions.get(&*service.name) {
        page.markup("<p class=\"dim\">")
            .text(description, 200)
            .markup("</p>\n");
    }
    page.markup("<dl>\n");
    why(&mut page, service);
    if let Some(since) = service.since {
        page.markup("<dt>Since</dt><dd>").text(&stamp(since), 40);
        let lasting = facts.report.time.map(|time| age(time, since));
        if let Some(lasting) = lasting.filter(|it| it.as_secs() > 0) {
            page.markup(", for ").text(&rough(lasting), 40);
        }
        page.markup("</dd>\n");
    }
    done(&mut page, facts, service);
    page.markup("<dt>To type</dt><dd>");
    for (what, rest) in advice::commands(service) {
        page.markup("<p class=\"dim\">")
            .text(what, 100)
            .markup(":</p><pre><code>")
            .text(&command(Some(facts.config), &rest), 500)
            .markup("</code></pre>");
    }
    page.markup("</dd>\n</dl>\n</article>\n");
    page
}

fn why(page: &mut Html, service: &ServiceReport) {
    if service.findings.is_empty() && service.notes.is_empty() {
        return;
    }
    page.markup("<dt>Why</dt><dd><ul>");
    let mut findings: Vec<_> = service.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings.iter().take(FEW) {
        page.markup("<li>")
            .text(severity(finding.severity), 20)
            .markup(": ")
            .text(&finding.message, SENTENCE)
            .markup(" <code>")
            .text(&finding.code, 60)
            .markup("</code></li>");
    }
    for note in service.notes.iter().take(FEW) {
        page.markup("<li>").text(note, SENTENCE).markup("</li>");
    }
    let left = findings.len().saturating_sub(FEW) + service.notes.len().saturating_sub(FEW);
    if left > 0 {
        page.markup("<li>and ")
            .number(u64::try_from(left).unwrap_or_default())
            .markup(" more</li>");
    }
    page.markup("</ul></dd>\n");
}

fn done(page: &mut Html, facts: &Facts<'_>, service: &ServiceReport) {
    page.markup("<dt>Done</dt><dd>");
    match &service.action {
        Some(action) => add_action(page, action),
        None if service.verdict == Verdict::Unknown => {
            page.markup("nothing: what cannot be seen is no reason for a restart");
        }
        None => {
            page.markup("nothing in the last run");
            let mut entries = facts.entries.iter().rev();
            let last = entries.find_map(|entry| {
                let action = entry.action.as_ref()?;
                (entry.service == service.name).then_some((entry.time, action))
            });
            if let Some((time, action)) = last {
                page.markup("<div>at ");
                add_time(page, time, facts.now);
                page.markup(": ");
                add_action(page, action);
                page.markup("</div>");
            }
        }
    }
    if service.restarts_last_hour > 0 {
        page.markup("<p>")
            .number(u64::try_from(service.restarts_last_hour).unwrap_or_default())
            .markup(" of ")
            .number(service.max_per_hour)
            .markup(" attempts in the last hour</p>");
    }
    page.markup("</dd>\n");
}

fn add_action(page: &mut Html, action: &Action) {
    page.text(&describe(action), SENTENCE);
    if action.stderr.is_empty() {
        return;
    }
    page.markup(". The last lines that it wrote:<pre>");
    let skipped = action.stderr.len().saturating_sub(LINES);
    for line in action.stderr.iter().skip(skipped) {
        page.text(line, LINE).markup("\n");
    }
    page.markup("</pre>");
}
