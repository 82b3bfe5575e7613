//! What goes out by a channel, and how much of it: the keys that the table of each channel has.

use std::time::Duration;

use glob::Pattern;

use super::quiet::Quiet;
use super::{Event, Severity};
use crate::table::{
    Checked, Context, Filled, Flat, Part, Positive, Table, Value, Within, choice, quoted, table,
};

/// What stands for all services.
const ALL: &str = "*";

table! {
    /// What is reported, and how often.
    pub struct Routing like "on = [\"down\"]", check has_one_choice {
        /// What is reported; there is also "unknown", "started" (the first run with a new state), and of scales "scaled" and
        /// "at_max". A "report", and "watchdog" (trouble of its own), are sent to every channel, whatever stands here.
        on: Vec<Event> = vec![
            Event::Restarted,
            Event::Repaired,
            Event::RestartFailed,
            Event::RepairFailed,
            Event::Exhausted,
            Event::Down,
            Event::Degraded,
            Event::Recovered,
            Event::ScaleFailed,
        ];
        /// In place of `on`: all that matters so much or more (info, warning, error or critical), and its end.
        min_severity: Option<Severity>, commented r#""critical""#;
        /// Names of services, in which `*`, `?` and `[…]` stand for parts of names: only these are reported.
        services: Vec<String> as Filled<Vec<Names>> = vec![ALL.to_owned()], example r#"["*"]"#;
        /// How often the same failure of the same service is reported again while it lasts, "0s": never; "degraded" and
        /// "unknown" are reported once.
        remind_every: Duration = Duration::from_hours(1);
        /// Messages; the next one after says how many were held back. The first critical one of an incident never is.
        max_per_hour: u32 as Within<1, 3600> = 12;
        /// Only what still lasts after so long is reported, and its end; "0s": all of it, at once.
        escalate_after: Duration = Duration::ZERO;
        /// Hours in which nothing is sent: it is kept, and sent as one message when they are over, without what has
        /// recovered by then. `except` names what is sent all the same: what matters so much or more.
        quiet: Option<Quiet>, commented r#"{ from = "22:00", to = "07:00", zone = "local", except = "critical" }"#;
    }
}

table! {
    /// What the table of each channel but mail has beside its own keys.
    pub struct Common like "on = [\"down\"]" {
        /// What is reported, and how often.
        routing: Routing => Flat;
        /// For all messages of a run on this channel.
        timeout: Duration as Positive = Duration::from_secs(10);
    }
}

choice! {
    Event:
    "restarted" = Restarted,
    "repaired" = Repaired,
    "restart_failed" = RestartFailed,
    "repair_failed" = RepairFailed,
    "exhausted" = Exhausted,
    "down" = Down,
    "recovered" = Recovered,
    "degraded" = Degraded,
    "unknown" = Unknown,
    "report" = Report,
    "watchdog" = Watchdog,
    "started" = Started,
    "scaled" = Scaled,
    "scale_failed" = ScaleFailed,
    "at_max" = AtMax,
}

choice! {
    Severity:
    "info" = Info,
    "warning" = Warning,
    "error" = Error,
    "critical" = Critical,
}

/// All that a table can choose, the least first.
const CHOICES: [Event; 13] = [
    Event::Started,
    Event::Recovered,
    Event::Scaled,
    Event::Degraded,
    Event::AtMax,
    Event::Repaired,
    Event::Restarted,
    Event::Unknown,
    Event::Down,
    Event::RepairFailed,
    Event::ScaleFailed,
    Event::RestartFailed,
    Event::Exhausted,
];

fn has_one_choice(table: &Table<'_>, part: &mut Part<Routing>) {
    table.at_most_one(
        &["on", "min_severity"],
        "what is reported is said by one of on, min_severity",
    );
    // from here on it is what `on` would say
    if let (None, Some(Some(least))) = (&part.on, part.min_severity.take()) {
        let chosen = |event: &Event| *event == Event::Recovered || event.severity() >= least;
        part.on = Some(CHOICES.into_iter().filter(chosen).collect());
    }
}

/// A name of services, or a pattern of names.
struct Names;

impl Checked for Names {
    type Of = String;
    const KIND: &'static str = "a name, in which `*`, `?` and `[…]` stand for parts";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        if let Err(error) = Pattern::new(&text) {
            value.wrong(
                &format!("{} is no pattern of names: {}", quoted(&text), error.msg),
                "write it like \"trader\" or \"web-*\"",
            );
            return None;
        }
        Some(text)
    }
}

impl Routing {
    /// Whether what happens to a service is reported.
    pub fn concerns(&self, service: &str) -> bool {
        self.services.iter().any(|names| means(names, service))
    }

    /// Whether there are times at which it keeps back what it has to report.
    pub fn holds_back(&self) -> bool {
        self.quiet.is_some() || !self.escalate_after.is_zero()
    }

    /// When the same is reported again after it was; absent: never.
    pub fn reminds_after(&self) -> Option<Duration> {
        Some(self.remind_every).filter(|every| !every.is_zero())
    }
}

/// Whether a name or a pattern of names means a service.
pub fn means(names: &str, service: &str) -> bool {
    names == ALL || Pattern::new(names).is_ok_and(|pattern| pattern.matches(service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::routing;

    #[test]
    fn services_are_meant_by_names_and_patterns() {
        for (names, service, is_meant) in [
            (&["*"][..], "trader", true),
            (&["trader"], "trader", true),
            (&["trader"], "trader2", false),
            (&["web-*", "db"], "web-1", true),
            (&["web-*", "db"], "db", true),
            (&["web-*", "db"], "xweb-1", false),
            (&["*.app"], "a.b.app", true),
        ] {
            let routing = Routing {
                services: names.iter().map(|&name| name.to_owned()).collect(),
                ..routing(&[])
            };
            assert_eq!(routing.concerns(service), is_meant, "{names:?} {service}");
        }
    }
}
