//! What the Compose command says of a service, before it is ever scaled: whether it can have more than one container.
//!
//! The second version of Compose prints its config as JSON, the first as YAML of one certain form: block style, two spaces a
//! level. Only that is read, and only a few keys of one service.

use std::time::Duration;

use serde_json::Value;

use super::Context;
use super::compose::{command, prefix, run};
use crate::child::last_lines;
use crate::config::scale::Scale;
use crate::text::visible;

/// What asking may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What is known of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Service {
    container_name: Option<String>,
    /// Ports of the host that are published and of which there is one each.
    fixed_ports: Vec<String>,
}

/// Why a scale cannot have several replicas, as sentences. The error says why that is not known.
pub fn hindrances(scale: &Scale, context: &Context<'_>) -> Result<Vec<String>, String> {
    let Some(of) = &scale.rule.compose else {
        return Ok(Vec::new());
    };
    let words = prefix(of, command(scale, context));
    let ask = |more: &[&str]| {
        let more = more.iter().map(|&word| word.to_owned());
        let words: Vec<String> = words.iter().cloned().chain(more).collect();
        let limit = LIMIT.min(context.left());
        let ended = run(scale, &words, limit, context)?;
        if ended.status.is_some_and(|status| status.success()) && !ended.is_cut {
            return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
        }
        let said = last_lines(&ended.stderr, 3).join("; ");
        Err(format!("{}: {said}", ended.describe(limit)))
    };
    // the first version does not know this option: it prints its usage to standard error, and exits with 0
    let json = ask(&["config", "--format", "json"]).ok();
    let json: Option<Value> = json.and_then(|text| serde_json::from_str(&text).ok());
    let service = if let Some(config) = &json {
        of_json(config, &of.service)
    } else {
        let text =
            ask(&["config"]).map_err(|why| format!("the config of {}: {why}", shown(&words)))?;
        if !text.lines().any(|line| line == "services:") {
            return Err(format!(
                "the config of {} has no services, or is none",
                shown(&words)
            ));
        }
        of_yaml(&text, &of.service)
    };
    let Some(service) = service else {
        let file = of.file.first().map(|file| file.display().to_string());
        return Ok(vec![format!(
            "there is no service `{}` in {}",
            visible(&of.service),
            visible(&file.unwrap_or_default())
        )]);
    };
    if scale.rule.max == 1 {
        return Ok(Vec::new());
    }
    let mut hindrances = Vec::new();
    if let Some(name) = &service.container_name {
        hindrances.push(format!(
            "it has `container_name: {}`, so there can be one container of it only",
            visible(name)
        ));
    }
    for port in &service.fixed_ports {
        hindrances.push(format!(
            "it is published at port {} of this machine, which only one container can have",
            visible(port)
        ));
    }
    Ok(hindrances)
}

fn shown(words: &[String]) -> String {
    format!("`{}`", visible(&words.join(" ")))
}

/// A port of the host that is one, and no range.
fn is_fixed(published: &str) -> bool {
    !published.is_empty() && published != "0" && published.bytes().all(|byte| byte.is_ascii_digit())
}

fn of_json(config: &Value, name: &str) -> Option<Service> {
    let service = config.get("services")?.get(name)?;
    let ports = service.get("ports").and_then(Value::as_array);
    let published = |port: &Value| match port.get("published")? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let ports = ports.into_iter().flatten().filter_map(published);
    Some(Service {
        container_name: service
            .get("container_name")
            .and_then(Value::as_str)
            .map(str::to_owned),
        fixed_ports: ports.filter(|port| is_fixed(port)).collect(),
    })
}

fn of_yaml(text: &str, name: &str) -> Option<Service> {
    let mut lines = text.lines().skip_while(|line| *line != "services:").skip(1);
    let is_its = |line: &&str| unquoted(line.trim_end_matches(':').trim_start()) == name;
    // its own line is two spaces in
    let mut found = false;
    for line in lines.by_ref() {
        if !line.starts_with(' ') {
            return None;
        }
        if line.starts_with("  ") && !line.starts_with("   ") && is_its(&line) {
            found = true;
            break;
        }
    }
    if !found {
        return None;
    }
    let mut service = Service::default();
    let mut in_ports = false;
    for line in lines.take_while(|line| line.starts_with("    ")) {
        let inner = &line[4..];
        if let Some((key, value)) = inner
            .split_once(':')
            .filter(|_| !inner.starts_with([' ', '-']))
        {
            in_ports = key == "ports";
            if key == "container_name" {
                service.container_name = Some(unquoted(value.trim()).to_owned());
            }
            continue;
        }
        if !in_ports {
            continue;
        }
        let entry = inner.trim_start_matches([' ', '-']);
        if let Some(port) = entry.strip_prefix("published:") {
            service.fixed_ports.extend(fixed(unquoted(port.trim())));
        } else if inner.starts_with('-') && !entry.contains(": ") {
            // [ADDRESS:]HOST:CONTAINER[/PROTOCOL], or the container's alone
            let mut parts = unquoted(entry).rsplit(':').skip(1);
            service.fixed_ports.extend(parts.next().and_then(fixed));
        }
    }
    Some(service)
}

fn fixed(port: &str) -> Option<String> {
    is_fixed(port).then(|| port.to_owned())
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['\'', '"'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: Option<&str>, ports: &[&str]) -> Service {
        Service {
            container_name: name.map(str::to_owned),
            fixed_ports: ports.iter().map(|&port| port.to_owned()).collect(),
        }
    }

    #[test]
    fn what_the_second_version_says_is_read() {
        let text = r#"{"name":"app","services":{
            "free":{"image":"a","ports":[{"target":80},{"target":81,"published":"8000-8009"}]},
            "named":{"container_name":"one"},
            "bound":{"ports":[{"mode":"ingress","target":80,"published":"8080","protocol":"tcp"},{"target":1,"published":9000}]}}}"#;
        let text = &serde_json::from_str(text).unwrap();
        assert_eq!(of_json(text, "free"), Some(service(None, &[])));
        assert_eq!(of_json(text, "named"), Some(service(Some("one"), &[])));
        assert_eq!(
            of_json(text, "bound"),
            Some(service(None, &["8080", "9000"]))
        );
        assert_eq!(of_json(text, "other"), None);
    }

    #[test]
    fn what_the_first_version_says_is_read() {
        let text = "\
networks:
  named: {}
services:
  bound:
    command: [a]
    environment:
      container_name: not-this
    image: a
    ports:
    - 127.0.0.1:8080:80/tcp
    - 9000:90/tcp
    - 80/tcp
    - 8000-8009:80/tcp
    - published: 7000
      target: 70
    - published: 8000-8009
      target: 82
    - target: 71
    restart: always
  free:
    image: a
  named:
    container_name: 'one'
version: '2.4'
";
        assert_eq!(
            of_yaml(text, "bound"),
            Some(service(None, &["8080", "9000", "7000"]))
        );
        assert_eq!(of_yaml(text, "free"), Some(service(None, &[])));
        assert_eq!(of_yaml(text, "named"), Some(service(Some("one"), &[])));
        assert_eq!(of_yaml(text, "other"), None);
        assert_eq!(of_yaml("", "other"), None);
    }
}
