//! What happened in the last 24 hours, the newest first.

use super::{Facts, Html, Level, WINDOW, add_time, class};
use crate::notify::command;
use crate::report::text::describe;
use crate::state::journal::{DeliveryEvent, Entry, JournalEvent};

/// More are not shown.
const MOST: usize = 50;
/// Characters of what is said of one.
const SENTENCE: usize = 160;

/// Adds the part, whose rows take at most so many bytes.
pub(super) fn add(page: &mut Html, facts: &Facts<'_>, most: usize) {
    page.markup("<section aria-labelledby=\"events\">\n<h2 id=\"events\">Recent events</h2>\n");
    let mut recent = (facts.entries.iter().rev())
        .filter(|entry| entry.time >= facts.now - WINDOW && is_worth_it(entry))
        .peekable();
    if recent.peek().is_none() {
        page.markup("<p>Nothing happened in the last 24 hours.</p>\n</section>\n");
        return;
    }
    page.markup("<table>\n<caption>The newest first.</caption>\n<thead><tr><th scope=\"col\" class=\"t\">Time</th><th scope=\"col\" class=\"n\">Service</th><th scope=\"col\">What</th></tr></thead>\n<tbody>\n");
    let begin = page.len();
    let mut shown = 0;
    while let Some(entry) = recent.peek() {
        let row = row(facts, entry);
        if shown == MOST || page.len() - begin + row.len() > most {
            break;
        }
        page.piece(&row);
        shown += 1;
        recent.next();
    }
    page.markup("</tbody>\n</table>\n");
    let left = recent.count();
    if left > 0 {
        page.markup("<p>")
            .number(u64::try_from(left).unwrap_or_default())
            .markup(" earlier ones: <code>")
            .text(&command(Some(facts.config), "history --since 1d"), 300)
            .markup("</code></p>\n");
    }
    page.markup("</section>\n");
}

/// That a message went out is what should be.
fn is_worth_it(entry: &Entry) -> bool {
    entry
        .delivery()
        .is_none_or(|(_, what)| what != DeliveryEvent::Sent)
}

fn row(facts: &Facts<'_>, entry: &Entry) -> Html {
    let mut row = Html::default();
    row.markup("<tr><td>");
    add_time(&mut row, entry.time, facts.now);
    row.markup("</td><td>")
        .text(&entry.service, 64)
        .markup("</td><td><span class=\"v ")
        .markup(class(level(entry)))
        .markup("\">")
        .text(&entry.event.name().replace('_', " "), 40)
        .markup("</span>");
    if let Some(sentence) = sentence(entry) {
        row.markup("<br>").text(&sentence, SENTENCE);
    }
    row.markup("</td></tr>\n");
    row
}

fn level(entry: &Entry) -> Level {
    match &entry.event {
        JournalEvent::Verdict(verdict) => Level::of(*verdict),
        JournalEvent::Recovered => Level::Well,
        JournalEvent::StateDamaged | JournalEvent::Interrupted => Level::Critical,
        JournalEvent::OutboxDamaged | JournalEvent::Mail(_) | JournalEvent::Alert(_) => {
            Level::Warning
        }
        _ => Level::LeftAlone,
    }
}

/// What was done; else what was seen; else what is said of it.
fn sentence(entry: &Entry) -> Option<String> {
    let done = entry.action.as_ref().map(describe);
    let worst = entry.findings.iter().max_by_key(|finding| finding.severity);
    let seen = worst.map(|finding| finding.message.clone());
    done.or(seen).or_else(|| entry.message.clone())
}
