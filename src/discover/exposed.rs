//! The ports that containers in the network of the host expose. An engine's list does not have them.

use std::time::Instant;

use super::{choose, values};
use crate::client::engine::{Details, Engine, Listed, Port};
use crate::config::Config;

/// Adds the ports that the images of such containers name, of those that a table means. One whose details do not come stays
/// without.
pub(super) fn add(config: &Config, listed: &mut [Listed], run_ends: Instant) {
    let lacks = |container: &Listed| {
        values::runs(container) && values::shares_host(container) && container.ports.is_empty()
    };
    let ids: Vec<String> = config
        .discover
        .iter()
        .filter(|table| table.port.is_none())
        .flat_map(|table| choose::chosen(table, listed, &[]))
        .filter(|container| lacks(container))
        .map(|container| container.id.clone())
        .collect();
    let Ok(path) = config.containers.path() else {
        return;
    };
    if ids.is_empty() {
        return;
    }
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let details = Engine::at(&path).details(&wanted, config.containers.call_limit(), run_ends);
    for (id, details) in ids.iter().zip(details) {
        let container = listed.iter_mut().find(|container| container.id == *id);
        if let (Some(container), Ok(details)) = (container, details) {
            container.ports = ports(&details);
        }
    }
}

/// The ports that an image names, `8080/tcp`.
fn ports(details: &Details) -> Vec<Port> {
    let exposed = details.config.exposed_ports.keys();
    let ports = exposed.filter_map(|port| {
        let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
        Some(Port {
            private_port: number.parse().ok()?,
            kind: kind.to_owned(),
            ..Port::default()
        })
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_an_image_are_numbers_with_their_kinds() {
        let text = r#"{"Config":{"ExposedPorts":{"8080/tcp":{},"53/udp":{},"9000":{},"9000-9010/tcp":{}}}}"#;
        let details: Details = serde_json::from_str(text).unwrap();
        let found = ports(&details);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.private_port, &*it.kind))
            .collect();
        assert_eq!(found, [(53, "udp"), (8080, "tcp"), (9000, "tcp")]);
    }
}
