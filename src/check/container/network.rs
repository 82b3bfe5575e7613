//! Containers that share the network of another one, as `network_mode: service:…` has it.
//!
//! An engine makes the network of a container anew when it starts it. Those that share it keep the one that was there
//! before, which reaches nothing any more, until they are restarted themselves.

use chrono::{DateTime, Utc};

use super::select::named;
use super::{Answer, RECREATION, compose};
use crate::client::engine::Listed;
use crate::clock::{age, rough};

/// A network that a container shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The id of the container that it belongs to; absent: that one is not there any more.
    pub owner: Option<String>,
    /// Whether it is lost.
    pub loss: Option<Loss>,
}

/// That a container runs without its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A restart mends it. A sentence.
    Restart(String),
    /// Only making it anew mends it. A sentence.
    Remake(String),
    /// It, or what it belongs to, is being made anew right now. A sentence.
    BeingMade(String),
}

/// What another container's network a container has, and whether that is lost. Nothing where it has one of its own.
pub fn shared(container: &Listed, answer: &Answer, now: DateTime<Utc>) -> Option<Shared> {
    let wanted = owner_of(container, answer)?;
    let is_up = container.state == "running";
    let Some(owner) = named(wanted, &answer.listed) else {
        let loss = is_up.then(|| gone(container, answer, now));
        return Some(Shared { owner: None, loss });
    };
    let started = |container: &Listed| {
        let is_up = container.state == "running";
        is_up.then(|| answer.started_at(&container.id)).flatten()
    };
    let since = started(owner).filter(|at| started(container).is_some_and(|own| own < *at));
    let loss = since.map(|at| {
        Loss::Restart(format!(
            "{} has lost its network, which is that of {}: that was started anew {} ago",
            container.name(),
            owner.name(),
            rough(age(now, at))
        ))
    });
    Some(Shared {
        owner: Some(owner.id.clone()),
        loss,
    })
}

/// The id, or the name, of the container whose network one shares.
fn owner_of<'a>(container: &'a Listed, answer: &'a Answer) -> Option<&'a str> {
    let of_list = container.host.network_mode.strip_prefix("container:");
    of_list.or_else(|| {
        let details = answer.details(&container.id)?.as_ref().ok()?;
        details.host_config.network_mode.strip_prefix("container:")
    })
}

