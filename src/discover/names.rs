//! What services are called that containers become.

use std::collections::BTreeSet;

use crate::check::container::{Compose, compose};
use crate::client::engine::Listed;
use crate::config::RESERVED;

/// A service's name has so many characters at the most.
const LONGEST: usize = 64;

/// A name for each container, no two the same: project-service-number where Compose made it, else the container's own.
pub(super) fn of_containers(containers: &[&Listed]) -> Vec<String> {
    let mut taken = BTreeSet::from([RESERVED.to_owned()]);
    // one that Compose made has its name first, whatever the order of the list
    let mut names: Vec<Option<String>> = vec![None; containers.len()];
    for of_compose in [true, false] {
        for (place, container) in containers.iter().enumerate() {
            let compose = compose(&container.labels);
            if compose.is_some() != of_compose {
                continue;
            }
            let by_compose = compose.map(
                |Compose {
                     project,
                     service,
                     number,
                 }| { format!("{project}-{service}-{number}") },
            );
            let own = container.name();
            let numbered = (2_usize..).map(|number| format!("{own}-{number}"));
            let candidates = by_compose
                .into_iter()
                .chain([own.to_owned()])
                .chain(numbered);
            let mut candidates = candidates.map(|name| fitting(&name));
            names[place] = candidates.find(|name| taken.insert(name.clone()));
        }
    }
    names.into_iter().map(Option::unwrap_or_default).collect()
}

/// A name that a service may have. One that is too long ends with a number that is made of all of it, so that two of them
/// are not the same.
fn fitting(name: &str) -> String {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fit: String = name
        .chars()
        .map(|c| if right(c) { c } else { '-' })
        .collect();
    if fit.len() <= LONGEST {
        return if fit.is_empty() {
            "container".to_owned()
        } else {
            fit
        };
    }
    // FNV-1a, which is the same in every version
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{}-{hash:08x}", &fit[..LONGEST - 9])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, labels: &[(&str, &str)]) -> Listed {
        let label = |(key, value): &(&str, &str)| {
            (format!("com.docker.compose.{key}"), (*value).to_owned())
        };
        Listed {
            names: vec![format!("/{name}")],
            labels: labels.iter().map(label).collect(),
            ..Listed::default()
        }
    }

    #[test]
    fn names_are_those_of_compose_or_of_the_container_and_no_two_the_same() {
        let of_app = |number| {
            [
                ("project", "app"),
                ("service", "web"),
                ("container-number", number),
            ]
        };
        let long = "x".repeat(80);
        let other = format!("{}y", "x".repeat(79));
        for (containers, names) in [
            (
                vec![container("a", &of_app("1")), container("b", &of_app("2"))],
                vec!["app-web-1", "app-web-2"],
            ),
            (vec![container("gate_way.x", &[])], vec!["gate_way.x"]),
            // the one that Compose made has the name
            (
                vec![container("app-web-1", &[]), container("z", &of_app("1"))],
                vec!["app-web-1-2", "app-web-1"],
            ),
            // two of a number, while one is re-created
            (
                vec![container("a", &of_app("1")), container("b", &of_app("1"))],
                vec!["app-web-1", "b"],
            ),
            (
                vec![container("a", &[("project", "p p"), ("service", "ž")])],
                vec!["p-p---1"],
            ),
            // that is the name of the watchdog itself
            (
                vec![container("watchdog", &[]), container("watchdog-2", &[])],
                vec!["watchdog-2", "watchdog-2-2"],
            ),
            (
                vec![container(&long, &[]), container(&other, &[])],
                vec![
                    &*format!("{}-{}", "x".repeat(55), "67b9d905"),
                    &*format!("{}-{}", "x".repeat(55), "66b9d772"),
                ],
            ),
        ] {
            let listed: Vec<&Listed> = containers.iter().collect();
            let found = of_containers(&listed);
            assert_eq!(found, names);
            assert!(found.iter().all(|name| name.len() <= LONGEST));
        }
    }
}
