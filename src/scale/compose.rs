//! Replicas that are containers of a Compose service.
//!
//! They are counted by the labels that Compose gives them, as the engine lists them, and changed by the Compose command
//! itself: only that knows how one of them is made. The service stands at the end of the command line: what is not named
//! there, Compose would set back to the number that the file has.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::failure::Failure;
use super::{Context, Replica, Replicas};
use crate::check::container::{behind_digits, compose, is_one_off};
use crate::child::{self, last_lines};
use crate::client::engine::Listed;
use crate::config::scale::{Compose, Scale};
use crate::program::Program;
use crate::text::visible;

/// What asking which command there is may take.
const ASKING: Duration = Duration::from_secs(10);

/// So many of the last lines of a command are reported.
const REPORTED_LINES: usize = 20;

/// The containers of a service that run.
pub(super) fn count(of: &Compose, listed: &[Listed]) -> Replicas {
    let mut replicas = Replicas::default();
    let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
    for container in listed {
        let Some(labels) = compose(&container.labels) else {
            continue;
        };
        let is_meant = labels.project == of.project && labels.service == of.service;
        if !is_meant || is_one_off(&container.labels) {
            continue;
        }
        let number = labels.number.parse().unwrap_or(0);
        *numbers.entry(number).or_default() += 1;
        match container.state.as_str() {
            "running" => replicas.running.push(Replica {
                number,
                id: container.id.clone(),
                age: None,
                group: None,
            }),
            "paused" => {
                let why = format!(
                    "{} is paused by somebody, and Compose does nothing while it is",
                    visible(container.name())
                );
                replicas.left_alone = Some(why);
            }
            _ => {}
        }
        if behind_digits(container.name()).is_some() {
            let why = format!(
                "{} is what is left of a container that Compose makes anew, or did not",
                visible(container.name())
            );
            replicas.left_alone = Some(why);
        }
    }
    if let Some((number, _)) = numbers.iter().find(|(_, count)| **count > 1) {
        replicas.left_alone.get_or_insert_with(|| {
            format!("there are two containers with number {number}: Compose makes one anew")
        });
    }
    replicas.running.sort_by_key(|replica| replica.number);
    replicas
}

/// The Compose command of a scale: the one of the config, else `docker compose` where that answers, else
/// `docker-compose`.
pub fn command(scale: &Scale, context: &Context<'_>) -> Vec<String> {
    if let Some(command) = &scale.rule.command {
        return command.clone();
    }
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let plugin: Vec<String> = words(&["docker", "compose"]);
    let mut version = plugin.clone();
    version.push("version".to_owned());
    let answers = run(scale, &version, ASKING, context)
        .is_ok_and(|ended| ended.status.is_some_and(|status| status.success()));
    if answers {
        return plugin;
    }
    words(&["docker-compose"])
}

/// The words that every call begins with: the command, the project and its files.
pub fn prefix(of: &Compose, command: Vec<String>) -> Vec<String> {
    let mut words = command;
    words.extend(["-p".to_owned(), of.project.clone()]);
    for file in &of.file {
        words.extend(["-f".to_owned(), file.to_string_lossy().into_owned()]);
    }
    words
}

/// Runs a Compose command in the directory of its file, for the engine that containers are counted by.
pub fn run(
    scale: &Scale,
    words: &[String],
    limit: Duration,
    context: &Context<'_>,
) -> Result<child::Ended, String> {
    let first = scale.rule.compose.as_ref().and_then(|it| it.file.first());
    let directory = first.and_then(|file| file.parent());
    let directory: &Path = directory.unwrap_or(&scale.directory);
    let mut env = Vec::new();
    if let Ok(socket) = context.containers.path() {
        env.push((
            "DOCKER_HOST".to_owned(),
            format!("unix://{}", socket.display()),
        ));
    }
    let program = Program {
        command: words,
        working_dir: directory,
        user: None,
        group: None,
        env: &env,
        env_file: None,
    };
    let prepared = program.prepare()?;
    let mut command = Command::new(&prepared.path);
    command
        .args(words.iter().skip(1))
        .current_dir(directory)
        .env_clear()
        .envs(&prepared.variables);
    child::run(command, None, limit)
        .map_err(|error| format!("cannot run {}: {error}", prepared.path.display()))
}

