//! The `systemd` table of a service.

use super::Manager;
use crate::table::{Checked, Context, Value, choice, quoted, table};

table! {
    /// A unit that systemd runs; the second restart method, and a check as well.
    pub struct Unit like "systemd = { unit = \"trader.service\" }" {
        /// Its name; ".service" may be left out.
        unit: String as UnitName, example r#""trader.service""#;
        /// Or "user": the manager of the user that the watchdog runs as.
        manager: Manager = Manager::System;
        /// Whether a unit that a timer, socket or path starts, or a job (`Type=oneshot`), is started when it has failed;
        /// else that is only alerted about.
        rerun: bool = false;
    }
}

choice! { Manager: "system" = System, "user" = User }

/// The name of a unit, with its suffix.
struct UnitName;

impl Checked for UnitName {
    type Of = String;
    const KIND: &'static str = "the name of a unit";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        unit_name(value)
    }
}

fn unit_name(value: &Value<'_>) -> Option<String> {
    const RESTARTABLE: [&str; 8] = [
        "service",
        "socket",
        "timer",
        "target",
        "mount",
        "automount",
        "path",
        "swap",
    ];
    let text = value.filled()?;
    let right =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if !text.chars().all(right) || text.starts_with(['.', '@', '-']) || text.len() > 240 {
        value.wrong(
            &format!("{} is not the name of a unit", quoted(&text)),
            "write one unit's name, like trader.service, without a path or a wildcard",
        );
        return None;
    }
    let (stem, suffix) = match text.rsplit_once('.') {
        Some((stem, suffix)) if RESTARTABLE.contains(&suffix) => (stem, suffix),
        Some((_, suffix @ ("device" | "scope" | "slice" | "snapshot"))) => {
            value.wrong(
                &format!("a {suffix} cannot be restarted"),
                "name the service that runs the program",
            );
            return None;
        }
        _ => (text.as_str(), "service"),
    };
    if stem.ends_with('@') {
        value.wrong(
            &format!("{} is a template, not a unit", quoted(&text)),
            "write its instance too, like trader@one.service",
        );
        return None;
    }
    Some(format!("{stem}.{suffix}"))
}
