//! The traps of scales: what could not be scaled, measured or waited for.

use std::time::Instant;

use super::{SYSTEMCTL_LIMIT, Traps};
use crate::clock::{Reading, rough};
use crate::config::Config;
use crate::config::scale::{Asked, Metric, Scale};
use crate::scale::{Context, preflight};
use crate::systemctl::{is_booted, systemctl};

/// Looks at all scales.
pub(super) fn look(config: &Config, now: &Reading, traps: &mut Traps) {
    for scale in &config.scales {
        let context = Context {
            containers: &config.containers,
            prometheus: config.prometheus.as_deref(),
            check_timeout: config.check_timeout,
            run_ends: Instant::now() + config.run_timeout,
            now,
        };
        in_target(scale, &context, traps);
        in_limits(scale, config, traps);
        in_metric(scale, traps);
        in_services(scale, config, traps);
    }
}

impl Traps {
    fn of_scale(&mut self, scale: &Scale, key: &str, message: impl AsRef<str>, help: &str) {
        let mut place = vec!["scale".to_owned(), scale.name.clone()];
        place.extend(key.split('.').map(str::to_owned));
        self.0.push(super::PlacedTrap {
            file: Some(std::sync::Arc::clone(&scale.file)),
            place,
            message: format!("{}: {}", scale.name, message.as_ref()),
            help: help.to_owned(),
        });
    }
}

fn in_target(scale: &Scale, context: &Context<'_>, traps: &mut Traps) {
    if let Some(compose) = &scale.rule.compose {
        if let Some(file) = compose.file.iter().find(|file| !file.is_file()) {
            traps.of_scale(
                scale,
                "compose.file",
                format!("there is no file {}", file.display()),
                "name the Compose file that the project was started with",
            );
            return;
        }
        match preflight::hindrances(scale, context) {
            Ok(hindrances) => {
                for why in hindrances {
                    traps.of_scale(
                        scale,
                        "compose.service",
                        format!("{} cannot be scaled: {why}", compose.service),
                        "take that out of the Compose file (publish a range of ports, or none), or write max = 1",
                    );
                }
            }
            Err(why) => traps.of_scale(
                scale,
                "compose",
                format!("whether it can be scaled is not known: {why}"),
                "the Compose command has to work for the watchdog's user, without the variables of a shell: try it with `env -i PATH=$PATH`",
            ),
        }
        return;
    }
    let Some(unit) = scale.rule.unit(1) else {
        return;
    };
    if !is_booted() {
        traps.of_scale(
            scale,
            "units",
            "this machine was not booted by systemd",
            "scale containers, by `compose`",
        );
        return;
    }
    let args = ["show", "--property=LoadState", "--value", "--", &unit];
    if let Ok(ended) = systemctl(scale.rule.manager(), &args, SYSTEMCTL_LIMIT) {
        let load = String::from_utf8_lossy(&ended.stdout);
        let load = load.trim();
        if !matches!(load, "loaded" | "") {
            traps.of_scale(
                scale,
                "units",
                format!("systemd cannot start {unit}: it is {load}"),
                "is there a template of that name, such as /etc/systemd/system/celery@.service? `manager` says whose systemd has it",
            );
        }
    }
}

fn in_limits(scale: &Scale, config: &Config, traps: &mut Traps) {
    let rule = &scale.rule;
    if rule.start_timeout >= config.run_timeout {
        traps.of_scale(
            scale,
            "start_timeout",
            format!(
                "start_timeout ({}) is as long as run_timeout ({}), which ends the run before",
                rough(rule.start_timeout),
                rough(config.run_timeout)
            ),
            "make it a part of run_timeout",
        );
    }
    if rule.max_per_hour == 0 {
        traps.of_scale(
            scale,
            "max_per_hour",
            "nothing is ever changed with `max_per_hour = 0`",
            "that is right where only `at_max` is to be reported",
        );
    }
}

fn in_metric(scale: &Scale, traps: &mut Traps) {
    let Metric::Asked(asked) = &scale.rule.metric else {
        return;
    };
    let Asked::Redis { url, ca_file, .. } = &**asked else {
        return;
    };
    let read = url.read("URL").and_then(|text| {
        crate::client::redis::Server::parse(&text, ca_file.clone())
            .map_err(|why| format!("its URL is no right one: {why}"))
    });
    match read {
        Err(why) => traps.of_scale(
            scale,
            "metric",
            why,
            "put the URL there, in one line, like redis://user:password@host:6379/0",
        ),
        Ok(server) if server.sends_secret_openly() => traps.of_scale(
            scale,
            "metric",
            format!(
                "the password for {} crosses the network as it is",
                server.origin()
            ),
            "use rediss:// where the server speaks TLS, or an address of this host",
        ),
        Ok(_) => {}
    }
}

/// A service that is the one container of what has several.
fn in_services(scale: &Scale, config: &Config, traps: &mut Traps) {
    let Some(compose) = scale.rule.compose.as_ref().filter(|_| scale.rule.max > 1) else {
        return;
    };
    for service in &config.services {
        let Some(rule) = &service.container else {
            continue;
        };
        let is_same = rule.project.as_deref() == Some(&*compose.project)
            && rule.service.as_deref() == Some(&*compose.service);
        if is_same {
            traps.of(
                service,
                "container",
                format!(
                    "the scale `{}` has up to {} containers of it, and a service is one",
                    scale.name, scale.rule.max
                ),
                "watch them by [discover.NAME] with `project`",
            );
        }
    }
}
