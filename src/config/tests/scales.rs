//! `[scale.NAME]` tables.

use super::*;
use crate::config::scale::{Asked, Level, Levels, Metric};
use crate::systemctl::Manager;

const COMPOSE: &str =
    "compose = { file = \"docker-compose.yml\", project = \"app\", service = \"worker\" }";

fn scale(lines: &str) -> Scale {
    let config = good(&format!("[scale.w]\n{lines}\n"));
    Scale::clone(&config.scales[0])
}

fn level(number: f64) -> Level {
    Level::of(number).unwrap()
}

#[test]
fn a_config_with_nothing_but_a_scale_is_whole_and_has_all_defaults() {
    let scale = scale(COMPOSE);
    let rule = &scale.rule;
    let compose = rule.compose.as_ref().unwrap();
    assert_eq!(
        compose.file,
        [Path::new("/etc/watchdog/docker-compose.yml")]
    );
    assert_eq!(
        (rule.min, rule.max, rule.step, rule.max_per_hour),
        (1, 5, 1, 6)
    );
    assert_eq!(rule.metric, Metric::Cpu);
    assert_eq!(rule.levels(), Some(Levels::Between(level(0.8), level(0.2))));
    let times = [
        rule.up_after,
        rule.down_after,
        rule.cooldown,
        rule.start_timeout,
        rule.start_grace,
    ];
    assert_eq!(times.map(|time| time.as_secs()), [60, 600, 300, 60, 60]);
    assert_eq!(rule.command, None);
    let shown = to_toml(&good(&format!("[scale.w]\n{COMPOSE}\n")));
    assert_eq!(good(&shown).scales[0].rule, *rule, "{shown}");
}

#[test]
fn a_scale_says_what_it_goes_by() {
    for (lines, levels) in [
        (
            "metric = \"memory\"",
            Levels::Between(level(0.8), level(0.2)),
        ),
        ("scale_up_at = 1.5", Levels::Between(level(1.5), level(0.2))),
        (
            "metric = { command = [\"x\"] }\nper_replica = 100",
            Levels::Each(level(100.0)),
        ),
        (
            "metric = { prometheus = \"sum(x)\" }\nscale_up_at = 9\nscale_down_at = 0",
            Levels::Between(level(9.0), level(0.0)),
        ),
    ] {
        let prometheus = "[prometheus]\nurl = \"http://127.0.0.1:9090\"\n";
        let config = good(&format!("{prometheus}[scale.w]\n{COMPOSE}\n{lines}\n"));
        let scale = &config.scales[0];
        assert_eq!(scale.rule.levels(), Some(levels), "{lines}");
    }
    let queue = scale(
        "units = \"celery@{n}\"\nmanager = \"user\"\nper_replica = 1\n\
         metric = { redis = \"redis://:7391@127.0.0.1\", list = \"celery\", timeout = \"2s\" }",
    );
    let Metric::Asked(asked) = &queue.rule.metric else {
        panic!("{:?}", queue.rule.metric);
    };
    assert!(matches!(&**asked, Asked::Redis { list, .. } if list == "celery"));
    assert!(!format!("{queue:?}").contains("7391"));
    assert_eq!(queue.rule.manager(), Manager::User);
    let config = good(
        "[defaults]\nstart_grace = \"9s\"\n[scale.w]\nunits = \"a@{n}.service\"\n\
         metric = { redis = \"redis://:7391@127.0.0.1\", list = \"celery\" }\nper_replica = 1\n",
    );
    assert_eq!(config.scales[0].rule.start_grace.as_secs(), 9);
    assert!(!to_toml(&config).contains("7391"));
}

#[test]
fn an_instance_is_known_by_its_number() {
    let rule = scale("units = \"celery@{n}.service\"").rule;
    assert_eq!(rule.unit(12).unwrap(), "celery@12.service");
    assert_eq!(rule.pattern().unwrap(), "celery@*.service");
    for (unit, number) in [
        ("celery@1.service", Some(1)),
        ("celery@12.service", Some(12)),
        ("celery@0.service", None),
        ("celery@01.service", None),
        ("celery@+1.service", None),
        ("celery@mail.service", None),
        ("celery@.service", None),
        ("other@1.service", None),
        ("celery@1.timer", None),
    ] {
        assert_eq!(rule.number_of(unit), number, "{unit}");
    }
}

