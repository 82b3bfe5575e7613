//! Which containers become services.

use super::own;
use crate::check::container::{behind_digits, compose, is_one_off, select};
use crate::client::engine::Listed;
use crate::config::Config;
use crate::config::discover::{By, Discover, Holds, LabelRule};

/// The ids of containers that services of the config are.
pub(super) fn named(config: &Config, listed: &[Listed]) -> Vec<String> {
    let rules = config
        .services
        .iter()
        .filter_map(|it| it.container.as_ref());
    let found = rules.flat_map(|rule| select(rule, listed).found);
    found.map(|container| container.id.clone()).collect()
}

/// The containers that a table means, by their names; those aside whose ids are `taken`.
pub(super) fn chosen<'a>(
    table: &Discover,
    listed: &'a [Listed],
    taken: &[String],
) -> Vec<&'a Listed> {
    let mut chosen: Vec<&Listed> = listed
        .iter()
        .filter(|container| is_meant(table, container))
        .filter(|container| !taken.contains(&container.id))
        .filter(|container| !is_remade(container, listed))
        .collect();
    chosen.sort_by_key(|container| container.name());
    chosen
}

/// Whether a table means any container, be it another one's already; that of the watchdog itself aside.
pub fn has_any(table: &Discover, listed: &[Listed]) -> bool {
    let own: Vec<String> = own::id(listed).into_iter().collect();
    !chosen(table, listed, &own).is_empty()
}

fn is_meant(table: &Discover, container: &Listed) -> bool {
    let labels = &container.labels;
    let is_looked_for = match &table.by {
        By::Label(rule) => rule.selects(labels),
        By::Project(project) => compose(labels).is_some_and(|it| it.project == *project),
        By::Units { .. } => false,
    };
    is_looked_for
        && !container.name().is_empty()
        && !is_one_off(labels)
        && !table.exclude.iter().any(|rule| rule.opts_out(labels))
}

/// Whether it only stands beside the one that Compose re-creates.
fn is_remade(container: &Listed, listed: &[Listed]) -> bool {
    behind_digits(container.name())
        .is_some_and(|rest| listed.iter().any(|other| other.name() == rest))
}

/// Labels of containers, of which a table cannot tell whether they mean yes or no: the container, the label, its value,
/// and whether the container is left out for it.
pub fn odd_labels<'a>(
    table: &'a Discover,
    listed: &'a [Listed],
) -> Vec<(&'a str, &'a str, &'a str, bool)> {
    let odd = |rule: &'a LabelRule, container: &'a Listed, is_out: bool| {
        let value = container.labels.get(&rule.key)?;
        (rule.holds(&container.labels) == Holds::Odd).then_some((
            container.name(),
            &*rule.key,
            &**value,
            is_out,
        ))
    };
    let mut found = Vec::new();
    for container in listed.iter().filter(|it| !is_one_off(&it.labels)) {
        let is_candidate = match &table.by {
            By::Label(rule) => {
                found.extend(odd(rule, container, !rule.selects(&container.labels)));
                rule.selects(&container.labels)
            }
            By::Project(project) => {
                compose(&container.labels).is_some_and(|it| it.project == *project)
            }
            By::Units { .. } => false,
        };
        if is_candidate {
            found.extend(
                table
                    .exclude
                    .iter()
                    .filter_map(|rule| odd(rule, container, true)),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Environment};

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("/w.toml"), &Environment::default()).unwrap()
    }

    fn container(name: &str, labels: &[(&str, &str)]) -> Listed {
        let label = |(key, value): &(&str, &str)| {
            let key = match *key {
                "project" | "service" | "oneoff" => format!("com.docker.compose.{key}"),
                other => other.to_owned(),
            };
            (key, (*value).to_owned())
        };
        Listed {
            id: format!("id-{name}"),
            names: vec![format!("/{name}"), "/other/link".to_owned()],
            labels: labels.iter().map(label).collect(),
            ..Listed::default()
        }
    }

    fn all() -> Vec<Listed> {
        vec![
            container("z-plain", &[("watch", "")]),
            container("a-no", &[("watch", "no")]),
            container("b-out", &[("watch", "true"), ("auto_repair", "False")]),
            container("c-odd", &[("watch", "ture")]),
            container("d-odd-out", &[("watch", "1"), ("watchdog.enable", "nope")]),
            container("e-in", &[("watch", "1"), ("watchdog.enable", "yes")]),
            container("f-other", &[]),
            container("g-once", &[("watch", "1"), ("oneoff", "True")]),
            container("app-web-1", &[("project", "app"), ("service", "web")]),
            container(
                "0123456789ab_app-web-1",
                &[("project", "app"), ("service", "web")],
            ),
            container("app-db-1", &[("project", "app"), ("service", "db")]),
            container("0123456789ab_gone", &[("project", "app"), ("service", "x")]),
        ]
    }

    #[test]
    fn containers_are_chosen_by_label_or_project_and_can_opt_out() {
        let all = all();
        for (by, chosen_ones) in [
            ("label = \"watch\"", &["c-odd", "e-in", "z-plain"][..]),
            ("label = \"watch=on\"", &["e-in", "z-plain"]),
            (
                "label = \"watch\"\nexclude = []",
                &["b-out", "c-odd", "d-odd-out", "e-in", "z-plain"],
            ),
            (
                "label = \"watch\"\nexclude = [\"watchdog.enable\"]",
                &["b-out", "c-odd", "z-plain"],
            ),
            ("label = \"nowhere\"", &[]),
            (
                "project = \"app\"",
                &["0123456789ab_gone", "app-db-1", "app-web-1"],
            ),
        ] {
            let config = config(&format!("[discover.x]\n{by}\n"));
            let found = chosen(&config.discover[0], &all, &[]);
            let names: Vec<&str> = found.iter().map(|it| it.name()).collect();
            assert_eq!(names, chosen_ones, "{by}");
        }
    }

    #[test]
    fn what_a_service_of_the_config_is_is_not_found() {
        let config = config(
            "[service.mine]\ncontainer = { project = \"app\", service = \"web\" }\n\
             [service.other]\ncontainer = { name = \"z-plain\" }\n[discover.x]\nproject = \"app\"\n",
        );
        let all = all();
        let taken = named(&config, &all);
        assert_eq!(taken, ["id-app-web-1", "id-z-plain"]);
        let found = chosen(&config.discover[0], &all, &taken);
        let names: Vec<&str> = found.iter().map(|it| it.name()).collect();
        assert_eq!(names, ["0123456789ab_gone", "app-db-1"]);
    }

    #[test]
    fn values_that_mean_neither_yes_nor_no_are_listed() {
        let config =
            config("[discover.x]\nlabel = \"watch\"\n[discover.y]\nlabel = \"watch=true\"\n");
        let all = all();
        assert_eq!(
            odd_labels(&config.discover[0], &all),
            [
                ("c-odd", "watch", "ture", false),
                ("d-odd-out", "watchdog.enable", "nope", true)
            ]
        );
        assert_eq!(
            odd_labels(&config.discover[1], &all)[0],
            ("c-odd", "watch", "ture", true)
        );
    }
}
