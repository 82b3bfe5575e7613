//! Containers that share a network, and what is decided about them when its owner is restarted.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::check::container::{LastSeen, NETWORK_LOST};
use crate::config::{self, Environment};

const CONFIG: &str = r#"
[service.vpn]
container = { name = "vpn" }
[service.client]
container = { name = "client" }
restart = { after_failures = 3 }
"#;

fn services(text: &str) -> Vec<Arc<Service>> {
    let config = config::parse(text, Path::new("/w.toml"), &Environment::default()).unwrap();
    config.services
}

fn seen(state: &str, network_of: Option<&str>) -> Observation {
    let mut seen = up(10, 3600);
    seen.network_of = network_of.map(str::to_owned);
    seen.subject.container = Some(Arc::new(LastSeen {
        state: state.to_owned(),
        ..LastSeen::default()
    }));
    seen
}

/// Decides as a run does.
fn decided(
    services: &[Arc<Service>],
    seen: &mut BTreeMap<String, Observation>,
    state: &State,
) -> BTreeMap<String, Decision> {
    let decisions = decide_with_losses(services, seen, |seen| {
        let facts = Facts {
            seen,
            state,
            now: at(NOW),
            trusted: true,
        };
        decide(services, facts)
    });
    let named = decisions.into_iter().map(|it| (it.service.clone(), it));
    named.collect()
}

fn observed(vpn: Observation, client: Observation) -> BTreeMap<String, Observation> {
    BTreeMap::from([("vpn".to_owned(), vpn), ("client".to_owned(), client)])
}

fn unhealthy() -> Observation {
    with(
        seen("running", None),
        Kind::Container,
        "container_unhealthy",
        Severity::Critical,
    )
}

#[test]
fn who_shares_the_network_of_what_is_restarted_is_restarted_after_it() {
    let services = services(CONFIG);
    let mut all = observed(unhealthy(), seen("running", Some("vpn")));
    let decisions = decided(&services, &mut all, &State::default());
    // at once, whatever `after_failures` says: it does not come back by itself
    assert_eq!(decisions["vpn"].operation, Some(Operation::Restart));
    assert_eq!(decisions["client"].operation, Some(Operation::Restart));
    assert_eq!(decisions["client"].after, ["vpn"]);
    let [finding] = &all["client"].findings[..] else {
        panic!("{all:?}");
    };
    assert_eq!(finding.code, NETWORK_LOST);
    assert!(finding.message.contains("`vpn`, which is restarted"));
}

#[test]
fn nothing_is_lost_where_nothing_is_restarted_or_nothing_runs() {
    let well = || seen("running", None);
    let shares = || seen("running", Some("vpn"));
    let other = CONFIG.replace(
        "container = { name = \"vpn\" }",
        "container = { name = \"vpn\" }\nrestart = { command = [\"/bin/true\"] }",
    );
    for (text, vpn, client) in [
        (CONFIG, well(), shares()),
        (CONFIG, unhealthy(), seen("exited", Some("vpn"))),
        (CONFIG, unhealthy(), seen("running", None)),
        (CONFIG, unhealthy(), seen("running", Some("another"))),
        // what a command does is not known
        (&other, unhealthy(), shares()),
    ] {
        let mut all = observed(vpn, client);
        let decisions = decided(&services(text), &mut all, &State::default());
        assert!(all["client"].findings.is_empty(), "{text} {all:?}");
        assert_eq!(decisions["client"].operation, None);
    }
}

#[test]
fn the_budget_of_who_shares_it_holds_and_it_waits_for_an_owner_that_is_not_well() {
    let services = services(CONFIG);
    let spent = attempts(&[30, 20, 10]);
    let mut state = State::default();
    state
        .services
        .insert("client".to_owned(), Box::new(spent.clone()));
    let mut all = observed(unhealthy(), seen("running", Some("vpn")));
    let decisions = decided(&services, &mut all, &state);
    assert_eq!(decisions["vpn"].operation, Some(Operation::Restart));
    assert_eq!(decisions["client"].verdict, Verdict::Exhausted);

    let mut state = State::default();
    state.services.insert("vpn".to_owned(), Box::new(spent));
    let lost = with(
        seen("running", Some("vpn")),
        Kind::Container,
        NETWORK_LOST,
        Severity::Critical,
    );
    let mut all = observed(unhealthy(), lost);
    let decisions = decided(&services, &mut all, &state);
    assert_eq!(decisions["client"].verdict, Verdict::Waiting);
    let why = decisions["client"].why.as_deref();
    assert_eq!(why, Some("waits for `vpn`, which is exhausted"));
}

#[test]
fn those_that_share_with_one_that_shares_follow_it() {
    let text = format!("{CONFIG}\n[service.third]\ncontainer = {{ name = \"third\" }}\n");
    let services = services(&text);
    let mut all = observed(unhealthy(), seen("running", Some("vpn")));
    all.insert("third".to_owned(), seen("running", Some("client")));
    let decisions = decided(&services, &mut all, &State::default());
    assert_eq!(decisions["third"].operation, Some(Operation::Restart));
    assert_eq!(decisions["third"].after, ["client"]);
}