#[test]
fn what_is_wrong_with_a_scale_is_told_with_its_place() {
    for (lines, message) in [
        ("", "it does not say what is scaled"),
        ("compose = 3", "`compose`"),
        ("compose = { file = \"a\", project = \"p\" }", "`service`"),
        (
            "units = \"celery.service\"",
            "names no instances of a template",
        ),
        (
            "units = \"@{n}.service\"",
            "names no instances of a template",
        ),
        (
            "units = \"a@{n}{n}.service\"",
            "names no instances of a template",
        ),
        (
            "units = \"a@{n}\"\ncommand = [\"x\"]",
            "`command` without `compose`",
        ),
        ("COMPOSE\nunits = \"a@{n}\"", "`units` beside `compose`"),
        ("COMPOSE\nmanager = \"user\"", "`manager` without `units`"),
        ("COMPOSE\nmin = 0", "`min` is out of range"),
        ("COMPOSE\nmin = 6", "`max` (5) is less than `min` (6)"),
        (
            "COMPOSE\nmin = 3\nmax = 2",
            "`max` (2) is less than `min` (3)",
        ),
        ("COMPOSE\nmetric = \"disk\"", "`metric` cannot be `disk`"),
        (
            "COMPOSE\nper_replica = 3",
            "`per_replica` is for what a queue or a query counts",
        ),
        (
            "COMPOSE\nmetric = { command = [\"x\"] }",
            "it does not say how many replicas a load takes",
        ),
        (
            "COMPOSE\nmetric = { command = [\"x\"] }\nper_replica = 3\nscale_up_at = 3",
            "`scale_up_at` beside `per_replica`",
        ),
        (
            "COMPOSE\nscale_up_at = 0.1",
            "`scale_down_at` (0.2) is not below `scale_up_at` (0.1)",
        ),
        (
            "COMPOSE\nscale_up_at = 0",
            "`scale_up_at` must be more than 0",
        ),
        (
            "COMPOSE\nscale_down_at = -1",
            "`scale_down_at` is out of range",
        ),
        (
            "COMPOSE\nmetric = {}",
            "it does not say where the number comes from",
        ),
        (
            "COMPOSE\nmetric = { command = [\"x\"], redis = \"redis://h\", list = \"l\" }\nper_replica = 3",
            "the number comes from more than one place",
        ),
        (
            "COMPOSE\nmetric = { redis = \"redis://h\" }\nper_replica = 3",
            "it does not say which list",
        ),
        (
            "COMPOSE\nmetric = { command = [\"x\"], list = \"y\" }\nper_replica = 3",
            "`list` without `redis`",
        ),
        (
            "COMPOSE\nmetric = { redis = \"http://h\", list = \"y\" }\nper_replica = 3",
            "`redis` is no URL of Redis",
        ),
        (
            "COMPOSE\nmetric = { prometheus = \"y\" }\nper_replica = 3",
            "there is no table [prometheus]",
        ),
        ("COMPOSE\nstepp = 3", "unknown key `stepp`"),
        (
            "COMPOSE\nstart_timeout = \"0s\"",
            "`start_timeout` must be more than zero",
        ),
    ] {
        let lines = lines.replace("COMPOSE", COMPOSE);
        let told = told(&bad(&format!("[scale.w]\n{lines}\n")));
        assert!(told.contains(message), "{lines}\n{told}");
        assert_eq!(told.matches("error: ").count(), 1, "{lines}\n{told}");
    }
}

#[test]
fn a_name_stands_once_and_replicas_belong_to_one_scale() {
    let table = |name: &str| format!("[scale.{name}]\n{COMPOSE}\n");
    let told_of = |text: String| told(&bad(&text));
    let service = "[service.a]\nspawn = { command = [\"x\"] }\n".to_owned();
    assert!(told_of(service + &table("a")).contains("there is a service `a` as well"));
    let twice = told_of(table("a") + &table("b"));
    assert!(
        twice.contains("the scale `a` is of the same replicas"),
        "{twice}"
    );
    assert!(told_of(table("\"a b\"")).contains("`a b` cannot be the name of a scale"));
    let both = told_of(format!(
        "[scale.a]\n{}\ncommand = [\"y\"]\n",
        COMPOSE.replace(" }", ", command = [\"x\"] }")
    ));
    assert!(
        both.contains("`command` stands in the table `compose` as well"),
        "{both}"
    );
    let inner = scale(&COMPOSE.replace(" }", ", command = [\"x\"] }"));
    assert_eq!(inner.rule.command.as_deref(), Some(&["x".to_owned()][..]));
}