fn gone(container: &Listed, answer: &Answer, now: DateTime<Utc>) -> Loss {
    let project = |it: &Listed| compose(&it.labels).map(|it| it.project.to_owned());
    let own = project(container);
    let is_young = |it: &&Listed| {
        let made = DateTime::from_timestamp(it.created, 0);
        let is_new = made.is_some_and(|made| now - made < RECREATION && now - made > -RECREATION);
        own.is_some() && project(it) == own && is_new
    };
    let name = container.name();
    match (answer.listed.iter().find(is_young), own) {
        (Some(young), Some(project)) => Loss::BeingMade(format!(
            "{name} has lost its network while Compose makes project {project} anew: {} was made just now",
            young.name()
        )),
        (_, Some(project)) => Loss::Remake(format!(
            "{name} has lost its network: the container that it belongs to is not there any more, and a restart does not mend that; `docker compose -p {project} up -d` makes it anew"
        )),
        (_, None) => Loss::Remake(format!(
            "{name} has lost its network: the container that it belongs to is not there any more, and a restart does not mend that; make it anew with `docker rm` and `docker run`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unchanged;
    use super::*;
    use crate::client::engine::{Details, State, Trouble};
    use crate::fixtures::at;

    fn listed(name: &str, mode: &str) -> Listed {
        let mut container = Listed {
            id: format!("id-of-{name}"),
            names: vec![format!("/{name}")],
            state: "running".to_owned(),
            created: at(-86_400).timestamp(),
            ..Listed::default()
        };
        mode.clone_into(&mut container.host.network_mode);
        container
    }

    fn details(id: &str, started: i64) -> (String, Result<Details, Trouble>) {
        let details = Details {
            id: id.to_owned(),
            state: State {
                started_at: Some(at(started)),
                ..State::default()
            },
            ..Details::default()
        };
        (id.to_owned(), Ok(details))
    }

    fn answer(containers: Vec<Listed>, started: &[(&str, i64)]) -> Answer {
        Answer {
            listed: containers,
            details: started.iter().map(|(id, at)| details(id, *at)).collect(),
            unchanged: Vec::new(),
        }
    }

    #[test]
    fn a_network_is_lost_once_its_owner_was_started_after_who_shares_it() {
        for mode in ["container:id-of-vpn", "container:vpn"] {
            for (vpn, client, is_lost) in
                [(-600, -500, false), (-400, -500, true), (-500, -500, false)]
            {
                let containers = vec![listed("vpn", "bridge"), listed("client", mode)];
                let times = [("id-of-vpn", vpn), ("id-of-client", client)];
                let answer = answer(containers, &times);
                let shared = shared(&answer.listed[1], &answer, at(0)).unwrap();
                assert_eq!(shared.owner.as_deref(), Some("id-of-vpn"));
                let sentence = "client has lost its network, which is that of vpn: that was started anew 6m 40s ago";
                let loss = is_lost.then(|| Loss::Restart(sentence.to_owned()));
                assert_eq!(shared.loss, loss, "{mode} {vpn} {client}");
            }
        }
    }

    #[test]
    fn what_did_not_change_has_the_start_that_is_remembered() {
        let containers = vec![listed("vpn", "bridge"), listed("client", "container:vpn")];
        let mut answer = answer(containers, &[("id-of-client", -500)]);
        answer.unchanged.push(Unchanged {
            id: "id-of-vpn".to_owned(),
            pid: 1,
            started_at: Some(at(-400)),
        });
        let shared = shared(&answer.listed[1], &answer, at(0)).unwrap();
        assert!(matches!(shared.loss, Some(Loss::Restart(_))));
    }

    #[test]
    fn a_network_of_its_own_is_not_shared_and_what_does_not_run_has_lost_nothing() {
        let mut down = listed("client", "container:vpn");
        "exited".clone_into(&mut down.state);
        let mut gone = listed("other", "container:gone");
        "exited".clone_into(&mut gone.state);
        let containers = vec![listed("vpn", "bridge"), down, gone];
        let answer = answer(containers, &[("id-of-vpn", -400), ("id-of-client", -500)]);
        assert_eq!(shared(&answer.listed[0], &answer, at(0)), None);
        let of = |place: usize| shared(&answer.listed[place], &answer, at(0)).unwrap();
        assert_eq!(of(1).loss, None);
        assert_eq!((of(2).owner, of(2).loss), (None, None));
    }

    #[test]
    fn of_an_owner_that_is_not_there_only_making_it_anew_helps() {
        let of_project = |mut container: Listed, made: i64| {
            let label = "com.docker.compose.";
            for (key, value) in [("project", "app"), ("service", "x")] {
                (container.labels).insert(format!("{label}{key}"), value.to_owned());
            }
            container.created = at(made).timestamp();
            container
        };
        let client = || listed("client", "container:gone");
        for (containers, part) in [
            (vec![client()], "`docker rm` and `docker run`"),
            (
                vec![of_project(client(), -9000)],
                "`docker compose -p app up -d` makes it anew",
            ),
            (
                vec![
                    of_project(client(), -9000),
                    of_project(listed("vpn", "bridge"), -9000),
                ],
                "`docker compose -p app up -d` makes it anew",
            ),
            (
                vec![
                    of_project(client(), -9000),
                    of_project(listed("vpn", "bridge"), -10),
                ],
                "vpn was made just now",
            ),
        ] {
            let answer = answer(containers, &[("id-of-client", -500)]);
            let shared = shared(&answer.listed[0], &answer, at(0)).unwrap();
            assert_eq!(shared.owner, None);
            let Some(Loss::Remake(why) | Loss::BeingMade(why)) = &shared.loss else {
                panic!("{shared:?}");
            };
            assert!(why.contains(part), "{why}");
            let is_made = matches!(shared.loss, Some(Loss::BeingMade(_)));
            assert_eq!(is_made, part.contains("just now"), "{why}");
        }
    }
}
