//! Which of all containers is a service's.

use std::collections::BTreeMap;

use super::Rule;
use crate::client::engine::Listed;

/// The label of the Compose project that a container belongs to.
const PROJECT: &str = "com.docker.compose.project";
/// The label of its service.
const SERVICE: &str = "com.docker.compose.service";
/// The label of one that was made by `compose run`, for one time.
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// The label of the number that it has among those of its service.
const NUMBER: &str = "com.docker.compose.container-number";

/// What Compose says of a container that it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compose<'a> {
    /// Its project.
    pub project: &'a str,
    /// Its service.
    pub service: &'a str,
    /// Its number among those of the service.
    pub number: &'a str,
}

/// What Compose says of a container, where it made it.
pub fn compose(labels: &BTreeMap<String, String>) -> Option<Compose<'_>> {
    Some(Compose {
        project: labels.get(PROJECT)?,
        service: labels.get(SERVICE)?,
        number: labels.get(NUMBER).map_or("1", String::as_str),
    })
}

/// Whether Compose made it for one time.
pub fn is_one_off(labels: &BTreeMap<String, String>) -> bool {
    labels
        .get(ONE_OFF)
        .is_some_and(|it| it.eq_ignore_ascii_case("true"))
}

/// What was found for a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<'a> {
    /// Those that it may be. One is right.
    pub found: Vec<&'a Listed>,
    /// What Compose makes in the place of it, or has left of it: named after it, behind twelve digits.
    pub beside: Vec<&'a Listed>,
}

/// Looks for the container that a rule means.
pub fn select<'a>(rule: &Rule, listed: &'a [Listed]) -> Selected<'a> {
    let mut selected = Selected {
        found: Vec::new(),
        beside: Vec::new(),
    };
    for container in listed {
        let name = container.name();
        let is_meant = |name: &str| match &rule.name {
            Some(wanted) => wanted == name,
            None => is_of_compose(rule, &container.labels),
        };
        match behind_digits(name) {
            Some(rest) if is_meant(rest) && rule.name.as_deref() != Some(name) => {
                selected.beside.push(container);
            }
            _ if is_meant(name) => selected.found.push(container),
            _ => {}
        }
    }
    selected
}

fn is_of_compose(rule: &Rule, labels: &BTreeMap<String, String>) -> bool {
    let label = |key: &str| labels.get(key).map(String::as_str);
    rule.project.is_some()
        && label(PROJECT) == rule.project.as_deref()
        && label(SERVICE) == rule.service.as_deref()
        && !is_one_off(labels)
}

/// The container of an id or a name.
pub(super) fn named<'a>(wanted: &str, listed: &'a [Listed]) -> Option<&'a Listed> {
    let is_it = |it: &&Listed| it.id == wanted || it.name() == wanted;
    listed.iter().find(is_it).filter(|_| !wanted.is_empty())
}

/// Compose puts twelve hexadecimal digits and `_` before a name while it re-creates a container.
pub fn behind_digits(name: &str) -> Option<&str> {
    let (digits, rest) = name.split_once('_')?;
    let is_hexadecimal = digits.len() == 12
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_hexadecimal.then_some(rest)
}

/// Who restarts a container by itself, and how that is done by hand.
pub fn managed_by(labels: &BTreeMap<String, String>) -> Option<&'static str> {
    let has = |start: &str| labels.keys().any(|key| key.starts_with(start));
    if has("com.docker.swarm.task") {
        return Some("Docker Swarm; `docker service update --force SERVICE` restarts it");
    }
    if has("io.kubernetes.") {
        return Some("Kubernetes; `kubectl rollout restart` restarts it");
    }
    if has("com.hashicorp.nomad.") {
        return Some("Nomad; `nomad alloc restart` restarts it");
    }
    labels.contains_key("PODMAN_SYSTEMD_UNIT").then_some(
        "a systemd unit; name that in `systemd = { unit = \"…\" }` in place of the container",
    )
}
