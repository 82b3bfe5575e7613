//! What is asked of a container, and how it was, for `why`.

use super::{LastSeen, Rule};

/// The container and what the engine said of it last.
pub fn explain(rule: &Rule, last_seen: Option<&LastSeen>) -> String {
    let Some(known) = last_seen else {
        return format!("{rule} has to run");
    };
    let health = match &known.health {
        Some(health) => format!(", {health}"),
        None => ", without a HEALTHCHECK".to_owned(),
    };
    let id: String = known.id.chars().take(12).collect();
    format!(
        "{rule} has to run: {} ({id}, image {}) was {}{health}",
        known.name, known.image, known.state
    )
}
