//! The tables that find services.

use super::*;
use crate::config::discover::{By, Target, Template};
use crate::systemctl::Manager;

const TABLE: &str = r#"
[defaults]
start_grace = "7s"
restart = { max_per_hour = 9 }
[discover.x]
label = "watch"
http = [
    { url = "http://{address}/health", status = [200] },
    { url = "http://127.0.0.1:1/{name}", expect = ['\d{{3}'] },
]
restart = { after_failures = 3 }
"#;

#[expect(clippy::unnecessary_wraps, reason = "as a source answers")]
fn answer(placeholder: &str) -> Option<Result<String, String>> {
    match placeholder {
        "name" => Some(Ok("web".to_owned())),
        "address" => Some(Ok("10.0.0.2:80".to_owned())),
        "label:a" => Some(Ok("bad label\u{7}".to_owned())),
        _ => Some(Err("it has none".to_owned())),
    }
}

fn made(text: &str) -> crate::config::discover::Made {
    let config = good(text);
    let template = Template::of(&config.discover[0], &config);
    template
        .make("app-web-1", &Target::container("web"), &answer)
        .unwrap()
}

fn checks(service: &Service) -> Vec<String> {
    service
        .checks
        .iter()
        .map(|check| check.id.to_string())
        .collect()
}

#[test]
fn what_prometheus_is_asked_of_each_has_its_placeholders_filled_in() {
    let text = "[prometheus]\nurl = \"http://127.0.0.1:9090\"\n[discover.x]\nlabel = \"watch\"\n\
                prometheus = [{ query = 'up{{name=\"{name}\"} == 0' }, { alert = { alertname = \"Bad\", container = \"{name}\" } }]\n";
    let made = made(text);
    let checks = checks(&made.service);
    assert_eq!(checks.len(), 2, "{checks:?}");
    assert!(checks[0].contains(r#"up{name="web"} == 0"#), "{checks:?}");
    assert!(checks[1].contains("web"), "{checks:?}");
}

#[test]
fn a_config_with_nothing_but_a_discover_table_is_whole() {
    let config = good("[discover.x]\nproject = \"app\"\n");
    assert!(config.services.is_empty());
    let table = &config.discover[0];
    assert_eq!(table.by, By::Project("app".to_owned()));
    let exclude: Vec<String> = table.exclude.iter().map(ToString::to_string).collect();
    assert_eq!(exclude, ["auto_repair=false", "watchdog.enable=false"]);
    let units = good("[discover.x]\nunits = \"worker@*.service\"\nmanager = \"user\"\n");
    let by = By::Units {
        pattern: "worker@*.service".to_owned(),
        manager: Manager::User,
    };
    assert_eq!(units.discover[0].by, by);
}

#[test]
fn a_service_is_made_of_the_table_with_its_placeholders_filled_in() {
    let made = made(TABLE);
    let service = &made.service;
    assert_eq!(service.name, "app-web-1");
    assert_eq!(
        checks(service),
        ["http:http://10.0.0.2/health", "http:http://127.0.0.1:1/web"]
            .map(|id| id.replace("10.0.0.2", "10.0.0.2:80"))
    );
    let container = service.container.as_ref().unwrap();
    assert_eq!(
        (container.name.as_deref(), &container.exit_ok[..]),
        (Some("web"), &[0_u8][..])
    );
    assert!(service.method.is_some());
    assert_eq!(service.start_grace, Duration::from_secs(7));
    assert_eq!(service.policy.max_per_hour, 9);
    assert_eq!(service.policy.after_failures, 3);
    assert!(made.unset.is_empty(), "{:?}", made.unset);
    let origin = service.origin.as_ref().unwrap();
    assert_eq!((&*origin.table, &*origin.target), ("x", "web"));
}

#[test]
fn what_cannot_be_filled_in_is_left_out_and_said() {
    for (table, kept, unset) in [
        (
            "http = [{ url = \"http://{ip}/\" }, { url = \"http://{address}/\" }]",
            &["http:http://10.0.0.2:80/"][..],
            "{ip} in http.url cannot be filled in for container web: it has none",
        ),
        (
            "http = [{ url = \"http://{address}/\" }, { url = \"http://10.0.0.1/\", headers = { X-App = \"{project}\" } }]",
            &["http:http://10.0.0.2:80/"],
            "{project} in http#2.headers.X-App cannot be filled in for container web: it has none",
        ),
        (
            "port = [{ address = \"{ip}:1\" }, { address = \"{ip}:2\" }]",
            &[],
            "{ip} in port.address, port#2.address cannot be filled in for container web: it has none",
        ),
        // what a label says does not fit
        (
            "http = [{ url = \"http://{label:a}/\" }]",
            &[],
            "http.url, as filled in for container web, is wrong: there is a blank in it; write %20",
        ),
        (
            "http = [{ url = \"http://{name}/\" }, { url = \"http://{label:a}/\" }]",
            &[],
            "http#2.url, as filled in for container web, is wrong: there is a blank in it; write %20",
        ),
        (
            "restart = { command = [\"/bin/x\", \"{project}\"] }",
            &[],
            "{project} in restart.command cannot be filled in for container web: it has none",
        ),
    ] {
        let made = made(&format!("[discover.x]\nlabel = \"watch\"\n{table}\n"));
        assert_eq!(checks(&made.service), kept, "{table}");
        assert_eq!(made.unset, [unset], "{table}");
        assert!(made.service.container.is_some());
    }
}

#[test]
fn what_is_wrong_with_a_table_is_told_with_its_place() {
    for (text, message) in [
        ("", "it does not say what is looked for"),
        (
            "label = \"a\"\nproject = \"b\"",
            "`project` beside `label` in [discover.x]",
        ),
        ("lable = \"a\"", "unknown key `lable`"),
        ("label = \"=\"", "this is no label"),
        ("label = \"a\"\nport = 0", "`port`"),
        (
            "label = \"a\"\nmanager = \"user\"",
            "`manager` without `units`",
        ),
        ("units = \"a b\"", "is no pattern of the names of units"),
        ("units = \"a*\"\nport = 80", "`port` beside `units`"),
        (
            "label = \"a\"\ncontainer = { name = \"x\" }",
            "`container` in a `discover` table",
        ),
        (
            "units = \"a*\"\nsystemd = { unit = \"x\" }",
            "`systemd` in a `discover` table",
        ),
        (
            "units = \"a*\"\nspawn = { command = [\"x\"] }",
            "`spawn` in a `discover` table",
        ),
        (
            "units = \"a*\"\nrestart = { command = [\"x\"] }",
            "`restart.command` in a `discover` table of units",
        ),
        (
            "label = \"a\"\nspawn = { command = [\"x\"] }",
            "`spawn` in a `discover` table",
        ),
        (
            "label = \"a\"\nhttp = [{ url = \"http://{adress}/\" }]",
            "there is no placeholder `{adress}`",
        ),
        (
            "label = \"a\"\nhttp = [{ url = \"http://{unit}/\" }]",
            "there is no placeholder `{unit}`",
        ),
        (
            "label = \"a\"\nhttp = [{ url = \"http://{address}/\", sttaus = [200] }]",
            "unknown key `sttaus`",
        ),
        ("label = \"a\"\ndepends_on = [\"db\"]", "no service `db`"),
    ] {
        let told = told(&bad(&format!("[discover.x]\n{text}\n")));
        assert!(told.contains(message), "{text}:\n{told}");
        assert!(told.contains("watchdog.toml:"), "{told}");
    }
    let told = told(&bad("discover = 3\n"));
    assert!(told.contains("must be a table"), "{told}");
    let told = super::told(&bad("discover.x = 3\n"));
    assert!(told.contains("must be a table"), "{told}");
}

#[test]
fn a_table_is_shown_with_its_placeholders_and_means_the_same_when_it_is_read_again() {
    let config = good(&format!("{TABLE}exclude = []\nport = 8080\n"));
    let shown = to_toml(&config);
    assert!(shown.contains("http://{address}/health"), "{shown}");
    assert!(shown.contains(r"\d{{3}"), "{shown}");
    assert!(shown.contains("working_dir = \"/etc/watchdog\""), "{shown}");
    assert!(shown.contains("exclude = []"), "{shown}");
    let again = good(&shown);
    assert_eq!(to_toml(&again), shown);
    let shown = to_toml(&good(
        "[discover.x]\nlabel = \"a\"\n[discover.y]\nunits = \"a@*\"\n",
    ));
    let exclude = "exclude = [\"auto_repair=false\", \"watchdog.enable=false\"]";
    assert_eq!(shown.matches(exclude).count(), 1, "{shown}");
    let of = |config: &Config| {
        let table = config.discover[0].clone();
        let template = Template::of(&table, config);
        let made = template
            .make("a", &Target::container("web"), &answer)
            .unwrap();
        (
            table.by,
            table.exclude,
            table.port,
            made.service.checks,
            made.service.policy,
        )
    };
    assert_eq!(of(&config), of(&again));
    // a secret is not shown
    let secret = "[discover.x]\nlabel = \"a\"\nhttp = [{ url = \"http://{ip}/\", headers = { Authorization = \"Bearer 7391\" } }]\n";
    let config = good(secret);
    assert!(!to_toml(&config).contains("7391"));
    assert!(!format!("{:?}", config.discover).contains("7391"));
}

#[test]
fn the_process_that_evidence_is_taken_of_is_filled_in_later() {
    let text =
        "[discover.x]\nlabel = \"a\"\nevidence = { command = [\"spy\", \"{name}\", \"{pid}\"] }\n";
    let config = good(text);
    let template = Template::of(&config.discover[0], &config);
    let made = template
        .make("a", &Target::container("web"), &answer)
        .unwrap();
    assert_eq!(made.unset, Vec::<String>::new());
    let command = made.service.evidence.command.unwrap();
    assert_eq!(command[2], "{pid}");
    assert_ne!(command[1], "{name}");
    // nowhere else
    let told = told(&bad(
        "[discover.x]\nlabel = \"a\"\nhttp = [{ url = \"http://{pid}/\" }]\n",
    ));
    assert!(told.contains("there is no placeholder `{pid}`"), "{told}");
}

#[test]
fn two_services_of_a_config_are_not_one_container() {
    let told = told(&bad(
        "[service.a]\ncontainer = { name = \"x\" }\n[service.b]\ncontainer = { name = \"x\" }\n",
    ));
    assert!(
        told.contains("the service `a` is the container x, too"),
        "{told}"
    );
}