/// Has so many containers of the service run, within `limit`. What it answers is only told: what counts is what is
/// counted then.
pub(super) fn change(
    scale: &Scale,
    of: &Compose,
    to: u32,
    limit: Duration,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let mut words = prefix(of, command(scale, context));
    let service = of.service.clone();
    words.extend(
        [
            "up",
            "-d",
            "--no-recreate",
            "--no-deps",
            "--no-build",
            "--scale",
        ]
        .map(str::to_owned),
    );
    words.extend([format!("{service}={to}"), service]);
    ::log::info!("{}: {}", scale.name, visible(&words.join(" ")));
    let ended = run(scale, &words, limit, context).map_err(Failure::from)?;
    if ended.status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let mut lines = last_lines(&ended.stderr, REPORTED_LINES);
    if lines.is_empty() {
        lines = last_lines(&ended.stdout, REPORTED_LINES);
    }
    let said = lines.last().map(|line| format!(": {line}"));
    Err(Failure {
        error: format!(
            "the Compose command {}{}",
            ended.describe(limit),
            said.unwrap_or_default()
        ),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, number: &str, state: &str, more: &[(&str, &str)]) -> Listed {
        let label =
            |key: &str, value: &str| (format!("com.docker.compose.{key}"), value.to_owned());
        let mut labels: BTreeMap<String, String> = [
            label("project", "app"),
            label("service", "worker"),
            label("container-number", number),
            label("oneoff", "False"),
        ]
        .into();
        labels.extend(more.iter().map(|(key, value)| label(key, value)));
        Listed {
            id: format!("id-{name}"),
            names: vec![format!("/{name}")],
            state: state.to_owned(),
            labels,
            ..Listed::default()
        }
    }

    #[test]
    fn what_runs_of_the_service_is_counted_by_its_labels() {
        let of = Compose {
            file: vec!["/srv/app/docker-compose.yml".into()],
            project: "app".to_owned(),
            service: "worker".to_owned(),
            command: None,
        };
        let counted = |listed: &[Listed]| {
            let replicas = count(&of, listed);
            let numbers: Vec<u32> = replicas.numbers().into_iter().collect();
            (numbers, replicas.left_alone)
        };
        let two = [
            listed("app_worker_2", "2", "running", &[]),
            listed("app_worker_1", "1", "running", &[]),
        ];
        assert_eq!(counted(&two), (vec![1, 2], None));
        let others = [
            listed("app_worker_1", "1", "running", &[]),
            listed("app_worker_2", "2", "exited", &[]),
            listed("app_worker_3", "3", "created", &[]),
            listed("app_worker_4", "4", "restarting", &[]),
            listed("app_worker_run_x", "1", "running", &[("oneoff", "True")]),
            listed("app_web_1", "1", "running", &[("service", "web")]),
            listed("other_worker_1", "1", "running", &[("project", "other")]),
            Listed::default(),
        ];
        assert_eq!(counted(&others), (vec![1], None));
        for (container, why) in [
            (listed("app_worker_2", "2", "paused", &[]), "paused"),
            (listed("app_worker_1", "1", "created", &[]), "number 1"),
            (
                listed("0123456789ab_app_worker_2", "2", "exited", &[]),
                "anew",
            ),
        ] {
            let all = [listed("app_worker_1", "1", "running", &[]), container];
            let (numbers, left_alone) = counted(&all);
            assert_eq!(numbers, [1], "{why}");
            assert!(left_alone.unwrap().contains(why), "{why}");
        }
    }

    #[test]
    fn a_command_names_project_and_files() {
        let of = Compose {
            file: vec!["/a.yml".into(), "/b.yml".into()],
            project: "app".to_owned(),
            service: "worker".to_owned(),
            command: None,
        };
        let words = prefix(&of, vec!["docker".to_owned(), "compose".to_owned()]);
        assert_eq!(words.join(" "), "docker compose -p app -f /a.yml -f /b.yml");
    }
}
