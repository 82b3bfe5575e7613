//! A report of a stretch of time as one HTML document: no scripts, and nothing from elsewhere; and a browser is told to
//! take none.

use std::fmt::Write as _;

use super::text::{attempt, headline, known_from, span, title};
use super::{PeriodReport, ServicePeriod};
use crate::clock::{rough, stamp};
use crate::text::{cut, visible};

/// So many attempts of a service are shown, the newest.
const ATTEMPTS: usize = 100;

/// No quoted text is longer, in characters.
const QUOTED: usize = 400;

const STYLE: &str = "
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-bottom: .2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8888; vertical-align: top }
td.n, th.n { text-align: right }
ul { padding-left: 1.2rem; margin: .2rem 0 } li { overflow-wrap: anywhere }
.bad { color: #c0392b; font-weight: 600 } .dim { opacity: .7 }
.scroll { overflow-x: auto }
";

/// A text without what means something in HTML, and without control characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The document.
pub fn document(report: &PeriodReport) -> String {
    let mut html = String::new();
    let heading = escaped(&format!("watchdog report: {}", report.host));
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{heading}</h1>\n\
         <p class=\"dim\">{}</p>\n<p>{}</p>\n",
        escaped(&title(report)),
        escaped(&headline(report))
    );
    add_table(&mut html, report);
    for service in report.services.iter().filter(|it| !it.is_quiet()) {
        add_service(&mut html, service);
    }
    add_rest(&mut html, report);
    html.push_str("</body>\n</html>\n");
    html
}

fn add_table(html: &mut String, report: &PeriodReport) {
    html.push_str(
        "<div class=\"scroll\"><table>\n<tr><th>service</th><th class=\"n\">restarts</th><th class=\"n\">repairs</th>\
         <th class=\"n\">failures</th><th class=\"n\">not well</th><th class=\"n\">between restarts</th></tr>\n",
    );
    let made = |number: usize, failed: usize| match (number, failed) {
        (0, _) => String::new(),
        (number, 0) => number.to_string(),
        (number, failed) => format!("{number} ({failed} failed)"),
    };
    for service in &report.services {
        let mark = if service.in_trouble {
            " <span class=\"bad\">in trouble</span>"
        } else {
            ""
        };
        let failures = made(service.failures, 0);
        let not_well = if service.not_well.is_zero() {
            String::new()
        } else {
            rough(service.not_well)
        };
        let between = service.mean_between_restarts.map(rough).unwrap_or_default();
        let _ = writeln!(
            html,
            "<tr><td>{}{mark}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{failures}</td>\
             <td class=\"n\">{not_well}</td><td class=\"n\">{between}</td></tr>",
            escaped(&service.name),
            made(service.restarts, service.restarts_failed),
            made(service.repairs, service.repairs_failed),
        );
    }
    html.push_str("</table></div>\n");
}

fn add_service(html: &mut String, service: &ServicePeriod) {
    let _ = writeln!(html, "<h2>{}</h2>", escaped(&service.name));
    if let Some(longest) = &service.longest_trouble {
        let _ = writeln!(html, "<p>Longest trouble: {}</p>", escaped(&span(longest)));
    }
    if service.attempts.is_empty() {
        return;
    }
    let earlier = service.attempts.len().saturating_sub(ATTEMPTS);
    if earlier > 0 {
        let _ = writeln!(
            html,
            "<p class=\"dim\">{earlier} earlier attempts are left out.</p>"
        );
    }
    html.push_str("<ul>\n");
    for made in service.attempts.iter().skip(earlier) {
        let class = if made.ok { "" } else { " class=\"bad\"" };
        let _ = write!(html, "<li><span{class}>{}</span>", escaped(&attempt(made)));
        for fact in &made.facts {
            let _ = write!(
                html,
                "<br><span class=\"dim\">{}</span>",
                escaped(&cut(fact, QUOTED))
            );
        }
        html.push_str("</li>\n");
    }
    html.push_str("</ul>\n");
}

fn add_rest(html: &mut String, report: &PeriodReport) {
    let mut items = Vec::new();
    for silent in &report.silent {
        items.push(format!("no run for {}", span(silent)));
    }
    for trouble in &report.troubles {
        let message = cut(&trouble.message, QUOTED);
        items.push(format!("{}: {message}", stamp(trouble.time)));
    }
    for (channel, counts) in &report.messages {
        items.push(format!(
            "messages by {channel}: {} sent, {} refused, {} given up",
            counts.sent, counts.refused, counts.given_up
        ));
    }
    items.extend(known_from(report));
    if items.is_empty() {
        return;
    }
    html.push_str("<h2>The watchdog itself</h2>\n<ul>\n");
    for item in items {
        let _ = writeln!(html, "<li>{}</li>", escaped(&item));
    }
    html.push_str("</ul>\n");
}
