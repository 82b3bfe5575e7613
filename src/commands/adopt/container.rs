//! A container that a person named, by its name or the beginning of its id.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{table, toml};
use crate::check::container::{Containers, compose, is_one_off, list, managed_by};
use crate::client::engine::Listed;
use crate::discover::address;
use crate::text::visible;

/// What the engine may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the engine is taken to be if there is none.
const USUAL: &str = "/run/docker.sock";

/// An id is as good as a name from so many characters on.
const SHORTEST_ID: usize = 4;

/// The name of the service, and its table, where the engine has such a container. The error says why the engine could not
/// be asked; where nothing names an engine and there is none, there are no containers.
pub(super) fn named(
    asked: &str,
    containers: &Containers,
) -> Result<Option<(String, String)>, String> {
    let is_named = containers.socket.is_some();
    let path = containers.path()?;
    if !is_named && path == Path::new(USUAL) && !path.exists() {
        return Ok(None);
    }
    let listed = list(containers, Instant::now() + LIMIT)?;
    Ok(meant(asked, &listed).map(|container| {
        let service = service(container);
        let text = text(container, &listed, &service);
        (service, text)
    }))
}

/// The container of this name, or the only one whose id begins so.
fn meant<'a>(asked: &str, listed: &'a [Listed]) -> Option<&'a Listed> {
    let name = asked.trim_start_matches('/');
    if let Some(found) = listed
        .iter()
        .find(|it| !name.is_empty() && it.name() == name)
    {
        return Some(found);
    }
    let mut by_id =
        (listed.iter()).filter(|it| name.len() >= SHORTEST_ID && it.id.starts_with(name));
    by_id.next().filter(|_| by_id.next().is_none())
}

/// What it is called: as its service in Compose is, else as itself.
fn service(container: &Listed) -> String {
    let of_compose = compose(&container.labels).filter(|_| !is_one_off(&container.labels));
    table::as_name(of_compose.map_or(container.name(), |it| it.service))
}

fn text(container: &Listed, listed: &[Listed], service: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# container {}, of image {}: {}",
        container.name(),
        visible(&container.image),
        visible(&container.status)
    );
    if let Some(who) = managed_by(&container.labels) {
        let _ = writeln!(text, "# it belongs to {who}; here it would be unknown");
    }
    let _ = writeln!(text, "[service.{}]", toml::key(service));
    let of_compose = compose(&container.labels).filter(|own| {
        let is_same = |it: &&Listed| {
            compose(&it.labels)
                .is_some_and(|other| (other.project, other.service) == (own.project, own.service))
                && !is_one_off(&it.labels)
        };
        listed.iter().filter(is_same).count() == 1 && !is_one_off(&container.labels)
    });
    let _ = match of_compose {
        // whatever number its container has
        Some(it) => writeln!(
            text,
            "container = {{ project = {}, service = {} }}",
            toml::quoted(it.project),
            toml::quoted(it.service)
        ),
        None => writeln!(
            text,
            "container = {{ name = {} }}",
            toml::quoted(container.name())
        ),
    };
    text.push_str("# where an end with 0 is no failure: exit_ok = [0] in that table\n");
    if container.state == "running"
        && !container.status.contains("(health")
        && !container.status.contains("(unhealthy")
    {
        text.push_str("# it has no HEALTHCHECK: a probe sees whether it answers\n");
        if let Ok(address) = address(container) {
            let _ = writeln!(text, "#port = [{{ address = {} }}]", toml::quoted(&address));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    fn listed() -> Vec<Listed> {
        let text = r#"[
            {"Id":"aaaa11","Names":["/web"],"Image":"wd:1","State":"running","Status":"Up 3 minutes",
             "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]},
            {"Id":"aaaa22","Names":["/app-api-1"],"State":"running","Status":"Up 1 hour (healthy)",
             "Labels":{"com.docker.compose.project":"app","com.docker.compose.service":"api"}},
            {"Id":"cccc33","Names":["/app-job-1"],"State":"exited","Status":"Exited (0) 1 hour ago",
             "Labels":{"com.docker.compose.project":"app","com.docker.compose.service":"job"}},
            {"Id":"dddd44","Names":["/app-job-2"],"State":"exited","Status":"Exited (0) 1 hour ago",
             "Labels":{"com.docker.compose.project":"app","com.docker.compose.service":"job"}},
            {"Id":"eeee55","Names":["/swarm"],"Labels":{"com.docker.swarm.task.id":"x"}}
        ]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_container_is_meant_by_its_name_or_the_beginning_of_its_id() {
        let listed = listed();
        for (asked, name) in [
            ("web", Some("web")),
            ("/web", Some("web")),
            ("aaaa1", Some("web")),
            ("cccc", Some("app-job-1")),
            // two of them, too short, none
            ("aaaa", None),
            ("ccc", None),
            ("", None),
            ("nowhere", None),
        ] {
            assert_eq!(meant(asked, &listed).map(Listed::name), name, "{asked}");
        }
    }

    #[test]
    fn the_table_is_a_config_of_that_container() {
        let listed = listed();
        for (asked, service_is, container, more) in [
            (
                "web",
                "web",
                "container = { name = \"web\" }",
                "#port = [{ address = \"127.0.0.1:8080\" }]",
            ),
            (
                "app-api-1",
                "api",
                "container = { project = \"app\", service = \"api\" }",
                "",
            ),
            // by the service it would be two
            (
                "app-job-2",
                "job",
                "container = { name = \"app-job-2\" }",
                "",
            ),
            (
                "swarm",
                "swarm",
                "container = { name = \"swarm\" }",
                "# it belongs to Docker Swarm",
            ),
        ] {
            let container_is = meant(asked, &listed).unwrap();
            let name = service(container_is);
            let text = text(container_is, &listed, &name);
            assert_eq!(name, service_is);
            assert!(text.contains(container) && text.contains(more), "{text}");
            assert_eq!(text.contains("HEALTHCHECK"), asked == "web", "{text}");
            for text in [text.clone(), text.replace("#port", "port")] {
                let path = std::path::Path::new("/w.toml");
                let config = config::parse(&text, path, &Environment::default());
                assert!(config.is_ok(), "{text}: {config:?}");
            }
        }
    }
}
